"""The compiled backstop: what it is made of, and that the chart has it as it is now."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from modelward.api.validate import canonical, parse
from modelward.cli.backstop import command as backstop
from modelward.cli.crds import command as crds
from modelward.rules.admission_policy import catalogue_policies, custom_policies
from modelward.rules.catalogue import catalogue
from tests.corpus import POLICIES, policy

ROOT = Path(__file__).parents[3]
GENERATED = ROOT / "charts" / "modelward" / "templates" / "generated" / "backstop.yaml"


def compiled(name: str) -> dict[str, dict[str, object]]:
    return {item["metadata"]["name"]: item["spec"] for item in catalogue_policies() if item["kind"] == name}


def test_there_is_a_policy_and_a_binding_for_each_kind_and_way_of_enforcing() -> None:
    names = {f"modelward-{part}-{way}" for part in ("cluster", "namespace") for way in ("enforce", "warn", "audit")}
    assert set(compiled("ValidatingAdmissionPolicy")) == names
    assert set(compiled("ValidatingAdmissionPolicyBinding")) == names


@pytest.mark.parametrize("rule", catalogue(), ids=lambda rule: rule.id)
def test_the_rules_of_admission_are_in_it_and_no_others(rule) -> None:
    for spec in compiled("ValidatingAdmissionPolicy").values():
        there = [item for item in spec["variables"] if f'"{rule.id} ' in item["expression"]]
        assert len(there) == (rule.enforced_at == "admission")


def test_what_costs_at_every_request_is_little() -> None:
    """Each match condition, each validation and each message is evaluated whether the object passes or not."""
    for spec in compiled("ValidatingAdmissionPolicy").values():
        assert len(spec["matchConditions"]) == 1
        assert len(spec["validations"]) == 1
        assert len(spec["validations"][0]["messageExpression"]) < 200


def test_rules_of_ones_own_have_each_their_validation() -> None:
    custom, binding = custom_policies(canonical(parse(policy(POLICIES["custom"]))))
    first, second = custom["spec"]["validations"]
    assert first["message"] == "CUSTOM-001 spec: Begin the name with wd."
    assert second["expression"].startswith("(object.spec.replicas > 0\n) || ")
    assert binding["spec"]["paramRef"]["namespace"] == "clinic"
    assert custom_policies(canonical(parse(policy(POLICIES["baseline"])))) == []


def test_the_chart_has_it_as_it_is(tmp_path: Path) -> None:
    assert GENERATED.read_text().split("\n", 1)[1] == CliRunner().invoke(backstop, []).stdout, "run `make generate`"
    assert CliRunner().invoke(crds, ["--out", str(tmp_path)]).exit_code == 0
    for path in tmp_path.iterdir():
        for folder in (ROOT / "crds", ROOT / "charts" / "modelward" / "crds"):
            assert (folder / path.name).read_text() == path.read_text(), "run `make generate`"
