"""Suspected poison and spoiled splits: repeats, copies, labels that the rest contradicts, rows of the other data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelward.detect import encoding, poison
from modelward.privacy.anonymity import Classes, Codes, classes
from modelward.scan.dataset import Array, Column, DataError, DataSet
from modelward.scan.findings import Finding, Level, places, suspected
from modelward.scan.identifiers import unique

MAX_COMPARED: Final = 50_000  # rows, each with all others: half a minute
MAX_CATEGORIES: Final = 100  # of a column of text that rows are compared by
_MAX_CELLS = 20_000_000  # of features held at once
_CORRELATED = 100.0  # times as many equal rows as independent columns would give are nothing out of the ordinary
_AMBIGUOUS = 0.2  # of the rows between two labels: there a contradiction is ordinary
_USUAL = 0.01  # of the rows: more copies than that are how the data are
_MAX_GAPS = 0.1  # of a column that rows are compared by

REVIEW = "look at these rows and where they came from; take out or mend what is wrong"


def repeats(data: DataSet) -> Finding | None:
    """Rows that are the same in all columns as one before."""
    whole = classes([column.codes for column in data.columns], data.rows)
    again = np.flatnonzero(_later(whole))
    if not len(again):
        return None
    level, why = _unusual(data.columns, _pairs(whole), data.rows * (data.rows - 1) / 2)
    return Finding(
        "DAT-005",
        level,
        f"{len(again):,} rows are the same as one before{why}",
        "keep one of each: repeats weigh more in training, and fall into training and test data alike",
        count=len(again),
        places=places(data, again.tolist()),
    )


def torn(data: DataSet, label: str) -> Finding | None:
    """Rows that differ from others in their label alone."""
    rest = data.without([label])
    found = classes([column.codes for column in rest], data.rows)
    split = np.flatnonzero(_torn(found, data.column(label).codes))
    if not len(split):
        return None
    level, why = _unusual(rest, _pairs(found), data.rows * (data.rows - 1) / 2)
    return Finding(
        "DAT-007",
        level,
        f"{len(split):,} rows are the same as others and labelled differently{why}",
        "find out which label is right; one of them may have been changed",
        label,
        len(split),
        places(data, split.tolist()),
    )


def shared(data: DataSet, other: DataSet) -> Finding | None:
    """Rows that the other data set has as well: what is tested on them was learnt by heart.

    Raises:
        DataError: it has other columns.
    """
    missing = [name for name in data.names if name not in other.names]
    if missing:
        raise DataError(f"it has no column {', '.join(missing[:5])}. Fix: name data with the same columns")
    joined = [_joined(column, other.column(column.name)) for column in data.columns]
    both = classes(joined, data.rows + other.rows)
    theirs = np.bincount(both.of[data.rows :], minlength=len(both.sizes))[both.of[: data.rows]]  # (n,)
    rows = np.flatnonzero(theirs)
    if not len(rows):
        return None
    level, why = _unusual(data.columns, int(theirs.sum()), data.rows * other.rows)
    return Finding(
        "DAT-010",
        level,
        f"{len(rows):,} of {data.rows:,} rows are in the other data as well{why}",
        "take them out of one of the two: a model is not tested on what it has learnt",
        count=len(rows),
        places=places(data, rows.tolist()),
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """`features` (m, w) of the rows (m,) that are compared, and the columns that have no part in it."""

    rows: Codes
    features: Array
    left_out: tuple[str, ...]


def compared(data: DataSet, label: str | None, seed: int = 0) -> Compared | None:
    """The rows as points between which distances mean something; None where no column is of use, or too few rows.

    Left out are columns that tell every row apart, text of very many values, and columns with many gaps; of rows, those
    with a gap among their numbers. Of very many rows, some are drawn by `seed`.
    """
    used = [column for column in data.without([label] if label else []) if _usable(column)]
    if not used:
        return None
    whole = np.column_stack([_encoded(column) for column in used])
    rows = np.flatnonzero(np.isfinite(whole).all(axis=1))
    kinds = tuple(encoding.Column(one.name, None if one.numbers is not None else tuple(one.values)) for one in used)
    most = min(MAX_COMPARED, max(2, _MAX_CELLS // encoding.expanded_width(kinds)))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    if len(rows) < 2:
        return None
    features = encoding.fit(kinds, whole[rows]).features(whole[rows])
    names = {column.name for column in used} | {label}
    return Compared(rows, features, tuple(name for name in data.names if name not in names))


def copies(data: DataSet, points: Compared) -> Finding | None:
    """Rows far nearer to another than rows usually are."""
    found = poison.nearly_repeated(points.features, named=lambda index: data.place(int(points.rows[index])))
    count = int((found.scores > 1).sum())
    if not count:
        return None
    usual = count > _USUAL * len(points.rows)
    why = ": so many that it seems to be how these data are" if usual else ""
    return Finding(
        "DAT-006",
        "note" if usual else "finding",
        f"{count:,} rows are nearly the same as another{why}",
        REVIEW,
        count=count,
        places=suspected(data, points.rows.tolist(), found.found),
    )


def contradictions(data: DataSet, label: str, points: Compared) -> Finding | None:
    """Rows whose neighbours nearly all have one other label."""
    found = poison.contradicted(points.features, _labels(data, label)[points.rows])
    count = int((found.scores > 1).sum())
    if not count:
        return None
    between = int(((found.scores > (1 - poison.AGREEING) / poison.AGREEING) & (found.scores <= 1)).sum())
    blurred = between > _AMBIGUOUS * len(points.rows)
    why = f"; {between:,} more lie between labels, so here that is not unusual" if blurred else ""
    return Finding(
        "DAT-008",
        "note" if blurred else "finding",
        f"{count:,} of {len(points.rows):,} rows have another label than nearly all their neighbours{why}",
        REVIEW,
        label,
        count,
        suspected(data, points.rows.tolist(), found.found),
    )


def signatures(data: DataSet, label: str, embeddings: Array) -> Finding | None:
    """Rows far out along the main direction of their class, by the embeddings (n, w) of all rows.

    Raises:
        DataError: there is not one for each row.
        poison.PoisonError: too many, too wide, or something is not finite.
    """
    if len(embeddings) != data.rows:
        raise DataError(
            f"it has {len(embeddings):,} rows and the data have {data.rows:,}. Fix: give the embedding of each row, in"
            " their order"
        )
    found = poison.spectral_signatures(embeddings, _labels(data, label))
    count = int((found.scores > 1).sum())
    if not count:
        return None
    return Finding(
        "DAT-009",
        "finding",
        f"{count:,} rows are far out along the main direction of their class, as rows with a backdoor's trigger are",
        REVIEW,
        label,
        count,
        suspected(data, range(data.rows), found.found),
    )


def _later(found: Classes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows (n,) have one of their class before them."""
    _, first = np.unique(found.of, return_index=True)
    later = np.ones(len(found.of), dtype=bool)
    later[first] = False
    return later


def _torn(found: Classes, labels: Codes) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows (n,) are of a class that has more than one label."""
    low = np.full(len(found.sizes), np.iinfo(np.int64).max)
    high = np.full(len(found.sizes), -1)
    np.minimum.at(low, found.of, labels)
    np.maximum.at(high, found.of, labels)
    return np.asarray((low < high)[found.of])


def _pairs(found: Classes) -> int:
    """How many pairs of rows are of one class."""
    return int((found.sizes * (found.sizes - 1) // 2).sum())


def _unusual(columns: Sequence[Column], pairs: int, possible: float) -> tuple[Level, str]:
    """Whether so many equal pairs of rows are out of the ordinary, and if not, why.

    Of columns that were independent, the chance that two rows are equal is the product of their columns' chances.
    Columns are not: _CORRELATED times as many are let pass.
    """
    chance = float(np.prod([np.square(column.counts / len(column.codes)).sum() for column in columns]))
    distinct = max((column.distinct for column in columns), default=0)
    if pairs > _CORRELATED * chance * possible or distinct >= len(columns[0].codes) / 2:
        return "finding", ""
    return "note", ": not unusual where columns have few values"


def _joined(own: Column, other: Column) -> Codes:
    """The codes of both, one after the other, equal where the values are: as numbers where both are of numbers."""
    if own.numbers is not None and other.numbers is not None:
        numbers = np.concatenate([own.numbers[own.codes], other.numbers[other.codes]])
        return np.unique(numbers, return_inverse=True)[1].astype(np.int64)
    known = {value: code for code, value in enumerate(own.values)}
    theirs = np.array([known.setdefault(value, len(known)) for value in other.values], dtype=np.int64)
    return np.concatenate([own.codes, theirs[other.codes]])


def _usable(column: Column) -> bool:
    if unique(column) or not column.distinct:
        return False
    if column.numbers is None:
        return len(column.values) <= MAX_CATEGORIES
    return column.present >= (1 - _MAX_GAPS) * len(column.codes) and bool(
        (np.abs(column.numbers[~column.missing]) <= 1e100).all()
    )


def _encoded(column: Column) -> Array:
    return column.codes.astype(np.float64) if column.numbers is None else column.numbers[column.codes]


def _labels(data: DataSet, label: str) -> np.ndarray[Any, Any]:
    found = data.column(label)
    return np.array(list(found.values))[found.codes]


def numbers_of(data: DataSet) -> Array:
    """All columns (n, d) as numbers.

    Raises:
        DataError: one is not of numbers, or has gaps.
    """
    return np.column_stack([_filled(column) for column in data.columns])


def _filled(column: Column) -> Array:
    if column.numbers is None or column.present < len(column.codes):
        raise DataError(f"column {column.name} is not of numbers alone. Fix: give embeddings, a number in every cell")
    return column.numbers[column.codes]
