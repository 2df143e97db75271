"""What a sample of combinations says: how many there are, and which share of the rows too few others have."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Final

from modelward.reidentification.sample import Kept, Sample, people_of

_Z: Final = 1.96  # 95 %
_NONE: Final = 3.0  # of what is not seen in a sample, so many times its weight may be there (rule of three, 95 %)


@dataclass(frozen=True)
class Figures:
    """Rows by how many share their combination.

    Attributes:
        rows: all that were counted, exactly.
        combinations: how many there are; its standard error is 3 % at most.
        below: share of the rows whose combination has fewer than k; `low` and `high`: between what it is (95 %).
        smallest: the size of the smallest combination that was kept; 0 without rows.
        sizes: of combinations below k, how many there are of each size, those kept alone.
        exact: every combination was kept, so nothing is estimated but people.
    """

    rows: int
    combinations: int
    below: float
    low: float
    high: float
    smallest: int
    sizes: tuple[tuple[int, int], ...]
    exact: bool


def figures(sample: Sample, k: int, *, people: bool) -> Figures:
    """Return them. `people`: a combination's size is how many people have it, and not how many rows."""
    weight = 1 << sample.level
    kept = sample.kept.values()
    sizes = [size_of(one, people=people) for one in kept]
    few = [one.rows for one, size in zip(kept, sizes, strict=True) if size < k]
    below = weight * sum(few)
    if sample.level == 0:
        low = high = float(below)
    elif few:
        # And one more of the largest: where few small ones are kept, their squares alone are too often too small.
        squares = sum(count * count for count in few) + max(k - 1, *few) ** 2
        apart = _Z * math.sqrt(weight * (weight - 1) * squares)
        low, high = below - apart, below + apart
    else:
        low, high = 0.0, _NONE * weight * (k - 1)
    return Figures(
        sample.rows,
        weight * len(sample.kept),
        share(below, sample.rows),
        share(low, sample.rows),
        share(high, sample.rows),
        min(sizes, default=0),
        tuple(sorted(Counter(size for size in sizes if size < k).items())),
        sample.level == 0,
    )


def size_of(kept: Kept, *, people: bool) -> int:
    """Return how many share a combination: never more than its rows."""
    return min(kept.rows, people_of(kept.people)) if people else kept.rows


def share(rows: float, of: int) -> float:
    """Return so many of `of` rows as a share, from 0 to 1; `of` is 1 at least."""
    return min(max(rows / max(of, 1), 0.0), 1.0)
