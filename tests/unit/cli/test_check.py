from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner, Result

from modelward.cli.main import cli
from tests.corpus import BASELINE, good, policy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(good()))
    bad = good()
    bad["metadata"]["name"] = "bad"
    del bad["spec"]["encryption"]
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad, sort_keys=False))
    return tmp_path


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["check", *(str(argument) for argument in arguments)])


def test_a_good_manifest_passes_with_notes_of_what_it_refers_to(folder: Path) -> None:
    result = check(folder / "good.yaml")
    assert result.exit_code == 0, result.output
    assert "1 model judged, 1 passes" in result.output
    assert "ConfigMap clinic-jwks is not among these files" in result.output


def test_a_bad_one_fails_with_rule_line_and_fix(folder: Path) -> None:
    result = check(folder / "bad.yaml", "-o", "json")
    assert result.exit_code == 1
    (finding,) = [item for item in json.loads(result.output)["findings"] if item["level"] == "violation"]
    assert finding["rule"] == "ENC-001"
    assert finding["policy"] == "ClusterDataPolicy/baseline"
    assert finding["fix"]
    assert finding["line"] == (folder / "bad.yaml").read_text().splitlines().index("spec:") + 1


def test_a_folder_is_judged_whole(folder: Path) -> None:
    result = check(folder)
    assert result.exit_code == 1
    assert "2 models judged, 1 passes" in result.output


def test_warnings_pass_unless_strict(folder: Path) -> None:
    lax = {**policy({"enforcement": "Warn", "require": BASELINE}), "kind": "ClusterDataPolicy"}
    lax["metadata"] = {"name": "baseline"}
    (folder / "policy.yaml").write_text(yaml.safe_dump(lax))
    assert check(folder / "bad.yaml", "--policy", folder / "policy.yaml").exit_code == 0
    assert check(folder / "bad.yaml", "--policy", folder / "policy.yaml", "--strict").exit_code == 1


def test_a_policy_of_the_namespace_adds_to_the_baseline(folder: Path) -> None:
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy({}, namespace="default")))
    assert check(folder / "bad.yaml", folder / "policy.yaml").exit_code == 1


def test_invalid_cel_in_a_policy_is_an_error(folder: Path) -> None:
    rules = [{"id": "CUSTOM-001", "expression": "object.", "message": "'m'"}]
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy({"rules": rules})))
    result = check(folder / "policy.yaml", "-o", "json")
    assert result.exit_code == 1
    (finding,) = json.loads(result.output)["findings"]
    assert finding["level"] == "error"
    assert "not valid CEL" in finding["message"]


@pytest.mark.parametrize("name", ["none.yaml", "broken.yaml"])
def test_what_cannot_be_read_is_exit_2_without_a_traceback(folder: Path, name: str) -> None:
    (folder / "broken.yaml").write_text("a: [")
    result = check(folder / name)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    assert f"{name}" in result.stderr


def test_sarif_and_junit_are_well_formed(folder: Path) -> None:
    sarif = json.loads(check(folder, "-o", "sarif").output)
    results = sarif["runs"][0]["results"]
    assert {item["ruleId"] for item in results if item["level"] == "error"} == {"ENC-001"}
    (suite,) = ET.fromstring(check(folder, "-o", "junit").output)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_output_goes_to_a_file(folder: Path) -> None:
    result = check(folder, "-o", "json", "--out", folder / "out.json")
    assert result.stdout == ""
    assert json.loads((folder / "out.json").read_text())["passed"] == ["default/wdbc"]


def test_rules_by_framework_and_an_unknown_one() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["rules", "--framework", "GDPR-25", "-o", "json"]).output)
    assert listed
    assert all("GDPR-25" in rule["frameworks"] for rule in listed)
    unknown = CliRunner().invoke(cli, ["rules", "--framework", "HIPAA"])
    assert unknown.exit_code == 2
    assert "GDPR" in unknown.stderr


def test_what_is_asked_at_readiness_is_a_warning_as_far_as_the_manifest_shows_it(tmp_path: Path) -> None:
    manifest = good()
    manifest["metadata"]["annotations"]["lineage.modelward.io/transformations"] = '[{"what": "all", "how": "z-score"}]'
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump(manifest))
    result = check(path, "-o", "json")
    assert result.exit_code == 0, result.output
    warnings = [finding for finding in json.loads(result.stdout)["findings"] if finding["level"] == "warning"]
    (warning,) = [finding for finding in warnings if finding["rule"] != "UNSUPPORTED"]
    assert warning["rule"] == "LIN-008"
    assert "what, how and why" in warning["message"]
    assert check(path, "--strict").exit_code == 1
