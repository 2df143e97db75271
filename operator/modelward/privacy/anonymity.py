"""How identifying a table is: k-anonymity, l-diversity, t-closeness and uniqueness, by its quasi-identifiers.

Columns come as codes: whole numbers from 0, one for each value that the column has. Two rows are of one equivalence
class where all their quasi-identifiers are the same: nobody who knows those can tell the two apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]

_LARGEST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Classes:
    """`of` (n,): the class of each row; `sizes` (c,): how many rows each class has."""

    of: Codes
    sizes: Codes

    @property
    def k(self) -> int:
        """The fewest rows that share their quasi-identifiers (Sweeney, 2002). 0 without rows."""
        return int(self.sizes.min(initial=len(self.of)))

    @property
    def unique(self) -> int:
        """How many rows are alone in their class."""
        return self.below(2)

    def below(self, k: int) -> int:
        """How many rows are of classes with fewer than `k`."""
        return int(self.sizes[self.sizes < k].sum())

    def rows_below(self, k: int) -> Codes:
        """The positions of those rows."""
        return np.flatnonzero(self.sizes[self.of] < k)


def classes(columns: Sequence[Codes], count: int) -> Classes:
    """The equivalence classes of `count` rows by these columns (n,); without columns they are all of one."""
    keys = np.zeros(count, dtype=np.int64)
    reach = 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        if reach * width >= _LARGEST:
            keys, reach = _recoded(keys)
        keys = keys * width + column
        reach *= width
    _, of, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    return Classes(of.astype(np.int64), sizes.astype(np.int64))


def diversity(found: Classes, sensitive: Codes) -> int:
    """Distinct l-diversity: the fewest values of the sensitive column in a class (Machanavajjhala et al., 2007)."""
    if not len(sensitive):
        return 0
    classes_of_pairs = _pairs(found, sensitive).classes
    return int(np.bincount(classes_of_pairs, minlength=len(found.sizes)).min())


def closeness(found: Classes, sensitive: Codes, *, ordered: bool) -> float:
    """The farthest that a class's distribution of the sensitive column is from the table's (Li et al., 2007).

    By the earth mover's distance, from 0 to 1: over equally far values, or, `ordered`, over the ranks of the codes.
    """
    return float(distances(found, sensitive, ordered=ordered).max(initial=0.0))


def distances(found: Classes, sensitive: Codes, *, ordered: bool) -> Array:
    """That distance of each class (c,). The work is that of the pairs of class and value there are, not of all."""
    if not len(sensitive):
        return np.zeros(0)
    pairs = _pairs(found, sensitive)
    whole = np.bincount(sensitive) / len(sensitive)  # (m,)
    shares = pairs.counts / found.sizes[pairs.classes]
    if not ordered:
        more = np.maximum(shares - whole[pairs.values], 0.0)
        return np.bincount(pairs.classes, weights=more, minlength=len(found.sizes)).astype(np.float64)
    present = np.flatnonzero(whole)
    ranks = np.searchsorted(present, pairs.values)
    return _ordered(pairs.classes, ranks, shares, whole[present], len(found.sizes))


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The pairs of class and sensitive value that there are, in order, and how many rows have each."""

    classes: Codes
    values: Codes
    counts: Codes


def _pairs(found: Classes, sensitive: Codes) -> _Pairs:
    width = int(sensitive.max()) + 1
    keys, counts = np.unique(found.of * width + sensitive, return_counts=True)
    return _Pairs(keys // width, keys % width, counts.astype(np.int64))


def _ordered(of: Codes, ranks: Codes, shares: Array, whole: Array, count: int) -> Array:
    """The mean over ranks of how far the cumulative shares of a class and of the table are apart.

    Between two values that a class has, its cumulative share stands still while the table's rises: so the sum over the
    ranks between is two sums, below and above the crossing, both from running totals.
    """
    total = np.cumsum(whole)
    running = np.concatenate([[0.0], np.cumsum(total)])
    first = np.concatenate([[True], of[1:] != of[:-1]])
    before = np.cumsum(shares) - shares
    reached = before - np.repeat(before[first], np.diff(np.append(np.flatnonzero(first), len(of)))) + shares
    ends = np.append(ranks[1:], len(whole))
    ends[np.append(first[1:], True)] = len(whole)
    apart = _apart(reached, ranks, ends, total, running)
    sums = np.bincount(of, weights=apart, minlength=count)
    sums += running[ranks[first]]  # before its first value a class has reached nothing
    return sums / max(len(whole) - 1, 1)


def _apart(level: Array, start: Codes, end: Codes, total: Array, running: Array) -> Array:
    """The sum of |level - total[i]| for start <= i < end, `total` rising and `running` its running sums."""
    cross = np.clip(np.searchsorted(total, level), start, end)
    below = level * (cross - start) - (running[cross] - running[start])
    above = (running[end] - running[cross]) - level * (end - cross)
    return below + above


def _recoded(keys: Codes) -> tuple[Codes, int]:
    found, codes = np.unique(keys, return_inverse=True)
    return codes.astype(np.int64), len(found)
