"""Who can be singled out: which columns are quasi-identifiers, and how many people their combinations stand for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from modelward.privacy.anonymity import Classes, classes, closeness, diversity
from modelward.privacy.spec import Treatment
from modelward.scan import generalise
from modelward.scan.dataset import Column, DataSet
from modelward.scan.findings import Finding, places
from modelward.scan.identifiers import unique

MAX_DISCOVERED: Final = 16
_SHARE = 0.5  # of the rows: text with more values is prose, or a name
_SPLIT = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_KNOWN_OF_PEOPLE = frozenset(
    "age birth birthday birthdate dob born sex gender race ethnicity ethnic zip zipcode postal postcode plz city town"  # noqa: SIM905
    " county state region district country nation nationality native marital education school degree occupation"
    " profession job employer workclass religion language height weight".split()
)


@dataclass(frozen=True, slots=True)
class Sensitive:
    """How many values of a column each class has at the least, and how far the farthest is from the table."""

    l: int  # noqa: E741 - the field's name for it
    t: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """How identifying the quasi-identifiers are.

    Attributes:
        discovered: nobody declared them; their names, or that they are text of few values, tell.
        unique: rows that nobody shares their combination with; `below`: those of classes smaller than the asked k.
        without: how many rows would be unique if this column were not there.
        sensitive: by column.
        treated: k when the columns are treated as the policies say; None where they say nothing of them.
    """

    columns: tuple[str, ...]
    discovered: bool
    rows: int
    k: int
    classes: int
    unique: int
    asked: int | None
    below: int
    without: dict[str, int]
    sensitive: dict[str, Sensitive]
    treated: int | None


def quasi_identifiers(data: DataSet, roles: Mapping[str, str], label: str | None) -> tuple[tuple[str, ...], bool]:
    """The declared ones, and whether they had to be discovered because none is."""
    declared = tuple(name for name in data.names if roles.get(name) == "QuasiIdentifier")
    if declared:
        return declared, False
    found = [one.name for one in data.columns if one.name not in roles and one.name != label and _seems(one)]
    return tuple(found[:MAX_DISCOVERED]), True


def assess(
    data: DataSet,
    columns: Sequence[str],
    sensitive: Sequence[str],
    asked: int | None,
    treatments: Mapping[str, Treatment],
    *,
    discovered: bool,
) -> tuple[Assessment, Classes]:
    """The figures for these quasi-identifiers; with the classes that they make."""
    codes = {name: data.column(name).codes for name in columns}
    found = classes(list(codes.values()), data.rows)
    without = {
        name: classes([other for key, other in codes.items() if key != name], data.rows).unique for name in columns
    }
    told = {}
    for name in sensitive:
        column = data.column(name)
        ordered = column.numbers is not None
        ranks = column.ranks()
        told[name] = Sensitive(diversity(found, ranks), closeness(found, ranks, ordered=ordered))
    treats = any(name in treatments for name in columns)
    after = generalise.treated(data, columns, treatments) if treats else None
    return (
        Assessment(
            tuple(columns),
            discovered,
            data.rows,
            found.k,
            len(found.sizes),
            found.unique,
            asked,
            found.below(asked) if asked else 0,
            without,
            told,
            after.k if after else None,
        ),
        found,
    )


def judged(data: DataSet, told: Assessment, found: Classes, cheapest: generalise.Cheapest | None) -> Iterator[Finding]:
    """What the figures come to; `cheapest` is how to mend them."""
    names = ", ".join(told.columns)
    ask = (
        " The columns were guessed: declare `role: QuasiIdentifier` in the policy's fields." if told.discovered else ""
    )
    if told.asked and told.k < told.asked:
        rows = found.rows_below(told.asked)
        yield Finding(
            "DAT-003",
            "finding",
            f"k is {told.k} and the policy asks for {told.asked}: {told.below:,} of {told.rows:,} rows share {names}"
            f" with fewer than {told.asked - 1} others, {told.unique:,} with nobody.{ask}",
            _mend(told, told.asked, cheapest),
            count=len(rows),
            places=places(data, rows.tolist()),
        )
    elif not told.asked and told.unique:
        yield Finding(
            "DAT-003",
            "note",
            f"{told.unique:,} of {told.rows:,} rows are the only ones with their {names}.{ask}",
            "ask for a k in a policy (`kAnonymity: {k: 5}`) to have this judged",
            count=told.unique,
        )
    for name, figures in told.sensitive.items():
        if figures.l < 2 and told.k > 1:
            yield Finding(
                "DAT-004",
                "finding" if told.asked else "note",
                f"some who share {names} all have the same {name}: to know them is to know it",
                "generalise the quasi-identifiers further, until each group has several values",
                name,
            )


def uncovered(data: DataSet, hierarchies: Mapping[str, str]) -> Iterator[Finding]:
    """Columns with values that their hierarchy knows nothing of."""
    for name, text in hierarchies.items():
        rows = generalise.uncovered(data.column(name), text).tolist() if name in data.names else []
        if rows:
            yield Finding(
                "DAT-011",
                "finding",
                f"{len(rows):,} cells have values that its hierarchy has no line for: treated, they become `*`",
                "give each value of the column a line, its groups after it",
                name,
                len(rows),
                places(data, rows),
            )


def _mend(told: Assessment, asked: int, cheapest: generalise.Cheapest | None) -> str:
    if told.treated is not None and told.treated >= asked:
        return f"treat the data as the policy treats these fields, which gives a k of {told.treated}"
    if cheapest is None:
        return f"gather more rows: there are {told.rows:,}"
    steps = [f"{name} to {level.told}" for name, level in cheapest.levels.items() if level.level]
    out = f" and take out {cheapest.suppressed:,} rows" if cheapest.suppressed else ""
    least = "the least generalisation" if cheapest.exact else "a generalisation"
    return f"{least} that gives a k of {cheapest.k}: {', '.join(steps) or 'none'}{out}; or take those rows out"


def _seems(column: Column) -> bool:
    if column.distinct < 2 or unique(column):
        return False
    named = any(word.lower() in _KNOWN_OF_PEOPLE for word in _SPLIT.split(column.name))
    if column.numbers is not None:
        return named
    return column.distinct <= _SHARE * column.present
