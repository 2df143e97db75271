from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from modelward.cli.plan import command

EXAMPLE = Path(__file__).parents[3] / "examples" / "breast-cancer"
GIVEN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: clinic-jwks, namespace: clinic}
data: {jwks.json: '%s'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: wdbc-baseline, namespace: clinic}
binaryData: {baseline.npz: aGk=}
"""


@pytest.fixture
def given(tmp_path: Path) -> Path:
    path = tmp_path / "given.yaml"
    path.write_text(GIVEN % '{"keys": []}')
    return path


def run(*arguments: Path | str) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_objects_of_the_example(given: Path) -> None:
    result = run(EXAMPLE / "model.yaml", EXAMPLE / "policy.yaml", given)
    assert result.exit_code == 0, result.stderr
    objects = {item["kind"]: item for item in yaml.safe_load_all(result.stdout)}
    assert list(objects) == [
        "NetworkPolicy",
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]
    assert set(objects["Secret"]["stringData"].values()) == {"<issued in the cluster, never known outside>"}
    assert objects["ConfigMap"]["data"]["config.sig"] == "<signed by the controller>"
    assert json.loads(objects["ConfigMap"]["data"]["config.json"])["undeclaredFields"] == "Reject"


def test_json_to_a_file(given: Path, tmp_path: Path) -> None:
    assert run(EXAMPLE / "model.yaml", given, "--out", tmp_path / "absent" / "plan.json").exit_code == 2
    out = tmp_path / "plan.json"
    result = run(EXAMPLE / "model.yaml", given, "-o", "json", "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert {item["metadata"]["namespace"] for item in json.loads(out.read_text())} == {"clinic"}


@pytest.mark.parametrize(
    ("files", "code", "says"),
    [
        (["bad.yaml"], 1, "clinic/wdbc-in-a-hurry would be refused: `modelward check` says why"),
        (["model.yaml"], 2, "names ConfigMap clinic-jwks, which is not there"),
        (["absent.yaml"], 2, "no such file"),
        (["policy.yaml"], 2, "no ModelDeployment in these files"),
    ],
)
def test_what_cannot_be_planned(files: list[str], code: int, says: str) -> None:
    result = run(*(EXAMPLE / name for name in files))
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


def test_what_is_not_honoured_and_what_is_broken(given: Path, tmp_path: Path) -> None:
    more = tmp_path / "model.yaml"
    more.write_text((EXAMPLE / "model.yaml").read_text() + "  fairness: {protected: [{field: nowhere}]}\n")
    result = run(more, given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "spec.fairness" in result.stderr
    more.write_text((EXAMPLE / "model.yaml").read_text() + "  fairnes: {}\n")
    result = run(more, given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "did you mean fairness?" in result.stderr
    given.write_text(GIVEN % "not JSON")
    result = run(EXAMPLE / "model.yaml", given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "jwks.json in ConfigMap clinic-jwks is not JSON" in result.stderr


WORKLOAD = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: theirs, namespace: clinic}
spec:
  serviceName: theirs
  selector: {matchLabels: {app: theirs}}
  template:
    metadata: {labels: {app: theirs}}
    spec: {containers: [{name: server, image: server, ports: [{containerPort: 8080}]}]}
"""


def test_a_workload_that_runs_already_is_marked_and_keeps_what_it_has(given: Path, tmp_path: Path) -> None:
    manifest = yaml.safe_load((EXAMPLE / "model.yaml").read_text())
    del manifest["spec"]["model"]
    manifest["spec"]["targetRef"] = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "theirs"}
    model, workload = tmp_path / "model.yaml", tmp_path / "workload.yaml"
    model.write_text(yaml.safe_dump(manifest))
    alone = run(model, given)
    assert alone.exit_code == 2
    assert "StatefulSet theirs, which spec.targetRef names, is not there" in alone.stderr

    workload.write_text(WORKLOAD)
    result = run(model, given, workload)
    assert result.exit_code == 0, result.stderr
    objects = {item["kind"]: item for item in yaml.safe_load_all(result.stdout)}
    assert set(objects) == {"NetworkPolicy", "Secret", "ConfigMap", "Service", "StatefulSet"}
    template = objects["StatefulSet"]["spec"]["template"]
    assert template["metadata"]["labels"]["modelward.io/model"] == "wdbc"
    assert template["spec"] == yaml.safe_load(WORKLOAD)["spec"]["template"]["spec"]

    workload.write_text(WORKLOAD.replace("8080", "8443"))
    refused = run(model, given, workload)
    assert refused.exit_code == 1
    assert "Traceback" not in refused.stderr


def test_a_baseline_that_is_yet_to_be_fitted_comes_with_its_job(given: Path, tmp_path: Path) -> None:
    model = yaml.safe_load((EXAMPLE / "model.yaml").read_text())
    model["spec"]["monitoring"]["baseline"] = {"dataset": "pvc://reference/train.csv"}
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(model))
    result = run(path, given)
    assert result.exit_code == 0, result.stderr
    kinds = [(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all(result.stdout)]
    assert kinds[:2] == [("NetworkPolicy", "wdbc.fit"), ("Secret", "wdbc.fit")]
    assert kinds[2][0] == "Job"
    assert ("Deployment", "wdbc") in kinds
