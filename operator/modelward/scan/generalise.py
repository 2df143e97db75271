"""What generalising the quasi-identifiers gives: as the policy treats them, and at least cost up to its k."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelward.privacy.anonymity import Array, Classes, Codes, classes
from modelward.privacy.compiled import CannotTreatError, compiled
from modelward.privacy.hierarchy import HierarchyError, read_levels
from modelward.privacy.lattice import Ladder, LatticeError, cheapest, ladder
from modelward.privacy.spec import Treatment
from modelward.privacy.values import TreatmentError
from modelward.scan.dataset import Column, DataError, DataSet

ALL: Final = "one group"
_MAX_STEPS = 8
_STEPS = 16  # that the range of a column has at its finest level, or nearly


@dataclass(frozen=True, slots=True)
class Level:
    """To which level a column goes, of how many, and what that level is."""

    level: int
    of: int
    told: str


@dataclass(frozen=True, slots=True)
class Cheapest:
    """The generalisation with least loss (0 to 1) that reaches the asked k, and what then is left.

    `suppressed` rows have to be taken out as well; `exact`: none is cheaper, since all were tried or ruled out.
    """

    levels: Mapping[str, Level]
    loss: float
    k: int
    classes: int
    suppressed: int
    exact: bool


@dataclass(frozen=True, slots=True)
class _Rungs:
    """A column's ladder, and what its levels are, beginning with the values themselves."""

    ladder: Ladder
    told: Sequence[str]


def search(
    data: DataSet,
    columns: Sequence[str],
    k: int,
    hierarchies: Mapping[str, str],
    treatments: Mapping[str, Treatment],
    spare: float,
) -> Cheapest | None:
    """The cheapest generalisation of these columns; None where no more than k rows are there.

    A column goes up its hierarchy where one is given; numbers else go to ever wider intervals, from the policy's step
    on; everything else to one group. A share `spare` of the rows may be taken out.

    Raises:
        DataError: a hierarchy does not fit its column, or there are too many ways to combine levels.
    """
    rungs = [_rungs(data.column(name), hierarchies.get(name), treatments.get(name)) for name in columns]
    try:
        found = cheapest(
            [data.column(name).codes for name in columns],
            [each.ladder for each in rungs],
            k,
            spare=int(spare * data.rows),
        )
    except LatticeError as error:
        raise DataError(str(error)) from error
    if found is None:
        return None
    levels = {
        name: Level(level, len(each.told) - 1, each.told[level])
        for name, each, level in zip(columns, rungs, found.levels, strict=True)
    }
    return Cheapest(levels, found.loss, found.k, found.classes, found.suppressed, found.cheapest)


def treated(data: DataSet, columns: Sequence[str], treatments: Mapping[str, Treatment]) -> Classes | None:
    """The classes that are left by the policy's treatments of these columns; None where one cannot be treated so.

    A pseudonym, a token and a shifted date are taken to tell as much as what they stand for.
    """
    codes = []
    for name in columns:
        column, treatment = data.column(name), treatments.get(name)
        if treatment is None or treatment.treatment in ("Pseudonymise", "Tokenise", "DateShift"):
            codes.append(column.codes)
        elif treatment.treatment != "Drop":
            try:
                codes.append(_treated(column, treatment))
            except (CannotTreatError, TreatmentError):
                return None
    return classes(codes, data.rows)


def _treated(column: Column, treatment: Treatment) -> Codes:
    treat = compiled(treatment, column.name, "BYTES", None, "")
    places: dict[str, int] = {}
    groups = [
        places.setdefault(value if gap else treat(value), len(places))
        for value, gap in zip(column.values, column.missing.tolist(), strict=True)
    ]
    return np.array(groups, dtype=np.int64)[column.codes]


def uncovered(column: Column, hierarchy: str) -> Codes:
    """The rows whose value has no line in the column's hierarchy, nor is a group of it: treated, it is suppressed.

    Raises:
        DataError: the hierarchy cannot be used.
    """
    levels = _levels(column.name, hierarchy)
    known = levels[0].keys() | {group for groups in levels for group in groups.values()}
    strange = [
        not gap and value not in known for value, gap in zip(column.values, column.missing.tolist(), strict=True)
    ]
    return np.flatnonzero(np.array(strange, dtype=bool)[column.codes])


def _levels(name: str, text: str) -> tuple[dict[str, str], ...]:
    try:
        return read_levels(text)
    except HierarchyError as error:
        raise DataError(f"the hierarchy of {name}: {error}") from error


def _rungs(column: Column, hierarchy: str | None, treatment: Treatment | None) -> _Rungs:
    if hierarchy is not None:
        return _of_hierarchy(column, hierarchy)
    if column.numbers is not None:
        return _of_numbers(column, column.numbers, treatment.step if treatment else None)
    return _rungs_of([], [], column)


def _of_hierarchy(column: Column, text: str) -> _Rungs:
    levels = _levels(column.name, text)
    groups = [  # what has no line is a group of its own
        np.unique([groups.get(value, "") for value in column.values], return_inverse=True)[1].astype(np.int64)
        for groups in levels
    ]
    try:
        told = [f"level {number} of its hierarchy" for number in range(1, len(levels) + 1)]
        return _rungs_of(groups, told, column)
    except LatticeError as error:
        raise DataError(f"the hierarchy of {column.name}: {error}. Fix: mend its lines") from error


def _of_numbers(column: Column, numbers: Array, step: float | None) -> _Rungs:
    reach = float(np.nanmax(numbers) - np.nanmin(numbers))
    width = step or _round(reach / _STEPS)
    levels: list[Codes] = []
    told = []
    edges = np.floor(numbers / width)  # a gap, NaN, stays apart
    while width < reach and len(levels) < _MAX_STEPS:
        levels.append(np.unique(edges, return_inverse=True)[1].astype(np.int64))
        told.append(f"intervals of {width:g}")
        edges, width = np.floor(edges / 2), 2 * width
    return _rungs_of(levels, told, column)


def _rungs_of(levels: Sequence[Codes], told: Sequence[str], column: Column) -> _Rungs:
    found = ladder(levels, len(column.values))
    return _Rungs(found, ("as it is", *told, ALL)[: len(found.levels)])


def _round(width: float) -> float:
    """The nearest of 1, 2, 5, 10, 20, …; 1 for nothing."""
    if not width > 0 or not math.isfinite(width):
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return min((power, 2 * power, 5 * power, 10 * power), key=lambda one: abs(one - width))
