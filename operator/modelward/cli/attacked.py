"""How a security test is written: a table for people, JSON, SARIF, JUnit and a page of HTML."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from modelward.attack.catalogue import SUITES
from modelward.attack.report import OUTCOMES, AttackReport, Outcome, SecurityTestReport, plain
from modelward.cli import junit, sarif
from modelward.cli.findings import Screen
from modelward.cli.output import to_json, with_fix
from modelward.reporting.attacked import page
from modelward.rules.check import Finding

_COLOURS: dict[Outcome, str] = {
    "Succeeded": "red",
    "Inconclusive": "yellow",
    "Skipped": "bright_black",
    "Withstood": "green",
}
_NAME = 24  # columns of an attack's id


def as_table(report: SecurityTestReport, source: str = "", screen: Screen | None = None) -> str:  # noqa: ARG001 - as the others
    """Write what succeeded, with evidence and fix, then what is open, was skipped and was withstood."""
    screen = screen or Screen.of(sys.stdout)
    lines = [screen.style(f"{report.target}, model {report.model}: suite {report.suite}", bold=True)]
    for outcome in OUTCOMES:
        attacks = [attack for attack in report.attacks if attack.outcome == outcome]
        if attacks:
            lines += ["", screen.style(f"{outcome} ({len(attacks)})", _COLOURS[outcome], bold=True)]
        for attack in attacks:
            lines += _lines(attack, screen)
    lines += ["", *screen.wrap(report.note, 0, 0)] if report.note else [""]
    colour = {"Passed": "green", "Failed": "red", "Errored": "yellow"}[report.outcome]
    lines += [screen.style(line, colour, bold=True) for line in screen.wrap(summary(report), 0, 0)]
    return "\n".join(lines) + "\n"


def _lines(attack: AttackReport, screen: Screen) -> Iterator[str]:
    grave = f"{attack.severity}: " if attack.outcome == "Succeeded" else ""
    first, *rest = screen.wrap(f"{grave}{attack.title}", _NAME + 3, 6)
    yield f"  {screen.style(f'{attack.id:<{_NAME}}', bold=attack.outcome == 'Succeeded')} {first}".rstrip()
    yield from rest
    yield from (f"      {line.strip()}" for line in screen.wrap(attack.evidence, 6, 6))
    if attack.fix:
        yield from (f"      {line.strip()}" for line in screen.wrap(f"Fix: {attack.fix}", 6, 6))


def summary(report: SecurityTestReport) -> str:
    """Return one line: how it ended, and how many attacks ended how."""
    counts = ", ".join(
        f"{report.counted(outcome)} {outcome.lower()}" for outcome in OUTCOMES[::-1] if report.counted(outcome)
    )
    return f"{report.outcome}: {counts}; {report.requests:,} requests"


def as_json(report: SecurityTestReport, source: str = "") -> str:  # noqa: ARG001 - as the others
    """Write the SecurityTestReport."""
    return to_json(plain(report))


def as_sarif(report: SecurityTestReport, source: str = "") -> str:
    """Write what succeeded or is open as results; each attack is a rule. `source`: the manifest, where it is mended."""
    rules = [
        sarif.described(one.id, one.title, one.tries, one.fix, one.severity, one.frameworks, "high")
        for one in SUITES[report.suite]
    ]
    findings = [
        Finding(
            "note" if attack.outcome == "Inconclusive" else "violation" if attack.grave else "warning",
            source or report.target,
            1,
            f"ModelDeployment/{report.model}",
            attack.id,
            "",
            attack.evidence,
            attack.fix,
        )
        for attack in report.attacks
        if attack.outcome in ("Succeeded", "Inconclusive")
    ]
    return sarif.log(findings, rules, "attack", successful=report.outcome != "Errored")


def as_junit(report: SecurityTestReport, source: str = "") -> str:
    """Write a case an attack: a failure where it succeeded, skipped where it was not tried or is open."""
    return junit.suite(f"modelward attack {report.suite}", [_case(attack, source) for attack in report.attacks])


def _case(attack: AttackReport, source: str) -> junit.Case:
    case = junit.Case(f"{attack.id}: {attack.title}", attack.id.partition(".")[0], source)
    match attack.outcome:
        case "Succeeded":
            text = with_fix(attack.evidence, attack.fix)
            return case._replace(ended="failure", kind=attack.severity, message=attack.evidence, text=text)
        case "Withstood":
            return case._replace(out=attack.evidence)
        case _:
            return case._replace(ended="skipped", message=f"{attack.outcome}: {attack.evidence}")


def as_html(report: SecurityTestReport, source: str = "") -> str:  # noqa: ARG001 - as the others
    """Write a page that asks nothing of a network."""
    return page(report)


FORMATS: dict[str, Callable[[SecurityTestReport, str], str]] = {
    "table": as_table,
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
    "html": as_html,
}
