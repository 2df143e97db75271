"""`modelward check` on what cannot be honoured: named where it stands, before anything is applied."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml
from click.testing import CliRunner

from modelward.cli.main import cli
from tests.corpus import good


def test_what_cannot_be_honoured_is_a_warning_where_it_is_declared(tmp_path: Path) -> None:
    model = good()
    model["spec"]["fairness"] = {"protected": [{"field": "nobody", "groups": ["a", "b"]}]}
    model["spec"]["explanations"] = {"method": "LinearSHAP"}
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(model))
    result = CliRunner().invoke(cli, ["check", str(file), "-o", "json"])
    found = {one["field"]: one for one in json.loads(result.stdout)["findings"] if one["rule"] == "UNSUPPORTED"}
    assert {"spec.fairness.protected[0].field", "spec.explanations.method"} <= found.keys(), result.output
    method = found["spec.explanations.method"]
    assert (method["level"], result.exit_code) == ("warning", 0)
    assert "weightsConfigMapName (the linear model's exported weights)" in method["message"]
    assert file.read_text().splitlines()[method["line"] - 1].strip().startswith("method:")
    strict = CliRunner().invoke(cli, ["check", str(file), "--strict"])
    assert strict.exit_code == 1


def test_whatever_plan_would_refuse_is_told_by_check_as_well(tmp_path: Path) -> None:
    model = good()
    model["spec"]["model"]["protocol"] = "v1"
    model["spec"]["encryption"]["inUse"] = {"scheme": "CKKS"}
    model["spec"]["monitoring"] = {"baseline": {"dataset": "pvc://reference/train.txt"}}
    model["spec"]["securityTest"] = {"schedule": "0 3 * *"}
    file = tmp_path / "model.yaml"
    file.write_text(yaml.safe_dump(model))
    result = CliRunner().invoke(cli, ["check", str(file), "-o", "json"])
    found = {one["field"] for one in json.loads(result.stdout)["findings"] if one["rule"] == "UNSUPPORTED"}
    named = {"spec.encryption.inUse", "spec.monitoring.baseline.dataset", "spec.securityTest.schedule"}
    assert named <= found, result.output
    planned = CliRunner().invoke(cli, ["plan", str(file)]).output
    assert all(field in planned for field in found), planned


def test_check_does_not_wait_for_numpy() -> None:
    program = "import sys, modelward.cli.check; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
