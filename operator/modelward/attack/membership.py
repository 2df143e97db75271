"""Membership inference: does an answer tell whether the model was trained on the row?

By the confidence of the answer (Yeom and others, 2018; Salem and others, 2019): models are surer of what they saw. Told
as what an attacker gets: the area under the ROC curve, and the true positive rate at 1 % false positives (Carlini
and others, 2022), which is what hurts the few.
"""

from __future__ import annotations

import math

import numpy as np

from modelward.attack.exchange import Finding, SpentError, Steps, skipped
from modelward.attack.oracle import Answer, Oracle
from modelward.attack.target import Rows, Target
from modelward.detect.encoding import Array

AUC = 0.6
"""The area beyond which the attack succeeds; 0.5 is guessing."""
LEAST = 40
"""Answered rows of each kind without which nothing is said."""
MOST = 150
_SURE = 2.576  # standard deviations: one chance in 200 that guessing looks like it
RATE = 0.01


def membership(target: Target, oracle: Oracle | None) -> Steps:
    """Ask rows that the model was trained on, and rows that it was not."""
    members, others = target.data, target.holdout
    if oracle is None or members is None or others is None:
        return skipped("rows that the model was trained on and rows that it was not are needed: --data and --holdout")
    if min(len(members), len(others)) < LEAST:
        return skipped(f"fewer than {LEAST} rows of one of the kinds: --data and --holdout")
    if oracle.measures and members.truth is None:
        return skipped("the model answers with a measured value: give the true ones with --label")
    if not oracle.scored and members.truth is None:
        return skipped("the model tells labels alone: give the true ones with --label")
    return _membership(target, oracle, members, others)


def _membership(target: Target, oracle: Oracle, members: Rows, others: Rows) -> Steps:
    rng = np.random.default_rng([target.seed, 5])
    count = min(len(members), len(others), MOST)
    signals: tuple[list[float], list[float]] = ([], [])
    chosen = [rng.permutation(len(rows))[:count] for rows in (members, others)]
    refused = 0
    try:
        for pair in zip(*chosen, strict=True):  # in turn, so that an early end leaves as many of each
            for kind, rows, place in zip((0, 1), (members, others), pair, strict=True):
                answer = yield from oracle.ask(rows.rows[place])
                sure = signal(answer, None if rows.truth is None else str(rows.truth[place]), oracle)
                if sure is not None:
                    signals[kind].append(sure)
                refused += answer.refused
    except SpentError:
        pass
    inside, outside = (np.array(each) for each in signals)
    if min(len(inside), len(outside)) < LEAST:
        told = f"{len(inside)} and {len(outside)} rows were answered, {refused} refused"
        return Finding("Withstood" if refused > 2 * LEAST else "Inconclusive", f"{told}: too few to tell members")
    area = auc(inside, outside)
    deviation = math.sqrt((len(inside) + len(outside) + 1) / (12 * len(inside) * len(outside)))
    caught = caught_at(inside, outside)
    told = (
        f"of {len(inside)} members and {len(outside)} others: area under the ROC curve {area:.3f}, {caught:.1%} of"
        f" members told at {RATE:.0%} false positives"
    )
    won = area > AUC and area > 0.5 + _SURE * deviation
    return Finding("Succeeded" if won else "Withstood", told, round(area, 4), AUC)


def signal(answer: Answer, truth: str | None, oracle: Oracle) -> float | None:
    """How sure the answer is, higher for members; None: there was none."""
    if not answer.given:
        return None
    if oracle.measures:
        value = float(answer.scores[0]) if answer.scores is not None else 0.0
        return -abs(value - float(truth)) if truth is not None else None
    if answer.scores is not None:
        if truth is not None and answer.label is not None and truth != answer.label:
            return -float(answer.scores.max())  # surely wrong: of no member
        return float(answer.scores.max())
    return float(answer.label == truth)


def auc(inside: Array, outside: Array) -> float:
    """The chance that a member's signal is greater than another's; ties count half (Mann and Whitney, 1947)."""
    greater = (inside[:, np.newaxis] > outside).mean()
    return float(greater + (inside[:, np.newaxis] == outside).mean() / 2)


def caught_at(inside: Array, outside: Array, rate: float = RATE) -> float:
    """The share of members above the threshold that so many others are above, at the most."""
    allowed = int(rate * len(outside))
    threshold = np.sort(outside)[::-1][allowed]
    return float((inside > threshold).mean())
