"""Figures as they are shown: in steps of at least five rows, so that no two of them tell what one person's request was.

Who reads an exact count before and after a request learns whether that combination was there before, and whether it
is anybody else's. Who may send rows of their own as well can bring a count to the edge of a step first: against them
only noise would help, as where counts are kept for an auditor. What is decided is decided by figures that are at most
a step old.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from modelward.reidentification.figures import Figures

FEWEST: Final = 5
_DIGITS: Final = 2  # of a larger count that are shown


def step_of(count: int) -> int:
    """Return the width of the step that a count is in."""
    width: int = 10 ** max(len(str(count)) - _DIGITS, 0)
    return max(FEWEST, width)


def in_steps(count: int) -> int:
    """Return a count as it is shown, never more than it is; 1 stands for a few, fewer than `FEWEST`."""
    return count // step_of(count) * step_of(count) if count >= FEWEST else min(count, 1)


def moved(was: int, now: int) -> bool:
    """Return whether a count has moved far enough to be shown anew: at the edge of a step it does not go to and fro."""
    return in_steps(was) != in_steps(now) and abs(now - was) >= step_of(min(was, now))


def share_in_steps(share: float, rows: int) -> float:
    """Return a share of so many rows as it is shown: of a number of them to the nearest step; two rows are none."""
    few = round(share * rows)
    width = step_of(few)
    return min((few + width // 2) // width * width / max(in_steps(rows), FEWEST), 1.0)


def shown(found: Figures) -> Figures:
    """Return figures as they are shown."""
    return replace(
        found,
        rows=in_steps(found.rows),
        combinations=in_steps(found.combinations),
        below=share_in_steps(found.below, found.rows),
        low=share_in_steps(found.low, found.rows),
        high=share_in_steps(found.high, found.rows),
        smallest=in_steps(found.smallest),
        sizes=_sizes_shown(found.sizes),
    )


def held(was: int, now: int) -> int:
    """Return the count that stands: the one before, until it has moved far enough to be shown anew."""
    return now if moved(was, now) else was


def _sizes_shown(sizes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    together: Counter[int] = Counter()
    for size, count in sizes:
        together[in_steps(size)] += count
    return tuple((size, in_steps(count)) for size, count in sorted(together.items()))
