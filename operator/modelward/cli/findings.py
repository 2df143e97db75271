"""How findings are written: a table for people, JSON for programs, SARIF for code scanning, JUnit for CI."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from xml.etree import ElementTree as ET  # only written, never parsed

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from modelward import __version__
from modelward.cli.output import to_json
from modelward.rules.catalogue import catalogue
from modelward.rules.check import LEVELS, Checked, Finding

_STYLES = {"error": "bold red", "violation": "bold red", "warning": "yellow", "audit": "cyan", "note": "dim"}
_SARIF_LEVELS = {"error": "error", "violation": "error", "warning": "warning", "audit": "note", "note": "note"}


def as_table(checked: Checked) -> str:
    """Write findings grouped by object, one block each, then a line that sums up."""
    terminal = sys.stdout.isatty()
    # Logs are searched line by line: only a terminal gets wrapped lines.
    width = min(shutil.get_terminal_size((110, 24)).columns, 140) if terminal else 100_000
    buffer = io.StringIO()
    console = Console(file=buffer, width=width, highlight=False, force_terminal=terminal)
    for who in dict.fromkeys(finding.object for finding in checked.findings):
        mine = [finding for finding in checked.findings if finding.object == who]
        console.print(Text(f"{who}  ({mine[0].source})", style="bold"))
        for finding in mine:
            _print_finding(console, finding)
        console.print()
    broken = checked.count("error", "violation")
    style = "bold red" if broken else "bold green"
    console.print(Text(_summary(checked), style=style))
    return buffer.getvalue()


def _print_finding(console: Console, finding: Finding) -> None:
    head = Text("  ")
    head.append(f"{finding.rule:<9} ", style=_STYLES[finding.level])
    head.append(f"line {finding.line:<4} ", style="dim")
    head.append(f"{finding.field}: ", style="bold")
    head.append(finding.message)
    if finding.level not in ("error", "violation"):
        head.append(f"  [{finding.level}]", style=_STYLES[finding.level])
    console.print(head)
    if finding.fix:
        asked = f" (asked by {finding.policy})" if finding.policy else ""
        console.print(Padding(Text(f"fix: {finding.fix}{asked}", style="dim"), (0, 0, 0, 12), expand=False))


def _summary(checked: Checked) -> str:
    parts = []
    for level in LEVELS:
        count = checked.count(level)
        if count:
            parts.append(f"{count} {level}{'s' if count > 1 else ''}")
    judged, passed = len(checked.deployments), len(checked.passed)
    models = f"{judged} model{'s' if judged != 1 else ''} judged, {passed} pass{'es' if passed == 1 else ''}"
    return f"{models}; {', '.join(parts) if parts else 'nothing to mend'}"


def as_json(checked: Checked) -> str:
    """Write findings as one JSON object."""
    return to_json(
        {
            "version": __version__,
            "policies": [policy["metadata"]["name"] for policy in checked.policies],
            "passed": list(checked.passed),
            "findings": [asdict(finding) for finding in checked.findings],
        }
    )


def as_sarif(checked: Checked) -> str:
    """Write findings as SARIF 2.1.0."""
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "fullDescription": {"text": rule.reason},
            "help": {"text": rule.fix},
            "properties": {"tags": list(rule.frameworks), "severity": rule.severity},
        }
        for rule in catalogue()
    ]
    results = [
        {
            "ruleId": finding.rule,
            "level": _SARIF_LEVELS[finding.level],
            "message": {"text": f"{finding.object}: {finding.field}: {finding.message}. {finding.fix}".strip()},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": finding.source},
                        "region": {"startLine": max(finding.line, 1)},
                    }
                }
            ],
        }
        for finding in checked.findings
    ]
    run = {"tool": {"driver": {"name": "modelward", "version": __version__, "rules": rules}}, "results": results}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return to_json({"version": "2.1.0", "$schema": schema, "runs": [run]})


def as_junit(checked: Checked) -> str:
    """Write a JUnit test suite: a case an object, a failure a violation."""
    objects = dict.fromkeys(
        [f"ModelDeployment {name}" for name in checked.passed] + [finding.object for finding in checked.findings]
    )
    suite = ET.Element("testsuite", name="modelward check", tests=str(len(objects)))
    failures = 0
    for who in objects:
        case = ET.SubElement(suite, "testcase", name=who, classname="modelward")
        broken = [item for item in checked.findings if item.object == who and item.level in ("error", "violation")]
        if broken:
            failures += 1
            text = "\n".join(f"{f.source}:{f.line} {f.rule} {f.field}: {f.message}. {f.fix}" for f in broken)
            ET.SubElement(case, "failure", message=f"{len(broken)} violations").text = text
    suite.set("failures", str(failures))
    xml: str = ET.tostring(suite, encoding="unicode", xml_declaration=True)
    return xml + "\n"


FORMATS: dict[str, Callable[[Checked], str]] = {
    "table": as_table,
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}
