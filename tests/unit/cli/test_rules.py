from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from modelward.cli.rules import command
from modelward.rules.catalogue import catalogue

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "rules.md"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})


def ids(*arguments: str) -> list[str]:
    result = run(*arguments, "-o", "json")
    assert result.exit_code == 0, result.output
    return [rule["id"] for rule in json.loads(result.stdout)]


def test_the_table_has_every_rule() -> None:
    result = run()
    assert result.exit_code == 0
    assert all(rule.id in result.stdout for rule in catalogue())


def test_a_place_of_a_framework_is_exact_and_a_framework_is_all_its_places() -> None:
    assert "ENC-001" in ids("--framework", "GDPR-32")
    assert run("--framework", "GDPR-2").exit_code == 2, "article 2 is not article 22"
    assert set(ids("--framework", "GDPR-25")) < set(ids("--framework", "gdpr"))
    assert ids("--framework", "ATLAS-M0012") == ids("--framework", "atlas-m0012-")


def test_filters_add_up() -> None:
    chosen = ids("--family", "RUN", "--enforced-at", "readiness", "--severity", "high")
    assert chosen == ["RUN-007", "RUN-008"]


def test_json_has_the_rule_whole() -> None:
    (rule,) = json.loads(run("enc-001", "-o", "json").stdout)
    assert rule["family"] == "ENC"
    assert rule["frameworks"]["GDPR-32"] == "Security of processing"
    assert rule["enforcedAt"] == "admission"
    assert rule["fixtures"]["fails"]["spec"] == {"encryption": {"inTransit": None}}


def test_a_rule_is_shown_with_its_reason_its_expression_and_its_fixtures() -> None:
    result = run("TST-004")
    (rule,) = [rule for rule in catalogue() if rule.id == "TST-004"]
    for part in (rule.title, rule.reason, rule.expression, rule.fix, "ageDays: 8", "GDPR-35: Data protection impact"):
        assert part in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ENC-999"], "there is no rule ENC-999. There are ENC-001"),
        (["XYZ"], "there is no rule XYZ. See modelward rules"),
        (["--framework", "HIPAA"], "no rule serves HIPAA. Frameworks: ATLAS, EUAIA, GDPR, NISTAIRMF, OWASP"),
        (["--family", "HEC", "--severity", "low", "--enforced-at", "readiness"], "no rule is all of that"),
    ],
)
def test_what_there_is_not_is_told(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not result.stdout


def test_the_reference_page_is_current() -> None:
    assert run("-o", "markdown").stdout == PAGE.read_text(encoding="utf-8"), "run `make generate`"
