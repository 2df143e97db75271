"""What can be chosen, what is refused, and whether the README tells the truth about it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from modelward import __version__
from tests.unit.chart.rendering import CHART, TEMPLATE, Helm, Render, of_kind


def test_lint_is_clean(helm: Helm) -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_are_the_packages() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__
    assert {image.rsplit(":", 1)[1] for image in values["images"].values()} == {__version__}


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("images.sidecar=modelward-sidecar", "images/sidecar"),
        ("images.sidecar=modelward-sidecar:latest", "images/sidecar"),
        ("images.sidecar=modelward-sidecar@sha256:12", "images/sidecar"),
        ("image.sidecar=a:1", "image"),
        ("controller.replicas=0", "controller/replicas"),
        ("controller.replicas=two", "controller/replicas"),
        ("baseline.enforcement=enforce", "baseline/enforcement"),
        ("baseline.creat=false", "creat"),
        ("access.keys.allow[0]=http://login.example/", "access/keys/allow"),
        ("access.keys.allow[0]=https://login.example", "access/keys/allow"),
        ("access.keys.authorities=secret", "access/keys/authorities"),
        ("access.keys.egress[0].port=443", "access/keys/egress"),
        ("datasets.allow[0]=http://data.example/", "datasets/allow"),
        ("access.rateLimits.address=redis://user:secret@valkey:6379", "access/rateLimits/address"),
        ("lineage.allow[0]=marquez.example", "lineage/allow"),
        ("lineage.url=kafka://x:1", "lineage/url"),
        ("lineage.file.enabled=true,lineage.url=https://marquez.example", "lineage"),
        ("lineage.kafka.bootstrapServers=kafka:9092", "lineage/kafka/topic"),
        ("lineage.kafka.bootstrapServers=http://kafka", "lineage/kafka/bootstrapServers"),
        ("certificates.certManager.enabled=yes please", "certManager/enabled"),
        ("certificates.certManager.issuer.kind=clusterissuer", "issuer/kind"),
        ("certificates.certManager.issuer=internal", "certManager/issuer"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Helm, setting: str, named: str) -> None:
    done = helm(*TEMPLATE, "--namespace", "modelward-system", "--set", setting)
    assert done.returncode != 0
    assert named in done.stderr.replace(".", "/")  # Helm 3 writes images.sidecar


def test_another_namespace_is_refused_with_the_fix(helm: Helm) -> None:
    done = helm(*TEMPLATE, "--namespace", "default")
    assert done.returncode != 0
    assert "--namespace modelward-system --create-namespace" in done.stderr


def test_images_go_where_they_belong(render: Render) -> None:
    digest = "@sha256:" + 64 * "a"
    names = ("controller", "admission", "sidecar", "jobs")
    objects = render(*(f"images.{name}=registry.example:5000/{name}{digest}" for name in names))
    deployments = of_kind(objects, "Deployment")
    for name in ("controller", "admission"):
        (container,) = deployments[f"modelward-{name}"]["spec"]["template"]["spec"]["containers"]
        assert container["image"] == f"registry.example:5000/{name}{digest}"
    (controller,) = deployments["modelward-controller"]["spec"]["template"]["spec"]["containers"]
    env = {item["name"]: item.get("value") for item in controller["env"]}
    assert env["MODELWARD_SIDECAR_IMAGE"] == f"registry.example:5000/sidecar{digest}"
    assert env["MODELWARD_JOBS_IMAGE"] == f"registry.example:5000/jobs{digest}"


def test_pull_secrets_reach_both_processes(render: Render) -> None:
    for deployment in of_kind(render("imagePullSecrets={one,two}"), "Deployment").values():
        assert deployment["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


def _leaves(values: Any, path: tuple[str, ...] = ()) -> set[str]:
    if not isinstance(values, dict) or path[-1:] == ("resources",):
        return {".".join(path)}
    return {leaf for key, value in values.items() for leaf in _leaves(value, (*path, key))}


def test_the_readme_lists_every_value_with_its_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = re.findall(r"^\| `(\S+)` \| (.+?) \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == _leaves(values)
    for name, shown in rows:
        value = values
        for key in name.split("."):
            value = value[key]
        if not isinstance(value, dict):
            assert yaml.safe_load(shown.strip("`")) == value, f"README tells another default of {name}"
