import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from modelward.cli.inject import command
from modelward.planner.sidecar import sidecar_container

IMAGE = "modelward-sidecar@sha256:" + "a" * 64
KEY = base64.b64encode(bytes(32)).decode()
SIDECAR = sidecar_container("wdbc", IMAGE, KEY)
TEMPLATE = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "model", "image": "m"}]}}


def run(text: str, *options: str, folder: Path | None = None) -> Result:
    arguments = [f"--image={IMAGE}", f"--config-key={KEY}", *options]
    if folder is None:
        return CliRunner().invoke(command, ["-", *arguments], input=text)
    file = folder / "manifest.yaml"
    file.write_text(text)
    return CliRunner().invoke(command, [str(file), *arguments])


def workload(kind: str) -> dict[str, Any]:
    version = "batch/v1" if kind.endswith("Job") else "apps/v1"
    spec: dict[str, Any] = {"template": TEMPLATE}
    if kind == "CronJob":
        spec = {"schedule": "@daily", "jobTemplate": {"spec": spec}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"])
def test_workloads_get_the_sidecar_into_their_template(kind, tmp_path):
    result = run(yaml.safe_dump(workload(kind)), "--model=wdbc", folder=tmp_path)
    assert result.exit_code == 0, result.output
    item = yaml.safe_load(result.stdout)
    spec = item["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else item["spec"]
    assert spec["template"]["spec"]["initContainers"] == [SIDECAR]
    assert spec["template"]["metadata"]["labels"] == {
        "app": "x",
        "modelward.io/inject": "enabled",
        "modelward.io/model": "wdbc",
    }
    assert item["metadata"] == {"name": "x"}


def test_other_documents_pass_in_their_order():
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"yes": "on"}}
    pod = {"apiVersion": "v1", "kind": "Pod", **TEMPLATE}
    result = run(yaml.safe_dump_all([other, pod, other]), "--model=wdbc")
    items = list(yaml.safe_load_all(result.stdout))
    assert [item["kind"] for item in items] == ["ConfigMap", "Pod", "ConfigMap"]
    assert items[0] == items[2] == other
    assert items[1]["spec"]["initContainers"] == [SIDECAR]


def test_what_it_prints_it_takes_and_leaves_as_it_is():
    first = run(yaml.safe_dump(workload("Deployment")), "--model=wdbc").stdout
    assert run(first).stdout == first
    as_json = run(first, "-o", "json").stdout
    assert json.loads(as_json) == yaml.safe_load(first)


def test_json_of_several_documents_is_a_list_that_kubectl_takes():
    text = yaml.safe_dump_all([workload("Job"), workload("Deployment")])
    items = json.loads(run(text, "--model=wdbc", "-o", "json").stdout)
    assert (items["kind"], [item["kind"] for item in items["items"]]) == ("List", ["Job", "Deployment"])


def test_out_takes_the_output(tmp_path):
    result = run(yaml.safe_dump(workload("Job")), "--model=wdbc", f"--out={tmp_path}/out.yaml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert yaml.safe_load((tmp_path / "out.yaml").read_text())["kind"] == "Job"


def test_a_pod_that_cannot_be_protected_is_named_with_file_line_and_the_way_out(tmp_path):
    text = "kind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec: {hostNetwork: true, containers: []}\n"
    result = run(text, folder=tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert all(f"{tmp_path}/manifest.yaml:1: Pod p: " in line and "Fix: " in line for line in lines)


def test_a_name_that_contradicts_is_refused():
    item = workload("Deployment")
    item["spec"]["template"] = {**TEMPLATE, "metadata": {"annotations": {"modelward.io/model-deployment": "other"}}}
    result = run(yaml.safe_dump(item), "--model=wdbc")
    assert result.exit_code == 1
    assert "says wdbc" in result.stderr


def test_a_workload_without_template_is_refused():
    result = run("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n", "--model=m")
    assert result.exit_code == 1
    assert "spec.template is not there" in result.stderr


def test_a_file_without_pods_passes_with_a_note():
    result = run("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["kind"] == "Secret"
    assert "nothing here has pods" in result.stderr


@pytest.mark.parametrize("text", ["{", "- 1\n", "a: &a [*a]\n", "\x00"])
def test_what_cannot_be_read_is_exit_2(text):
    result = run(text)
    assert result.exit_code == 2, result.output
    assert "modelward: standard input" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_file_that_is_not_there_is_exit_2(tmp_path):
    result = CliRunner().invoke(command, [str(tmp_path / "no.yaml"), f"--image={IMAGE}", f"--config-key={KEY}"])
    assert result.exit_code == 2
    assert "no such file" in result.stderr


@pytest.mark.parametrize("key", ["", "!", "YWJj", "ä"])
def test_a_config_key_of_another_shape_is_a_usage_error(key):
    result = CliRunner().invoke(command, ["-", f"--image={IMAGE}", f"--config-key={key}"])
    assert result.exit_code == 2
    assert "Ed25519" in result.stderr


@pytest.mark.parametrize("odd", ["metadata: 7", "metadata: {labels: [1]}", "spec: 7", "metadata: {annotations: x}"])
def test_odd_pods_are_refused_without_a_traceback(odd):
    result = run(f"apiVersion: v1\nkind: Pod\n{odd}\n", "--model=wdbc")
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def protecting(kind: str = "Deployment", name: str = "x", **ref: Any) -> dict[str, Any]:
    version = "batch/v1" if kind.endswith("Job") else "apps/v1"
    target = {"apiVersion": version, "kind": kind, "name": name, **ref}
    metadata = {"name": "guard"}
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": metadata,
        "spec": {"targetRef": target},
    }


def test_a_workload_that_a_model_deployment_among_the_files_names_is_protected_by_it() -> None:
    item = workload("Deployment")
    container = {"name": "model", "image": "m", "ports": [{"name": "http", "containerPort": 8080}]}
    item["spec"]["template"] = {**TEMPLATE, "spec": {"containers": [container]}}
    result = run(yaml.safe_dump_all([protecting(), item, workload("StatefulSet")]), "--model=other")
    assert result.exit_code == 0, result.output
    model, deployment, other = yaml.safe_load_all(result.stdout)
    assert model == protecting()
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"]["modelward.io/model"] == "guard"
    assert template["spec"]["containers"][0]["ports"] == [{"name": "http", "containerPort": 8443}]
    assert other["spec"]["template"]["metadata"]["labels"]["modelward.io/model"] == "other"


def test_the_workload_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    item = workload("Deployment")
    container = {"name": "model", "image": "m", "ports": [{"containerPort": 8080}]}
    item["spec"]["template"] = {**TEMPLATE, "spec": {"containers": [container]}}
    (tmp_path / "guard.yaml").write_text(yaml.safe_dump(protecting()))
    result = run(yaml.safe_dump(item), str(tmp_path / "guard.yaml"), folder=tmp_path)
    assert result.exit_code == 0, result.output
    (deployment,) = (one for one in yaml.safe_load_all(result.stdout) if one["kind"] == "Deployment")
    assert deployment["spec"]["template"]["metadata"]["labels"]["modelward.io/model"] == "guard"


def test_what_cannot_be_protected_is_told_with_its_line() -> None:
    result = run(yaml.safe_dump_all([protecting(), workload("Deployment")]))
    assert result.exit_code == 1
    assert "Deployment x: which port the model listens on is unclear" in result.stderr
    broken = {**workload("Deployment"), "spec": {"template": {"spec": {"containers": "none"}}}}
    result = run(yaml.safe_dump_all([protecting(), broken]))
    assert result.exit_code == 1
    assert "is not valid for its kind" in result.stderr
    unreadable = {**protecting(), "spec": {"targetRef": {"kind": "Pod"}}}
    assert run(yaml.safe_dump_all([unreadable, workload("Deployment")])).exit_code == 2
