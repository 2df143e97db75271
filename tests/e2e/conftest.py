"""modelward on the kind cluster: cluster and images made, the chart installed as it is here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from demo.install import cluster_up, images_in_cluster, installed
from demo.kubectl import Cluster
from demo.serving import BUILD, EXAMPLE, prepare
from tests.corpus import Manifest
from tests.unit.sidecar.pki import Authority

MODEL_IMAGE = "modelward-example-wdbc"
SIDECAR_IMAGE = "modelward-sidecar"
OUTSIDE = "tests-outside"
OUTSIDE_URL = f"https://outside.{OUTSIDE}.svc:8443"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the demo go first: it installs the chart with its own values, and all others need those of `modelward`."""
    items.sort(key=lambda item: item.path.name != "test_demo.py")


@dataclass(frozen=True)
class Installed:
    """The cluster with modelward in it, the images by name, and who is trusted at the one address outside."""

    cluster: Cluster
    images: dict[str, str]
    outside: Authority

    def apply(self, *manifests: Manifest) -> None:
        # By the server: a baseline is larger than the annotation in which kubectl keeps what it applied by itself.
        how = ("--server-side", "--force-conflicts")
        self.cluster.kubectl("apply", *how, "-f", "-", stdin=yaml.safe_dump_all(manifests)).expect_ok()

    def example(self, name: str) -> Manifest:
        """A manifest of the example, as `prepare.py` made it for this cluster, or as it is."""
        folder = self.cluster.folder / BUILD
        path = folder / name if (folder / name).exists() else self.cluster.folder / EXAMPLE / name
        found: Manifest = yaml.safe_load(path.read_text())
        return found


@pytest.fixture(scope="session")
def modelward() -> Installed:
    cluster = cluster_up()
    images = images_in_cluster()
    outside = Authority("whoever is outside")
    egress = [{"namespace": OUTSIDE, "port": 8443}]
    keys = {"allow": [f"{OUTSIDE_URL}/jwks.json"], "authorities": outside.pem, "egress": egress}
    collectors = {"allow": [f"{OUTSIDE_URL}/"], "authorities": outside.pem, "egress": egress}
    receivers = {"allow": [f"{OUTSIDE_URL}/"], "authorities": outside.pem}
    values = {"access": {"keys": keys}, "telemetry": collectors, "lineage": receivers}
    installed(cluster, images, values=yaml.safe_dump(values))
    prepare(cluster, images[MODEL_IMAGE])
    return Installed(cluster, images, outside)


@pytest.fixture
def namespace(modelward: Installed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, gone afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    modelward.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    modelward.cluster.kubectl("delete", "namespace", name, "--timeout=120s", timeout=130).expect_ok()
