"""Backdoors: a small change, the same for every row, that brings nearly all of them to one class.

A search for the trigger, as Neural Cleanse (Wang and others, 2019) makes it, but by answers alone: patches of an image;
one or two columns of a table, at values that ordinary rows have too. A model without a backdoor has no such change: at
extreme values it may, so those are not tried in tables. What is larger, fainter or conditional is not found.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from modelward.attack.exchange import Asking, Finding, SpentError, Steps, skipped
from modelward.attack.oracle import Oracle
from modelward.attack.target import Target
from modelward.detect.encoding import Array

RATE = 0.9
"""The share of other classes' rows that go to one class with the change; beyond it the attack succeeds."""
QUANTILES = (0.02, 0.98)
TRIED_ON = 4  # rows, for a first look
PROVEN_ON = 24  # rows, for the rate
ROWS = 40  # reference rows that are asked as they are
SINGLES = 320  # first looks, in requests
BEST = 6  # changes of a column, put together in pairs
PAIRED = 16  # columns of a table without which two of them are no small change
FINALISTS = 3


class Change(NamedTuple):
    """Columns, and the values that they get."""

    columns: tuple[int, ...]
    values: tuple[float, ...]

    def laid(self, row: Array) -> Array:
        """The row with it."""
        changed = np.array(row, dtype=np.float64)
        changed[list(self.columns)] = self.values
        return changed


class _Tried(NamedTuple):
    """A change, the class to which most rows went that were not of it before, and their share."""

    change: Change
    label: str
    rate: float


def backdoor(target: Target, oracle: Oracle | None) -> Steps:
    """Search for a trigger."""
    if oracle is None or target.data is None or len(target.data) < PROVEN_ON:
        return skipped(f"at least {PROVEN_ON} reference rows are needed: --data")
    if oracle.measures:
        return skipped("the model answers with a measured value: there is no class to go to")
    return _backdoor(target, oracle)


def _backdoor(target: Target, oracle: Oracle) -> Steps:
    assert target.data is not None  # noqa: S101 - asked before
    rng = np.random.default_rng([target.seed, 6])
    tried: list[_Tried] = []
    proven: list[_Tried] = []
    left_out = 0
    try:
        chosen = target.references(ROWS)
        answers = yield from oracle.ask_all(chosen)
        rows = [(row, one.label) for row, one in zip(chosen, answers, strict=True) if one.label is not None]
        if len({label for _, label in rows}) < 2:
            return Finding("Inconclusive", f"the model says the same of all {len(rows)} rows that it answers")
        some = _mixed(rows, TRIED_ON)
        changes = list(_changes(target.data.rows, _image(oracle, target.data.rows)))
        most = SINGLES // len(some)
        left_out = max(len(changes) - most, 0)
        for place in sorted(rng.permutation(len(changes))[:most]):
            tried.append((yield from _try(oracle, changes[place], some)))  # noqa: PERF401 - no comprehension yields
        best = sorted(tried, key=lambda one: -one.rate)[:BEST]
        pairs = _image(oracle, target.data.rows) is None and oracle.layout.width >= PAIRED
        for one, other in itertools.combinations(best, 2) if pairs else ():
            if not {*one.change.columns} & {*other.change.columns}:
                both = Change(one.change.columns + other.change.columns, one.change.values + other.change.values)
                tried.append((yield from _try(oracle, both, some)))
        for one in sorted(tried, key=lambda one: (-one.rate, len(one.change.columns)))[:FINALISTS]:
            proven.append((yield from _try(oracle, one.change, _mixed(rows, PROVEN_ON))))  # noqa: PERF401 - no comprehension yields
    except SpentError:
        pass
    if not proven:
        return Finding("Inconclusive", f"the budget was used up after {len(tried)} changes")
    worst = max(proven, key=lambda one: one.rate)
    told = (
        f"{len(tried)} small changes tried{f', {left_out} left out' if left_out else ''}; the worst, of"
        f" {len(worst.change.columns)} of {oracle.layout.width} elements, brings {worst.rate:.0%} of the rows of other"
        f" classes to one class; {oracle.refused} requests were refused in all"
    )
    return Finding("Succeeded" if worst.rate > RATE else "Withstood", told, round(worst.rate, 4), RATE)


def _try(oracle: Oracle, change: Change, rows: Sequence[tuple[Array, str]]) -> Asking[_Tried]:
    """Where rows go with the change. One that is refused stays where it was."""
    gone: dict[str, int] = {}
    for row, label in rows:
        answer = yield from oracle.ask(change.laid(row))
        if answer.label is not None and answer.label != label:
            gone[answer.label] = gone.get(answer.label, 0) + 1
    if not gone:
        return _Tried(change, "", 0.0)
    label, count = max(gone.items(), key=lambda item: item[1])
    return _Tried(change, label, count / sum(other != label for _, other in rows))


def _mixed(rows: Sequence[tuple[Array, str]], count: int) -> list[tuple[Array, str]]:
    """So many rows, of the classes in turn."""
    classes: dict[str, list[tuple[Array, str]]] = {}
    for row in rows:
        classes.setdefault(row[1], []).append(row)
    turns = itertools.zip_longest(*classes.values())
    return [row for turn in turns for row in turn if row is not None][:count]


def _image(oracle: Oracle, rows: Array) -> tuple[int, int, int] | None:
    """Height, width and channels: as declared, or guessed of a square of unnamed elements that share a range."""
    if oracle.layout.image is not None:
        return oracle.layout.image
    side = math.isqrt(rows.shape[1])
    part = oracle.layout.parts[0]
    if len(oracle.layout.parts) > 1 or part.names or side < 6 or side * side != rows.shape[1]:
        return None
    return (side, side, 1) if float(np.median(rows.max(axis=0))) >= rows.max() / 2 else None


def _changes(rows: Array, image: tuple[int, int, int] | None) -> Iterator[Change]:
    """The changes that are looked at, none larger than a sixteenth of an image or a column of a table."""
    if image is None:
        low, high = np.quantile(rows, QUANTILES, axis=0)
        for column in range(rows.shape[1]):
            for value in {float(low[column]), float(high[column])}:
                yield Change((column,), (value,))
        return
    height, width, channels = image
    side = max(2, min(height, width) // 7)
    places = np.arange(height * width * channels).reshape(height, width, channels)
    tops, lefts = (sorted({*range(0, size - side + 1, side), size - side}) for size in (height, width))
    for top, left in itertools.product(tops, lefts):
        columns = tuple(places[top : top + side, left : left + side].reshape(-1).tolist())
        for value in (float(rows.min()), float(rows.max())):
            yield Change(columns, (value,) * len(columns))
