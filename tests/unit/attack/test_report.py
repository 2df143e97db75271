"""The report of a security test: what is read is what was written, and no more is believed than its attacks say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack import report as reports
from modelward.attack.report import AttackReport, ReportError, SecurityTestReport, read, verdict, write

_ATTACKS = st.builds(
    AttackReport,
    id=st.sampled_from(["bypass.no-token", "input.nan", "extraction.copy"]),
    title=st.text(max_size=100),
    outcome=st.sampled_from(reports.OUTCOMES),
    severity=st.sampled_from(reports.SEVERITIES),
    measure=st.none() | st.floats(0, 1),
    threshold=st.none() | st.floats(0, 1),
    requests=st.integers(0, 10_000),
    evidence=st.text(max_size=512),
    fix=st.text(max_size=512),
    frameworks=st.lists(st.sampled_from(["OWASP-ML05", "ATLAS-T0024"]), max_size=4).map(tuple),
)


def _report(attacks: tuple[AttackReport, ...], outcome: str | None = None, **more: object) -> SecurityTestReport:
    return SecurityTestReport(
        suite="baseline",
        target="https://model.example:8443",
        model="wdbc",
        started_at="2026-11-26T01:00:00Z",
        finished_at="2026-11-26T01:02:00Z",
        requests=sum(one.requests for one in attacks),
        outcome=outcome or verdict(attacks, whole=True),
        attacks=attacks,
        **more,
    )


def _attack(outcome: str, severity: str = "high", id_: str = "bypass.no-token") -> AttackReport:
    return AttackReport(id=id_, title="", outcome=outcome, severity=severity)


@given(st.lists(_ATTACKS, max_size=8).map(tuple))
def test_what_was_written_is_read(attacks: tuple[AttackReport, ...]) -> None:
    report = _report(attacks)
    assert read(write(report)) == report
    assert read(write(report)).requests == sum(one.requests for one in attacks)


def test_the_names_are_those_of_kubernetes() -> None:
    document = json.loads(write(_report((_attack("Withstood"),))))
    assert {"apiVersion", "kind", "suite", "target", "model", "startedAt", "finishedAt", "requests", "outcome"} <= set(
        document
    )
    assert (document["apiVersion"], document["kind"]) == ("modelward.io/v1alpha1", "SecurityTestReport")
    assert {"id", "title", "outcome", "severity", "measure", "threshold", "requests", "evidence", "fix"} <= set(
        document["attacks"][0]
    )


@pytest.mark.parametrize(
    ("attacks", "whole", "expected"),
    [
        ([_attack("Withstood")], True, "Passed"),
        ([_attack("Withstood")], False, "Errored"),
        ([_attack("Withstood"), _attack("Succeeded", "medium")], True, "Failed"),
        ([_attack("Succeeded", "critical")], False, "Failed"),
        ([_attack("Withstood"), _attack("Succeeded", "low")], True, "Passed"),
        ([_attack("Skipped"), _attack("Inconclusive")], True, "Errored"),
        ([], True, "Errored"),
        # Half of each family that was tried: what one shows makes not up for what another does not.
        ([_attack("Withstood"), _attack("Inconclusive")], True, "Passed"),
        ([_attack("Withstood"), *[_attack("Inconclusive")] * 2], True, "Errored"),
        ([*[_attack("Withstood")] * 9, _attack("Inconclusive", id_="input.nan")], True, "Errored"),
        ([*[_attack("Withstood")] * 9, _attack("Skipped", id_="input.nan")], True, "Passed"),
        ([_attack("Withstood"), _attack("Succeeded", "low", "input.nan"), _attack("Inconclusive", id_="input.deep")],
         True, "Passed"),
    ],
)  # fmt: skip
def test_how_a_suite_ends(attacks: list[AttackReport], whole: bool, expected: str) -> None:
    assert verdict(attacks, whole=whole) == expected


def test_what_was_not_decided_is_said_with_the_first_reason() -> None:
    spent = AttackReport(id="input.nan", title="", outcome="Inconclusive", severity="high", evidence="no time")
    assert reports.undecided([_attack("Withstood")]) == ""
    assert reports.undecided([_attack("Skipped")]) == "no attack was tried"
    told = reports.undecided([_attack("Withstood"), spent, _attack("Inconclusive", id_="rate.limit")])
    assert told == (
        "1 of 1 attacks of the family input came to no conclusion (input.nan: no time);"
        " 1 of 1 attacks of the family rate came to no conclusion (rate.limit)"
    )


@given(st.lists(_ATTACKS, max_size=8).map(tuple))
def test_passed_is_not_believed_where_the_attacks_say_otherwise(attacks: tuple[AttackReport, ...]) -> None:
    raw = write(_report(attacks, "Passed"))
    if verdict(attacks, whole=True) == "Passed":
        assert read(raw).outcome == "Passed"
    else:
        with pytest.raises(ReportError, match="say otherwise"):
            read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        b" " * (reports.MAX_BYTES + 1),
        write(_report((_attack("Withstood"),))).replace(b"SecurityTestReport", b"Pod"),
        write(_report((_attack("Withstood"),))).replace(b'"Withstood"', b'"Splendid"'),
        write(_report((_attack("Withstood"),))).replace(b'"title":""', b'"title":"' + b"x" * 600 + b'"'),
        write(_report((_attack("Withstood"),))).replace(b"01:00:00Z", b"yesterday"),
    ],
)
def test_what_is_no_report_is_refused(raw: bytes) -> None:
    with pytest.raises(ReportError):
        read(raw)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_in_words(raw: bytes) -> None:
    with pytest.raises(ReportError):
        read(raw)
