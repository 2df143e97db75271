"""Rates of groups, how far apart they are, and between what the true figures lie.

A rate is a share of rows: of all rows those selected (the selection rate), of rows whose truth is favourable those
selected (the true positive rate), of the others those selected (the false positive rate). The differences are those of
Fairlearn (Bird et al., 2020): the largest rate less the smallest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95
_LOOKS = 10
"""So many times less likely must chance be where rates are compared again and again, as they come.

A model that treats two groups of 50 and more alike, looked at after every fourth of 2,500 rows, is found to be 0.1
apart «beyond chance» at least once in 21 of 100 cases by 95 %, and in 3 by this (of five groups in 30, and in 6).
"""


class Share(NamedTuple):
    """So many of so many rows."""

    hits: int
    rows: int

    @property
    def rate(self) -> float:
        """The share; raises ZeroDivisionError without rows."""
        return self.hits / self.rows

    def moved(self, by: int) -> Share:
        """It with so many more hits and so many fewer of the others (or the other way round), none below zero."""
        hits = max(self.hits + by, 0)
        return Share(hits, hits + max(self.rows - self.hits - by, 0))


class Interval(NamedTuple):
    """Between what a figure lies."""

    low: float
    high: float


class Spread(NamedTuple):
    """How far apart the rates of groups are: the highest, the lowest, their difference and between what it lies.

    `certain`: chance does not explain a difference, however often it was looked for.
    """

    highest: str
    lowest: str
    difference: float
    interval: Interval
    certain: bool


def wilson(share: Share, confidence: float = CONFIDENCE, off: int = 0) -> Interval:
    """The score interval of a share (Wilson, 1927), within 0 and 1; all of that without rows.

    Hits, and the others, may each be `off` by so much: it holds whatever they are then.
    """
    if off:
        return Interval(wilson(share.moved(-off), confidence).low, wilson(share.moved(off), confidence).high)
    hits, rows = share
    if not rows:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (hits + z * z / 2) / (rows + z * z)
    half = z / (rows + z * z) * math.sqrt(hits * (rows - hits) / rows + z * z / 4)
    # Exactly 0 and 1 where none or all are hits: the formula says so, its rounding does not.
    return Interval(middle - half if hits else 0.0, middle + half if hits < rows else 1.0)


def difference_interval(one: Share, other: Share, confidence: float = CONFIDENCE, off: int = 0) -> Interval:
    """The hybrid score interval of `one`'s rate less `other`'s (Newcombe, 1998, method 10); both have rows.

    Each of the four counts may be `off` by so much: it holds whatever they are then.
    """
    if off:
        low = difference_interval(one.moved(-off), other.moved(off), confidence).low
        return Interval(low, difference_interval(one.moved(off), other.moved(-off), confidence).high)
    mine, theirs = wilson(one, confidence), wilson(other, confidence)
    apart = one.rate - other.rate
    return Interval(
        apart - math.hypot(one.rate - mine.low, theirs.high - other.rate),
        apart + math.hypot(mine.high - one.rate, other.rate - theirs.low),
    )


Off = Callable[[float], int]
"""By how much four counts may all be off, but for a doubt of so much."""


def exact(doubt: float) -> int:  # noqa: ARG001
    """Of counts that have no noise."""
    return 0


def spread(shares: Mapping[str, Share], minimum: int = 1, compared: int = 1, off: Off = exact) -> Spread | None:
    """How far apart the rates of groups are; groups of fewer than `minimum` rows are left out. None: fewer than two.

    The interval holds for all pairs of groups at once (Bonferroni): the widest apart are chosen after they were seen.
    So many sets of rates are `compared`, and whoever looks at them looks again and again: `certain` allows for both.
    Where counts may be `off`, half of the doubt is for that, and half for chance.
    """
    rates = {name: share for name, share in shares.items() if share.rows >= max(minimum, 1)}
    if len(rates) < 2:
        return None
    highest = max(rates, key=lambda name: rates[name].rate)
    lowest = min(rates, key=lambda name: rates[name].rate)
    if highest == lowest:  # all alike: any two
        highest, lowest = list(rates)[:2]
    pairs = len(rates) * (len(rates) - 1) // 2
    doubt = (1 - CONFIDENCE) / pairs
    one, other = rates[highest], rates[lowest]

    def within(doubt: float) -> Interval:
        if off is exact:
            return difference_interval(one, other, 1 - doubt)
        return difference_interval(one, other, 1 - doubt / 2, off(doubt / 2))

    certain = within(doubt / (_LOOKS * compared)).low > 0
    return Spread(highest, lowest, one.rate - other.rate, within(doubt), certain)


def ratio(shares: Mapping[str, Share], minimum: int = 1) -> float | None:
    """The smallest rate by the largest (Fairlearn's demographic parity ratio, of selection rates); None: no such."""
    apart = spread(shares, minimum)
    if apart is None or not shares[apart.highest].hits:
        return None
    return shares[apart.lowest].rate / shares[apart.highest].rate
