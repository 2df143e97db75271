"""Findings as JUnit XML, the common subset that Jenkins, GitLab, CircleCI and Azure read."""

from __future__ import annotations

from xml.etree import ElementTree as ET  # only written, never parsed

from modelward.cli.output import with_fix
from modelward.rules.check import UNREADABLE, Checked, Finding, who


def as_junit(checked: Checked) -> str:
    """Write a test suite: a case an object, a failure where it is refused, an error for a file that cannot be read.

    What does not fail a case (warnings, audits, notes) is in its system-out.
    """
    cases: dict[tuple[str, str], list[Finding]] = {
        (who(document), document.source): [] for document, _ in checked.deployments
    }
    for finding in checked.findings:
        cases.setdefault((finding.object, finding.source), []).append(finding)
    suite = ET.Element("testsuite", name="modelward check", tests=str(len(cases)))
    for (name, source), findings in cases.items():
        _add_case(suite, name, source, findings)
    for count, child in (("failures", "failure"), ("errors", "error")):
        suite.set(count, str(len(suite.findall(f"testcase/{child}"))))
    suite.set("skipped", "0")
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    xml: str = ET.tostring(suites, encoding="unicode", xml_declaration=True)
    return xml + "\n"


def _add_case(suite: ET.Element, name: str, source: str, findings: list[Finding]) -> None:
    case = ET.SubElement(suite, "testcase", name=name, classname=source, file=source)
    failing = [finding for finding in findings if finding.level in ("error", "violation")]
    if failing:
        case.set("line", str(max(failing[0].line, 1)))
        tag = "error" if any(finding.rule == UNREADABLE for finding in failing) else "failure"
        message = failing[0].message if len(failing) == 1 else f"{len(failing)} findings, {failing[0].rule} the first"
        ET.SubElement(case, tag, message=message, type=failing[0].rule).text = _text(failing)
    rest = [finding for finding in findings if finding not in failing]
    if rest:
        ET.SubElement(case, "system-out").text = _text(rest)


def _text(findings: list[Finding]) -> str:
    return "\n".join(
        f"{item.source}:{item.line} {item.level} {item.rule} {f'{item.field}: ' if item.field else ''}"
        f"{with_fix(item.told, item.fix)}"
        for item in findings
    )
