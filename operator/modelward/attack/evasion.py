"""Evasion: rows moved over the model's border by as little as can be, known by its decisions alone.

After the Boundary Attack (Brendel, Rauber and Bethge, 2018) and HopSkipJump (Chen, Jordan and Wainwright, 2020): a walk
along the border from a row of another class, by gradients that are estimated there from decisions. A refusal is taken
as «not there», and gone around.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelward.attack.exchange import Asking, Finding, SpentError, Steps, skipped
from modelward.attack.extraction import bounds_of
from modelward.attack.oracle import Oracle
from modelward.attack.surrogate import Scale
from modelward.attack.target import Target
from modelward.detect.encoding import Array

NEAR = 1 / 3
"""Of the way to the nearest row of another class (L2, columns by their range): farther is another row, no disguise."""
TURNED = 0.2
"""The share of rows that may be turned; beyond it the attack succeeds."""
ROWS = 6
OTHERS = 40  # reference rows among which the nearest of another class is looked for
QUERIES = 90  # for each row
_HALVINGS = 7
_PROBES = 14  # for each gradient
_BLOCKED = 25  # refusals in a row after which a row is given up


class _Walk(NamedTuple):
    """How near to its row one has come, in shares of the way; and whether the last word was the model's."""

    share: float
    point: Array
    blocked: bool


def evasion(target: Target, oracle: Oracle | None) -> Steps:
    """Try to turn a few rows."""
    if oracle is None or target.data is None or len(target.data) < ROWS + 4:
        return skipped("reference rows are needed to begin with: --data")
    if oracle.measures:
        return skipped("the model answers with a measured value: there is no class to turn")
    bounds = bounds_of(target)
    assert bounds is not None  # noqa: S101 - there are reference rows
    return _evasion(target, oracle, Scale.of(*bounds))


def _evasion(target: Target, oracle: Oracle, scale: Scale) -> Steps:
    rng = np.random.default_rng([target.seed, 4])
    chosen = target.references(OTHERS)
    turned, shares, blocked, tried = 0, [], 0, 0
    try:
        answers = yield from oracle.ask_all(chosen)
        labelled = [
            (scale.unit(row), answer.label) for row, answer in zip(chosen, answers, strict=True) if answer.label
        ]
        if len({label for _, label in labelled}) < 2:
            return Finding("Inconclusive", f"the model says the same of all {len(labelled)} rows that it answers")
        for row, label in labelled[:ROWS]:
            others = [unit for unit, other in labelled if other != label]
            start = min(others, key=lambda unit: float(np.linalg.norm(unit - row)))
            walk = yield from _walked(oracle, scale, row, str(label), start, rng)
            tried += 1
            blocked += walk.blocked
            if walk.share <= NEAR:
                again = yield from oracle.ask(scale.rows(walk.point), anew=True)  # whether it passes when it comes anew
                turned += again.label is not None and again.label != label
            shares.append(walk.share)
    except SpentError:
        pass
    if not tried:
        return Finding("Inconclusive", "the budget was used up before the first row was tried")
    share = turned / tried
    told = (
        f"{turned} of {tried} rows turned within {NEAR:.0%} of the way to another class (nearest {min(shares):.0%},"
        f" median {float(np.median(shares)):.0%}); refused everything on {blocked} of them"
    )
    return Finding("Succeeded" if share > TURNED else "Withstood", told, round(share, 4), TURNED)


def _walked(
    oracle: Oracle, scale: Scale, row: Array, label: str, start: Array, rng: np.random.Generator
) -> Asking[_Walk]:
    """Come near to a row whose class is `label`, from a row `start` of another one; all scaled."""
    apart = float(np.linalg.norm(start - row)) or 1.0
    begun, refused = oracle.asked, 0

    def turned(unit: Array) -> Asking[bool]:
        nonlocal refused
        answer = yield from oracle.ask(scale.rows(unit), anew=True)
        refused = 0 if answer.given else refused + 1
        return answer.label is not None and answer.label != label

    def over() -> bool:
        return refused >= _BLOCKED or oracle.asked - begun >= QUERIES

    def halved(outside: Array) -> Asking[Array]:
        near, far = 0.0, 1.0
        for _ in range(_HALVINGS):
            if over():
                break
            middle = (near + far) / 2
            if (yield from turned(row + middle * (outside - row))):
                far = middle
            else:
                near = middle
        point: Array = row + far * (outside - row)
        return point

    best = yield from halved(start)
    step = 1
    while not over() and float(np.linalg.norm(best - row)) / apart > NEAR:
        away = float(np.linalg.norm(best - row))
        size = max(0.1 * away, 1e-6)
        directions = rng.normal(size=(_PROBES, len(row)))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        signs = []
        for direction in directions:
            signs.append(1.0 if (yield from turned(np.clip(best + size * direction, 0, 1))) else -1.0)
            if over():
                break
        if over():
            break
        weights = np.array(signs) - np.mean(signs) if abs(np.mean(signs)) < 1 else np.array(signs)
        gradient = weights @ directions[: len(signs)]
        gradient /= float(np.linalg.norm(gradient)) or 1.0
        length = away / np.sqrt(step)
        for _ in range(3):
            candidate = np.clip(best + length * gradient, 0, 1)
            if (yield from turned(candidate)):
                nearer = yield from halved(candidate)
                if float(np.linalg.norm(nearer - row)) < away:
                    best = nearer
                break
            length /= 2
        step += 1
    return _Walk(float(np.linalg.norm(best - row)) / apart, best, refused >= _BLOCKED)
