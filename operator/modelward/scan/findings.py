"""What a scan tells: findings that are to be looked at, and notes. Neither holds a value of the data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from modelward.detect.poison import Suspect
from modelward.scan.dataset import DataSet

MAX_PLACES: Final = 1000
"""Rows that are told one by one."""

RULES: Final = {
    "DAT-001": "Cells hold identifiers of people",
    "DAT-002": "A column tells every row apart",
    "DAT-003": "Combinations of quasi-identifiers stand for too few people",
    "DAT-004": "Who is known to be in a group is known to have its sensitive value",
    "DAT-005": "Rows are repeated",
    "DAT-006": "Rows are copies with a little noise",
    "DAT-007": "The same row has different labels",
    "DAT-008": "A row's neighbours have another label",
    "DAT-009": "A few rows of a class are alike in a way that the rest is not",
    "DAT-010": "Rows of the training data are in the other data as well",
    "DAT-011": "A hierarchy has no line for values of its column",
}

Level = Literal["finding", "note"]


@dataclass(frozen=True, slots=True)
class Place:
    """A row: its position from 0, its line in a file that has lines, and what is to be said of it alone."""

    row: int
    line: int | None = None
    score: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at, or (`note`) merely to know. `count` is of rows, of which `places` has the first."""

    rule: str
    level: Level
    message: str
    fix: str = ""
    column: str = ""
    count: int = 0
    places: tuple[Place, ...] = ()


def places(data: DataSet, rows: Iterable[int]) -> tuple[Place, ...]:
    """The first of these rows, with their lines."""
    return tuple(Place(row, _line(data, row)) for row, _ in zip(rows, range(MAX_PLACES), strict=False))


def suspected(data: DataSet, rows: Sequence[int], suspects: Iterable[Suspect]) -> tuple[Place, ...]:
    """Suspects by their position among `rows`, as rows of the data set."""
    return tuple(
        Place(rows[one.row], _line(data, rows[one.row]), round(one.score, 3), one.reason)
        for one, _ in zip(suspects, range(MAX_PLACES), strict=False)
    )


def _line(data: DataSet, row: int) -> int | None:
    return None if data.lines is None else int(data.lines[row])
