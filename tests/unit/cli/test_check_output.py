"""The four outputs of `modelward check` against files that are read by eye: MODELWARD_GOLDEN=write writes them anew."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner, Result

from modelward import __version__
from modelward.api.manifest import ManifestError
from modelward.cli.files import read_all
from modelward.cli.findings import Screen, as_table
from modelward.cli.junit import as_junit
from modelward.cli.main import cli
from modelward.cli.sarif import as_sarif
from modelward.rules.catalogue import catalogue
from modelward.rules.check import Checked, Finding, unreadable
from modelward.rules.check import check as judged

DATA = Path("tests/data/check")
FILES = [str(DATA / name) for name in ("model.yaml", "policy.yaml", "unreadable.yaml")]


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])


def check(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["check", *arguments])


def assert_golden(name: str, text: str) -> None:
    text = text.replace(__version__, "VERSION")
    if os.environ.get("MODELWARD_GOLDEN") == "write":
        (DATA / name).write_text(text)
    assert text == (DATA / name).read_text()


def test_table_for_a_log_has_a_line_a_finding() -> None:
    result = check(*FILES)
    assert result.exit_code == 2
    assert_golden("table.txt", result.stdout)
    assert_golden("errors.txt", result.stderr)


def test_table_for_a_terminal_of_80_columns() -> None:
    text = _table(Screen(80))
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert_golden("table-80.txt", text)


def test_colour_changes_nothing_but_the_colour() -> None:
    coloured = _table(Screen(80, colour=True))
    assert "\x1b[" in coloured
    assert _without_colour(coloured) == _table(Screen(80))


def _table(screen: Screen) -> str:
    return as_table(judged(read_all([Path(name) for name in FILES]).documents), screen)


def _without_colour(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colour"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colour_only_where_it_is_understood_and_wanted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], colour: bool
) -> None:
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**environment, "COLUMNS": "300"}.items():
        monkeypatch.setenv(name, value)
    assert Screen.of(_Terminal()) == Screen(120, colour)  # type: ignore[arg-type]


def test_json() -> None:
    assert_golden("output.json", check(*FILES, "-o", "json").stdout)


def test_sarif() -> None:
    log = json.loads(check(*FILES, "-o", "sarif").stdout)
    ours = [rule for rule in log["runs"][0]["tool"]["driver"]["rules"] if rule["id"] not in {r.id for r in catalogue()}]
    first = len(catalogue())
    for result in log["runs"][0]["results"]:
        result["ruleIndex"] -= first  # the catalogue grows
    log["runs"][0]["tool"]["driver"]["rules"] = ours
    assert_golden("sarif.json", json.dumps(log, indent=2) + "\n")


def test_junit() -> None:
    text = check(*FILES, "-o", "junit").stdout
    assert_golden("junit.xml", text)
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "4", "failures": "3", "errors": "1", "skipped": "0"}


# What SARIF 2.1.0's own schema asks of the parts that are written here (required properties, enumerations, patterns;
# unknown properties are refused as there). URI references and levels are checked below.
class _Part(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    pass


_Level = Literal["none", "note", "warning", "error"]


class _Message(_Part):
    text: str


class _Help(_Part):
    text: str
    markdown: str = ""


class _Configuration(_Part):
    level: _Level


class _RuleProperties(_Part):
    tags: list[str]
    precision: Literal["very-high", "high", "medium", "low"]
    security_severity: str = msgspec.field(name="security-severity")
    problem_severity: str = msgspec.field(name="problem.severity")


class _RuleDescriptor(_Part):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    short_description: _Message
    full_description: _Message
    help: _Help
    default_configuration: _Configuration
    properties: _RuleProperties | None = None


class _Driver(_Part):
    name: str
    semantic_version: str
    rules: list[_RuleDescriptor]


class _Tool(_Part):
    driver: _Driver


class _Artifact(_Part):
    uri: Annotated[str, msgspec.Meta(pattern=r"^[!-~]+$")]


class _Region(_Part):
    start_line: Annotated[int, msgspec.Meta(ge=1)]


class _Physical(_Part):
    artifact_location: _Artifact
    region: _Region


class _Logical(_Part):
    fully_qualified_name: str
    kind: str


class _Location(_Part):
    physical_location: _Physical
    logical_locations: list[_Logical]


class _Suppression(_Part):
    kind: Literal["inSource", "external"]
    status: Literal["accepted", "underReview", "rejected"]
    justification: str


class _Result(_Part):
    rule_id: str
    rule_index: Annotated[int, msgspec.Meta(ge=0)]
    level: _Level
    message: _Message
    locations: Annotated[list[_Location], msgspec.Meta(min_length=1, max_length=1)]
    partial_fingerprints: dict[str, str]
    suppressions: list[_Suppression]


class _Invocation(_Part):
    execution_successful: bool


class _Details(_Part):
    id: str


class _Run(_Part):
    tool: _Tool
    automation_details: _Details
    invocations: list[_Invocation]
    column_kind: Literal["utf16CodeUnits", "unicodeCodePoints"]
    results: list[_Result]


class _Log(_Part):
    schema: str = msgspec.field(name="$schema")
    version: Literal["2.1.0"]
    runs: Annotated[list[_Run], msgspec.Meta(min_length=1)]


def sarif_of(*findings: Finding) -> _Run:
    return msgspec.json.decode(as_sarif(Checked(findings)), type=_Log).runs[0]


def finding(**changes: Any) -> Finding:
    given = {
        "level": "violation",
        "source": "models/a.yaml",
        "line": 7,
        "object": "ModelDeployment clinic/a",
        "rule": "ENC-001",
        "field": "spec.encryption.inTransit",
        "message": "no encryption",
    }
    return Finding(**{**given, **changes})


def test_every_rule_is_described_for_code_scanning() -> None:
    rules = sarif_of(finding()).tool.driver.rules
    assert {rule.id for rule in catalogue()} < {rule.id for rule in rules}
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.short_description.text
        assert rule.full_description.text
        assert rule.help.text
        assert rule.properties is None or 0 < float(rule.properties.security_severity) < 10


def test_a_result_points_to_its_rule_even_one_of_the_users_own() -> None:
    run = sarif_of(finding(), finding(rule="CUSTOM-001"), finding(rule="CUSTOM-001", line=9))
    for result in run.results:
        assert run.tool.driver.rules[result.rule_index].id == result.rule_id


@pytest.mark.parametrize(
    ("level", "expected"),
    [("error", "error"), ("violation", "error"), ("warning", "warning"), ("audit", "note"), ("note", "note")],
)
def test_levels_follow_what_is_enforced(level: str, expected: str) -> None:
    assert sarif_of(finding(level=level)).results[0].level == expected


def test_what_an_exception_excuses_is_told_and_suppressed() -> None:
    run = sarif_of(finding(), finding(level="excused", excuse="excused until 2027, approved by ciso: legacy"))
    assert [len(result.suppressions) for result in run.results] == [0, 1]
    assert run.results[1].suppressions[0].justification == "excused until 2027, approved by ciso: legacy"


def test_fingerprints_outlive_moved_lines_and_changed_values_and_tell_findings_apart() -> None:
    def prints(*findings: Finding) -> list[str]:
        return [result.partial_fingerprints["modelwardFinding/v1"] for result in sarif_of(*findings).results]

    assert prints(finding()) == prints(finding(line=80, message="another value"))
    several = [
        finding(),
        finding(),
        finding(rule="ENC-002"),
        finding(object="x"),
        finding(field="y"),
        finding(source="z"),
    ]
    assert len(set(prints(*several))) == len(several)


def test_files_are_named_as_uri_references() -> None:
    here = Path.cwd()
    places = ["a b/ü.yaml", str(here / "models" / "a.yaml"), "/elsewhere/a.yaml", "standard input"]
    uris = [
        sarif_of(finding(source=place)).results[0].locations[0].physical_location.artifact_location.uri
        for place in places
    ]
    assert uris == ["a%20b/%C3%BC.yaml", "models/a.yaml", "file:///elsewhere/a.yaml", "standard%20input"]


def test_a_file_that_cannot_be_read_is_a_result_and_an_unsuccessful_run() -> None:
    run = sarif_of(unreadable(ManifestError("a.yaml", 0, "empty", "Fill it.")))
    assert run.invocations[0].execution_successful is False
    assert run.results[0].locations[0].physical_location.region.start_line == 1


def test_exotic_text_stays_well_formed() -> None:
    exotic = "<&>\"' ünïcode 🏥 ]]>"
    table = as_table(Checked((finding(message=exotic),)), Screen(40))
    assert "🏥" in table
    failure = ET.fromstring(as_junit(Checked((finding(message=exotic),)))).find(".//failure")
    assert failure is not None
    assert failure.get("message") == exotic
