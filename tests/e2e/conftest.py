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

MODEL_IMAGE = "modelward-example-wdbc"


@dataclass(frozen=True)
class Installed:
    """The cluster with modelward in it, and the images by name."""

    cluster: Cluster
    images: dict[str, str]

    def apply(self, *manifests: Manifest) -> None:
        self.cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests)).expect_ok()

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
    installed(cluster, images)
    prepare(cluster, images[MODEL_IMAGE])
    return Installed(cluster, images)


@pytest.fixture
def namespace(modelward: Installed, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own, gone afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:50].rstrip("-")
    modelward.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    modelward.cluster.kubectl("delete", "namespace", name, "--timeout=120s", timeout=130).expect_ok()
