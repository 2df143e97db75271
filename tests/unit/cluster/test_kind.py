from __future__ import annotations

import pytest
import yaml

from tests.cluster import kind
from tests.cluster.commands import ClusterError


def test_the_stock_configuration_is_a_plain_one() -> None:
    stock = yaml.safe_load(kind.CONFIG.read_text())
    assert stock["name"] == kind.NAME
    assert set(stock) == {"kind", "apiVersion", "name", "nodes"}
    assert all("image" not in node for node in stock["nodes"])


def test_the_overlay_adds_and_changes_nothing() -> None:
    stock = kind.CONFIG.read_text()
    overlaid = yaml.safe_load(kind.overlay(stock))
    assert {key: value for key, value in overlaid.items() if key in yaml.safe_load(stock)} == yaml.safe_load(stock)
    assert overlaid["networking"] == {"disableDefaultCNI": True}
    assert yaml.safe_load(overlaid["kubeadmConfigPatches"][0]) == {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "failCgroupV1": False,
    }


def test_a_setting_that_the_overlay_would_hide_is_refused() -> None:
    with pytest.raises(ClusterError, match=r"kind-config\.yaml sets `networking`"):
        kind.overlay("kind: Cluster\nnetworking: {ipFamily: ipv6}\n")


@pytest.mark.parametrize(
    ("full", "image", "same"),
    [
        ("registry.example/library/sidecar:1", "sidecar:1", True),
        ("registry.example/library/sidecar:latest", "sidecar", True),
        ("registry.example/team/sidecar:1", "team/sidecar:1", True),
        ("registry.example:5000/sidecar:1", "registry.example:5000/sidecar:1", True),
        ("registry.example/library/other-sidecar:1", "sidecar:1", False),
        ("registry.example/library/sidecar:2", "sidecar:1", False),
        ("registry.example/library/sidecar@sha256:ab", "sidecar:1", False),
        ("registry.example/far/too/deep/sidecar:1", "sidecar:1", False),
    ],
)
def test_names_of_images_in_the_node(full: str, image: str, same: bool) -> None:
    assert kind.is_name_of(full, image) is same


@pytest.mark.parametrize(
    ("image", "repository"),
    [
        ("sidecar", "sidecar"),
        ("sidecar:1", "sidecar"),
        ("registry.example:5000/team/sidecar:1", "registry.example:5000/team/sidecar"),
        ("registry.example:5000/sidecar", "registry.example:5000/sidecar"),
        ("sidecar:1@sha256:ab", "sidecar"),
    ],
)
def test_repositories(image: str, repository: str) -> None:
    assert kind.repository(image) == repository
