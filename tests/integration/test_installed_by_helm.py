"""The chart installed, upgraded and taken away by the real Helm: nobody slips in before the controller has started."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installation
from modelward.planner.injection import inject
from modelward.planner.pod_policy import IDENTITY
from tests.integration.admission import CHART, IMAGE, SYSTEM, eventually, namespace
from tests.integration.apiserver import ApiServer, Result
from tests.integration.backstop import bare_pod

pytestmark = pytest.mark.timeout(300)

NOT_STARTED = "modelward's controller has not started yet"
Helm = Callable[..., None]


@pytest.fixture(scope="module")
def helm(apiserver: ApiServer, bin_dir: Path) -> Iterator[Helm]:
    assert apiserver.apply(namespace("clinic"), namespace("ward", **{"modelward.io/protected": "true"})).ok

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [bin_dir / "helm", *arguments, f"--namespace={SYSTEM}"],
            env={**os.environ, "KUBECONFIG": str(apiserver.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
async def installation(apiserver: ApiServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", str(apiserver.kubeconfig_for("controller-token")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Cluster.connected() as cluster:
        yield Installation(cluster, SYSTEM, IMAGE)


def install(helm: Helm) -> None:
    helm("install", "modelward", str(CHART), "--create-namespace", "--skip-crds")


def create(apiserver: ApiServer, pod: dict[str, Any]) -> Result:
    return apiserver.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(pod))


def refused(apiserver: ApiServer, pod: dict[str, Any], why: str) -> None:
    """The API server takes up new policies once a second."""
    eventually(lambda: why in create(apiserver, pod).stderr)


def decoy(space: str = "clinic") -> dict[str, Any]:
    """All of a genuine sidecar but its image and its key."""
    return inject(bare_pod("decoy", space), image="evil:1", config_key="ZXZpbA==")


def left(apiserver: ApiServer) -> str:
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings,mutatingwebhookconfigurations"
    return apiserver.kubectl("get", kinds, "-l", "app.kubernetes.io/part-of=modelward", "-o", "name").stdout


async def test_from_the_first_moment_to_the_last(apiserver: ApiServer, helm: Helm, installation: Installation):
    install(helm)
    for pod in (decoy(), decoy("ward")):
        refused(apiserver, pod, NOT_STARTED)
    unrelated = create(apiserver, bare_pod("unrelated", labels={}))
    assert unrelated.ok, unrelated.stderr

    settings = (await installation.reconcile()).settings
    genuine = inject(bare_pod("genuine"), image=settings.sidecar_image, config_key=settings.config_key)
    eventually(lambda: create(apiserver, genuine).ok)
    refused(apiserver, decoy(), "its image differs")

    policy = apiserver.get("validatingadmissionpolicy", IDENTITY)
    (owner,) = policy["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("MutatingWebhookConfiguration", "modelward")
    helm("upgrade", "modelward", str(CHART), "--skip-crds", "--set", "admission.replicas=3")
    assert apiserver.get("validatingadmissionpolicy", IDENTITY) == policy
    assert create(apiserver, genuine).ok

    helm("uninstall", "modelward", "--wait")
    assert left(apiserver) == ""
    eventually(lambda: create(apiserver, decoy()).ok)  # whoever wants modelward no more is kept out by nothing

    install(helm)
    refused(apiserver, decoy(), NOT_STARTED)
    await installation.reconcile()
    eventually(lambda: create(apiserver, genuine).ok)
    helm("uninstall", "modelward", "--wait")
    assert left(apiserver) == ""


def test_a_controller_that_never_came_up_leaves_nothing_that_blocks(apiserver: ApiServer, helm: Helm):
    install(helm)
    refused(apiserver, decoy(), NOT_STARTED)
    helm("uninstall", "modelward", "--wait")
    assert left(apiserver) == ""
    eventually(lambda: create(apiserver, decoy()).ok)
