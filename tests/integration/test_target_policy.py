"""The marks of protected workloads stay on, whoever asks: policies evaluated by a real API server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modelward.planner.target_marks import marked
from tests.integration.apiserver import ApiServer
from tests.integration.backstop import ALICE, CONTROLLER, create, in_force, patch, refused
from tests.integration.frameworks import CRDS

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> Iterator[ApiServer]:
    with in_force(apiserver):
        yield apiserver


@pytest.fixture(scope="module")
def frameworks(apiserver: ApiServer) -> Iterator[None]:
    result = apiserver.apply(*CRDS)
    assert result.ok, result.stderr
    deadline = time.monotonic() + 30
    while not apiserver.kubectl("get", "inferenceservices,seldondeployments", "-n", "clinic").ok:
        assert time.monotonic() < deadline, "the kinds are not served"
        time.sleep(0.2)
    yield
    apiserver.delete(*CRDS)


def workload(kind: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "marked", "namespace": "clinic"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


APP = {"app": "x"}
BARE = {"metadata": {"labels": APP}, "spec": {"containers": [{"name": "m", "image": "m:1"}], "restartPolicy": "Always"}}
ONCE = {**BARE, "spec": {**BARE["spec"], "restartPolicy": "Never"}}


@pytest.mark.parametrize(
    ("manifest", "off"),
    [
        (
            workload("Deployment", "apps/v1", {"selector": {"matchLabels": APP}, "template": BARE}),
            {"spec": {"template": {"metadata": {"labels": {"modelward.io/inject": None}}}}},
        ),
        (
            workload("DaemonSet", "apps/v1", {"selector": {"matchLabels": APP}, "template": BARE}),
            {"spec": {"template": {"metadata": {"labels": {"modelward.io/model": "other"}}}}},
        ),
        (
            workload("CronJob", "batch/v1", {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": ONCE}}}),
            {"spec": {"jobTemplate": {"spec": {"template": {"metadata": {"labels": None}}}}}},
        ),
        (
            workload("InferenceService", "serving.kserve.io/v1beta1", {"predictor": {"model": {}}}),
            {"spec": {"predictor": {"labels": None}}},
        ),
        (
            workload("SeldonDeployment", "machinelearning.seldon.io/v1", {"predictors": [{"name": "a"}]}),
            {"spec": {"predictors": [{"name": "a"}]}},
        ),
    ],
    ids=lambda value: value.get("kind", ""),
)
def test_the_marks_of_a_protected_workload_stay(
    cluster: ApiServer, frameworks: None, manifest: dict[str, Any], off: dict[str, Any]
):
    marks = {"modelward.io/inject": "enabled", "modelward.io/model": "guard", "modelward.io/model-port": "8080"}
    what = f"{manifest['kind'].lower()}/marked"
    whole = marked(manifest, marks)
    assert create(cluster, whole).ok
    refused(patch(cluster, what, off), "need the verb unprotect")
    refused(patch(cluster, what, {"metadata": {"labels": {"modelward.io/model": None}}}), "need the verb unprotect")
    refused(
        cluster.kubectl("-n", "clinic", "replace", "-f", "-", input=yaml.safe_dump(manifest), token=ALICE),
        "need the verb unprotect",
    )
    assert patch(cluster, what, {"metadata": {"labels": {"team": "x"}}}).ok
    result = patch(cluster, what, off, token=CONTROLLER)
    assert result.ok, result.stderr
    assert cluster.kubectl("-n", "clinic", "delete", what, "--wait=false", token=ALICE).ok


def test_what_belongs_to_a_framework_follows_it(cluster: ApiServer):
    owner = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "name": "i", "uid": "1"}
    manifest = workload("Deployment", "apps/v1", {"selector": {"matchLabels": APP}, "template": BARE})
    whole = marked(manifest, {"modelward.io/inject": "enabled", "modelward.io/model": "guard"})
    whole["metadata"]["ownerReferences"] = [{**owner, "controller": True}]
    assert create(cluster, whole).ok
    off = {"spec": {"template": {"metadata": {"labels": {"modelward.io/model": None}}}}}
    result = patch(cluster, "deployment/marked", off)
    assert result.ok, result.stderr
    assert cluster.kubectl("-n", "clinic", "delete", "deployment/marked", "--wait=false", token=ALICE).ok
