"""How a scan of training data is written: a table for people, JSON for programs, SARIF for code scanning."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelward import __version__
from modelward.api.printable import printable
from modelward.cli.findings import Screen
from modelward.cli.output import to_json, with_fix
from modelward.cli.sarif import as_sarif
from modelward.rules import check
from modelward.scan.dataset import DataSet
from modelward.scan.findings import RULES, Finding, Place
from modelward.scan.generalise import Cheapest
from modelward.scan.scan import Scanned
from modelward.scan.singling import Assessment

_SHOWN = 5  # rows of a finding
_NAMES = 20  # columns


def as_table(path: Path, data: DataSet, scanned: Scanned, screen: Screen | None = None) -> str:
    """Write what was looked at, the figures, then each finding with the first of its rows."""
    screen = screen or Screen.of(sys.stdout)
    names = ", ".join(data.names[:_NAMES]) + (", …" if len(data.names) > _NAMES else "")
    lines = [screen.style(f"{path}: {data.rows:,} rows, {len(data.columns):,} columns", bold=True)]
    lines += _wrapped(screen, f"columns: {names}", 2)
    if scanned.assessment:
        lines += _figures(scanned.assessment, screen)
    if scanned.cheapest:
        lines += _generalised(scanned.cheapest, screen)
    for finding in sorted(scanned.findings, key=lambda one: (one.level, one.rule)):
        lines += ["", *_lines(data, finding, screen)]
    lines += ["", *_wrapped(screen, _compared(data, scanned), 0)] if scanned.compared else [""]
    for what in scanned.skipped:
        lines += _wrapped(screen, f"not looked for: {what}", 0)
    lines.append(screen.style(_summary(scanned), "green" if scanned.clean else "red", bold=True))
    return "".join(f"{printable_line(line, screen)}\n" for line in lines)


def printable_line(line: str, screen: Screen) -> str:
    """The line without what steers a terminal, but for our own colours."""
    return line if screen.colour else printable(line)


def _figures(told: Assessment, screen: Screen) -> Iterator[str]:
    how = "guessed" if told.discovered else "declared"
    asked = f", asked {told.asked} ({told.below:,} rows below)" if told.asked else ""
    share = told.unique / told.rows
    yield from _wrapped(screen, f"quasi-identifiers ({how}): {', '.join(told.columns)}", 2)
    yield f"  k {told.k}{asked}; {told.classes:,} groups; {told.unique:,} rows unique ({share:.1%})"
    if told.treated is not None:
        yield f"  treated as the policy says: k {told.treated}"
    for name, rows in sorted(told.without.items(), key=lambda item: item[1]):
        yield f"    without {printable(name)}: {rows:,} unique"
    for name, figures in told.sensitive.items():
        yield f"  sensitive {printable(name)}: l {figures.l}, t {figures.t:.4f}"


def _generalised(told: Cheapest, screen: Screen) -> Iterator[str]:
    cut = "" if told.exact else " found before the search was cut short"
    out = f", {told.suppressed:,} rows taken out" if told.suppressed else ""
    yield from _wrapped(screen, f"cheapest generalisation{cut}: k {told.k}; {told.classes:,} groups{out}", 2)
    yield f"    information lost: {told.loss:.1%}"
    for name, level in told.levels.items():
        yield f"    {printable(name)}: {level.told} ({level.level} of {level.of})"


def _lines(data: DataSet, finding: Finding, screen: Screen) -> Iterator[str]:
    colour = "red" if finding.level == "finding" else "bright_black"
    where = f"column {printable(finding.column)}: " if finding.column else ""
    head = f"{finding.rule}  {RULES[finding.rule]}" + (" (note)" if finding.level == "note" else "")
    yield screen.style(head, colour, bold=True)
    yield from _wrapped(screen, with_fix(f"{where}{finding.message}", finding.fix), 2)
    for place in finding.places[:_SHOWN]:
        reason = f": {place.reason}" if place.reason else ""
        yield from _wrapped(screen, f"{data.place(place.row)}{reason}", 4)
    if finding.places and finding.count > _SHOWN:
        yield f"    and {finding.count - _SHOWN:,} more; -o json has the first {len(finding.places):,}"


def _wrapped(screen: Screen, text: str, indent: int) -> list[str]:
    first, *rest = screen.wrap(printable(text), indent, indent)
    return [" " * indent + first.lstrip(), *rest]


def _compared(data: DataSet, scanned: Scanned) -> str:
    left = f", without the columns {', '.join(scanned.left_out[:_NAMES])}" if scanned.left_out else ""
    drawn = f" of {data.rows:,}" if scanned.compared < data.rows else ""
    return f"compared with their neighbours: {scanned.compared:,}{drawn} rows{left}"


def _summary(scanned: Scanned) -> str:
    found = sum(finding.level == "finding" for finding in scanned.findings)
    notes = len(scanned.findings) - found
    return f"{found} finding{'s' if found != 1 else ''}, {notes} note{'s' if notes != 1 else ''}"


def as_json(path: Path, data: DataSet, scanned: Scanned) -> str:
    """Write it as one JSON object; rows are counted from 0, and have their line where the file has lines."""
    return to_json(
        {
            "version": __version__,
            "data": str(path),
            "rows": data.rows,
            "columns": [_column(data, scanned, name) for name in data.names],
            "anonymity": _anonymity(scanned.assessment),
            "cheapestGeneralisation": _cheapest(scanned.cheapest),
            "compared": {"rows": scanned.compared, "leftOut": list(scanned.left_out)},
            "findings": [_finding(finding) for finding in scanned.findings],
            "notLookedFor": scanned.skipped,
        }
    )


def _column(data: DataSet, scanned: Scanned, name: str) -> dict[str, Any]:
    column = data.column(name)
    return {
        "name": name,
        "kind": "text" if column.numbers is None else "number",
        "distinct": column.distinct,
        "missing": data.rows - column.present,
        "identifiers": scanned.recognised[name].kinds,
        "unique": name in scanned.unique,
    }


def _anonymity(told: Assessment | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "quasiIdentifiers": list(told.columns),
        "discovered": told.discovered,
        "k": told.k,
        "asked": told.asked,
        "groups": told.classes,
        "uniqueRows": told.unique,
        "rowsBelow": told.below if told.asked else None,
        "uniqueRowsWithout": told.without,
        "kTreated": told.treated,
        "sensitive": {name: asdict(figures) for name, figures in told.sensitive.items()},
    }


def _cheapest(told: Cheapest | None) -> dict[str, Any] | None:
    if told is None:
        return None
    return {
        "columns": {name: asdict(level) for name, level in told.levels.items()},
        "loss": told.loss,
        "k": told.k,
        "groups": told.classes,
        "suppressedRows": told.suppressed,
        "exact": told.exact,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "title": RULES[finding.rule],
        "level": finding.level,
        "column": finding.column,
        "message": finding.message,
        "fix": finding.fix,
        "count": finding.count,
        "rows": [_place(place) for place in finding.places],
    }


def _place(place: Place) -> dict[str, Any]:
    return {key: value for key, value in asdict(place).items() if value not in (None, "")}


def _sarif(path: Path, data: DataSet, scanned: Scanned) -> str:  # noqa: ARG001 - as the others
    findings = (
        check.Finding(
            "violation" if finding.level == "finding" else "note",
            printable(str(path)),
            (finding.places[0].line or 0) if finding.places else 0,
            "data",
            finding.rule,
            printable(finding.column),
            printable(f"{RULES[finding.rule]}. {finding.message}"),
            printable(finding.fix),
        )
        for finding in scanned.findings
    )
    return as_sarif(check.Checked(tuple(findings)))


FORMATS: dict[str, Callable[[Path, DataSet, Scanned], str]] = {"table": as_table, "json": as_json, "sarif": _sarif}
