"""How findings are written: a table for people, JSON for programs, SARIF for code scanning, JUnit for CI."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TextIO

import click

from modelward import __version__
from modelward.cli.junit import as_junit
from modelward.cli.output import to_json, with_fix
from modelward.cli.sarif import as_sarif
from modelward.rules.check import LEVELS, Checked, Finding, Level

_NAMES: dict[Level, str] = {
    "error": "error",
    "violation": "violation",
    "warning": "warning",
    "audit": "audited violation",
    "excused": "excused violation",
    "note": "note",
}
_COLOURS: dict[Level, str] = {
    "error": "red",
    "violation": "red",
    "warning": "yellow",
    "audit": "cyan",
    "excused": "cyan",
    "note": "bright_black",
}
_MAX_WIDTH = 120
_MIN_WIDTH = 40


@dataclass(frozen=True)
class Screen:
    """What the table is written on.

    Attributes:
        width: columns to wrap at; None leaves each finding on one line, so that logs can be searched line by line.
        colour: whether it understands ANSI colours.
    """

    width: int | None = None
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> Screen:
        """Return the screen behind a stream; https://no-color.org and a dumb terminal are heeded."""
        if not stream.isatty():
            return cls()
        colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        columns = shutil.get_terminal_size((80, 24)).columns
        return cls(max(_MIN_WIDTH, min(columns, _MAX_WIDTH)), colour)

    def style(self, text: str, colour: str | None = None, *, bold: bool = False) -> str:
        """Colour a text where colours are understood."""
        return click.style(text, fg=colour, bold=bold or None) if self.colour else text

    def wrap(self, text: str, first: int, rest: int) -> list[str]:
        """Break a text into lines: the first begins in column `first`, the others are indented by `rest`."""
        if self.width is None:
            return [text]
        if first + len(text.partition(" ")[0]) > self.width:
            return ["", *(" " * rest + line for line in self.wrap(text, 0, 0))]
        wrapped = textwrap.wrap(
            text,
            self.width,
            initial_indent=" " * first,
            subsequent_indent=" " * rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return [wrapped[0][first:], *wrapped[1:]] if wrapped else [""]


def as_table(checked: Checked, screen: Screen | None = None) -> str:
    """Write findings object by object and policy by policy, then a line that sums up."""
    screen = screen or Screen.of(sys.stdout)
    lines = []
    for (who, source), found in _grouped(checked.findings, lambda finding: (finding.object, finding.source)):
        lines.append(screen.style(f"{who} ({source})", bold=True))
        for (level, policy), same in _grouped(found, lambda finding: (finding.level, finding.policy)):
            asked = f" of {' and '.join(policy.split(', '))}" if policy else ""
            head = f"{len(same)} {_NAMES[level]}{'s' if len(same) > 1 else ''}{asked}:"
            lines += [f"  {line.strip()}" for line in screen.wrap(head, 2, 2)]
            for finding in same:
                lines += _lines(finding, screen)
        lines.append("")
    broken = checked.count("error", "violation")
    colour = "red" if broken else "green"
    lines += [screen.style(line, colour, bold=True) for line in screen.wrap(summary(checked), 0, 0)]
    return "\n".join(lines) + "\n"


def _grouped(findings: Iterable[Finding], key: Callable[[Finding], tuple[Any, Any]]) -> list[tuple[Any, list[Finding]]]:
    """Return findings under their keys, keys in the order in which they first came."""
    groups: dict[tuple[Any, Any], list[Finding]] = {}
    for finding in findings:
        groups.setdefault(key(finding), []).append(finding)
    return list(groups.items())


def _lines(finding: Finding, screen: Screen) -> Iterator[str]:
    place = f"line {finding.line}" if finding.line else ""
    head = f"    {finding.rule:<9} {place:<8} "
    styled = f"    {screen.style(f'{finding.rule:<9}', _COLOURS[finding.level], bold=True)} {place:<8} "
    found = f"{finding.field}: {finding.told}" if finding.field else finding.told
    if screen.width is None:
        yield styled + with_fix(found, finding.fix)
        return
    first, *rest = screen.wrap(found, len(head), 6)
    yield (styled + first).rstrip()
    yield from rest
    if finding.fix:
        yield from (f"      {line.strip()}" for line in screen.wrap(f"Fix: {finding.fix}", 6, 6))


def summary(checked: Checked) -> str:
    """Return one line: how many models were judged, how many pass, and what was found."""
    counts = ((_NAMES[level], checked.count(level)) for level in LEVELS)
    parts = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts if count]
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


FORMATS: dict[str, Callable[[Checked], str]] = {
    "table": as_table,
    "json": as_json,
    "sarif": as_sarif,
    "junit": as_junit,
}
