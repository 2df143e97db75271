"""A data set as columns of codes: what a table of text, numbers and gaps has in common.

A column is held as its distinct values and, row by row, which of them stands there: eight bytes a cell, however long
the text. Everything is computed on codes; a value is looked at once, and none is ever shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.privacy.values import number_in

Codes = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]

EXACT = float(1 << 53)  # below it floats hold every whole number
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


class DataError(Exception):
    """A file that cannot be read as a data set; the message says what and where in it, and the fix."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class Written(Sequence[str]):
    """Numbers as text that reads back as the same, made when it is asked for; whole ones without a point."""

    def __init__(self, numbers: Array) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Written(self.numbers[index])
        return written(float(self.numbers[index]))


def written(value: object) -> str:
    """A value as text; nothing and NaN as a gap."""
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class Column:
    """A column: `values` are its distinct values as they are written, `codes` (n,) which of them each row has."""

    name: str
    values: Sequence[str]
    codes: Codes

    @cached_property
    def counts(self) -> Codes:
        """How many rows have each value."""
        return np.bincount(self.codes, minlength=len(self.values)).astype(np.int64)

    @cached_property
    def missing(self) -> npt.NDArray[np.bool_]:
        """Which of the values say that there is none."""
        if isinstance(self.values, Written):
            return np.isnan(self.values.numbers)
        return np.array([value.lower() in MISSING for value in self.values], dtype=bool)

    @property
    def present(self) -> int:
        """How many rows have a value."""
        return int(self.counts[~self.missing].sum())

    @property
    def distinct(self) -> int:
        """How many values there are, gaps left out."""
        return int((self.counts[~self.missing] > 0).sum())

    @cached_property
    def numbers(self) -> Array | None:
        """The number that each value writes, NaN for a gap; None where one writes none."""
        if isinstance(self.values, Written):
            return self.values.numbers if self.distinct else None
        found = np.full(len(self.values), math.nan)
        for index, value in enumerate(self.values):
            if self.missing[index]:
                continue
            number = number_in(value)
            if number is None:
                return None
            found[index] = float(number)
        return found if self.distinct else None

    @property
    def whole(self) -> bool:
        """All its values are whole numbers."""
        numbers = self.numbers
        return numbers is not None and bool((numbers[~self.missing] % 1 == 0).all())

    def ranks(self) -> Codes:
        """Codes that stand in the order of the numbers, equal numbers the same; as they are where it has none."""
        if self.numbers is None:
            return self.codes
        _, order = np.unique(self.numbers, return_inverse=True)
        return np.asarray(order.astype(np.int64)[self.codes])


@dataclass(frozen=True)
class DataSet:
    """Columns of equal length.

    Attributes:
        named: whether the file gives the names; else they are x0, x1, …
        lines: (n,) the line of the file that each row begins at; None where the file has no lines.
    """

    columns: tuple[Column, ...]
    named: bool = True
    lines: Codes | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.columns[0].codes) if self.columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name.

        Raises:
            DataError: there is none.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise DataError(f"no column {name}; there are {', '.join(self.names[:20])}")

    def without(self, names: Sequence[str]) -> tuple[Column, ...]:
        """All columns but these."""
        return tuple(column for column in self.columns if column.name not in names)

    def place(self, row: int) -> str:
        """Where a row is to be found: its line, or its position counted from 0."""
        return f"row {row}" if self.lines is None else f"line {self.lines[row]}"


def column(name: str, values: Sequence[str], codes: Codes) -> Column:
    """A column of values as they were written: blanks around them are taken off, gaps become one."""
    places: dict[str, int] = {}
    told = [value.strip() for value in values]
    told = ["" if value.lower() in MISSING else value for value in told]
    again = np.array([places.setdefault(value, len(places)) for value in told], dtype=np.int64)
    return Column(name, tuple(places), again[codes] if len(codes) else codes)
