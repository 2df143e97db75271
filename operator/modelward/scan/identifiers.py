"""Columns that name people: cells with an identifier in them, and columns in which no two rows are alike."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelward.privacy.recognise import IN_PROSE, MAX_TEXT, Found, find
from modelward.scan.dataset import Column

MAX_LOOKED_AT: Final = 100_000  # distinct values of a column
_MAX_CHARACTERS = 8 << 20  # of a column: the recognisers take up to a millisecond for a thousand
_SHARE = 0.5  # of a column of numbers: one number in ten has fitting check digits by chance
_FEWEST_DIGITS = 6  # a National Insurance number has so many
_FEW = 20  # rows: among fewer, values that differ tell nothing
_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_ANYTHING = re.compile(r"\bnumbers?\b", re.IGNORECASE)  # names a telephone's, and much else


@dataclass(frozen=True, slots=True)
class Recognised:
    """How many cells of a column hold each kind of identifier, of how many that were looked at. No value."""

    kinds: dict[str, int]
    cells: int
    whole: bool  # all of the column was looked at


def recognised(column: Column) -> Recognised:
    """Count what the recognisers find in the cells, the column's name standing before each as its context."""
    context = _ANYTHING.sub(" ", " ".join(_WORDS.split(column.name))) + ": "
    counts: Counter[str] = Counter()
    values: Counter[str] = Counter()
    cells = seen = characters = 0
    for value, count in _looked_at(column):
        characters += len(value)
        if characters > _MAX_CHARACTERS:
            break
        seen += 1
        cells += count
        digits = sum(map(str.isdigit, value))
        if digits < _FEWEST_DIGITS and not ("@" in value or "." in value or ":" in value or (digits and " " in value)):
            continue  # what has none of these has no identifier in it
        text = (context + value)[:MAX_TEXT]
        for kind in {found.kind for found in find(text) if _told(found, len(context), len(text))}:
            counts[kind] += count
            values[kind] += 1
    if column.numbers is not None:
        counts = Counter({kind: count for kind, count in counts.items() if values[kind] >= _SHARE * seen})
    return Recognised(dict(counts.most_common()), cells, cells == column.present)


def _told(found: Found, begin: int, end: int) -> bool:
    """Whether it is one in the cell text[begin:end]: an age that is all of a cell is a quasi-identifier's value."""
    return found.start >= begin and not (found.kind in IN_PROSE and found.end - found.start == end - begin)


def unique(column: Column) -> bool:
    """Tell whether each row has a value of its own, and one that is no measurement: text or whole numbers.

    A column that is nearly so, gaps aside, is taken for one as well: two rows of one person do not make it harmless.
    """
    if column.present < _FEW or not (column.numbers is None or column.whole):
        return False
    return column.distinct >= 0.99 * column.present


def _looked_at(column: Column) -> Iterator[tuple[str, int]]:
    """Distinct values and how many rows have each; of very many, evenly spread ones."""
    if column.numbers is not None and not column.whole:
        return
    present = np.flatnonzero(~column.missing)
    for index in present[:: -(-len(present) // MAX_LOOKED_AT) or 1].tolist():
        yield column.values[index], int(column.counts[index])
