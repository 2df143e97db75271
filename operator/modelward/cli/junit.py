"""Findings as JUnit XML, the common subset that Jenkins, GitLab, CircleCI and Azure read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET  # only written, never parsed

from modelward.cli.output import with_fix
from modelward.rules.check import UNREADABLE, Checked, Finding, who


class Case(NamedTuple):
    """A test case: what it is, where, and how it ended.

    Attributes:
        name: what was tested.
        classname: groups cases: a file, or a family of tests.
        file: where it is to be mended; empty: nowhere that is known.
        line: in it; 0: nowhere.
        ended: `passed`, or the element that says otherwise.
        kind: of a failure: the rule.
        message: a line on it.
        text: all of it.
        out: what else there is to tell.
    """

    name: str
    classname: str
    file: str = ""
    line: int = 0
    ended: Literal["passed", "failure", "error", "skipped"] = "passed"
    kind: str = ""
    message: str = ""
    text: str = ""
    out: str = ""


def as_junit(checked: Checked) -> str:
    """Write a test suite: a case an object, a failure where it is refused, an error for a file that cannot be read.

    What does not fail a case (warnings, audits, notes) is in its system-out.
    """
    cases: dict[tuple[str, str], list[Finding]] = {
        (who(document), document.source): [] for document, _ in checked.deployments
    }
    for finding in checked.findings:
        cases.setdefault((finding.object, finding.source), []).append(finding)
    return suite("modelward check", [_case(name, source, findings) for (name, source), findings in cases.items()])


def suite(name: str, cases: Iterable[Case]) -> str:
    """Write one test suite."""
    element = ET.Element("testsuite", name=name)
    for case in cases:
        _add(element, case)
    element.set("tests", str(len(element)))
    for count, child in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(count, str(len(element.findall(f"testcase/{child}"))))
    suites = ET.Element("testsuites")
    suites.append(element)
    ET.indent(suites)
    xml: str = ET.tostring(suites, encoding="unicode", xml_declaration=True)
    return xml + "\n"


def _add(parent: ET.Element, case: Case) -> None:
    element = ET.SubElement(parent, "testcase", name=case.name, classname=case.classname)
    if case.file:
        element.set("file", case.file)
    if case.line:
        element.set("line", str(case.line))
    if case.ended == "skipped":
        ET.SubElement(element, "skipped", message=case.message)
    elif case.ended != "passed":
        ET.SubElement(element, case.ended, message=case.message, type=case.kind).text = case.text
    if case.out:
        ET.SubElement(element, "system-out").text = case.out


def _case(name: str, source: str, findings: list[Finding]) -> Case:
    failing = [finding for finding in findings if finding.level in ("error", "violation")]
    case = Case(name, source, source, out=_text([finding for finding in findings if finding not in failing]))
    if not failing:
        return case
    return case._replace(
        line=max(failing[0].line, 1),
        ended="error" if any(finding.rule == UNREADABLE for finding in failing) else "failure",
        kind=failing[0].rule,
        message=failing[0].message if len(failing) == 1 else f"{len(failing)} findings, {failing[0].rule} the first",
        text=_text(failing),
    )


def _text(findings: list[Finding]) -> str:
    return "\n".join(
        f"{item.source}:{item.line} {item.level} {item.rule} {f'{item.field}: ' if item.field else ''}"
        f"{with_fix(item.told, item.fix)}"
        for item in findings
    )
