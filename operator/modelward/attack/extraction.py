"""Copies of the model: what a thief learns by asking, and how far he comes before he is stopped.

With machine-made queries alone: rows of the data's own distribution cannot be told from anybody's, and what they give
away is bounded by a budget of coverage and a rate limit, not found (docs/benchmarks/extraction.md has the figures).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelward.attack.exchange import Asking, Finding, SpentError, Steps, skipped
from modelward.attack.oracle import Answer, Oracle
from modelward.attack.surrogate import Lesson, Scale, agreement
from modelward.attack.target import Target
from modelward.detect.encoding import Array

AGREES = 0.9
"""A copy is one that says what the model says of so many held-out rows, at the least."""
SEEDS = 20
HELD_OUT = 60
STEP = 0.1  # of a column's range, on average
MOST = 5000  # rows that are made up
STOPPED = 20  # refusals in a row after which a thief gives up
FREE = 100
"""Answers that anybody gets who may ask. A thief who is refused everything within them has no more than an honest
caller; a model that so few answers copy is bounded by coverage alone."""
_NO_ROWS = "neither reference rows (--data) nor bounds of the inputs (minimum and maximum in the manifest) were given"


@dataclass
class Theft:
    """What a thief has: scaled rows, their answers, and how many of them are seeds."""

    rows: list[Array] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    seeds: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def ask(self, oracle: Oracle, unit: Array, scale: Scale) -> Asking[None]:
        """Ask a row that was not asked yet."""
        key = np.round(unit, 9).tobytes()
        if key in self._seen:
            return
        answer = yield from oracle.ask(scale.rows(unit))
        self._seen.add(key)
        self.rows.append(unit)
        self.answers.append(answer)

    @property
    def made(self) -> list[Answer]:
        """The answers to what was made up."""
        return self.answers[self.seeds :]


def bounds_of(target: Target) -> tuple[Array, Array] | None:
    """The range of each column: of the reference rows, or as it is declared."""
    if target.data is not None and len(target.data) > 1:
        rows = target.data.rows
        return np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    return target.layout.ranges if target.layout is not None else None


def synthetic(target: Target, oracle: Oracle | None) -> Steps:
    """Queries that are made up: each column anything in its range."""
    bounds = bounds_of(target)
    if oracle is None or bounds is None:
        return skipped(_NO_ROWS)
    return _synthetic(target, oracle, Scale.of(*bounds))


def _synthetic(target: Target, oracle: Oracle, scale: Scale) -> Steps:
    rng = np.random.default_rng([target.seed, 1])
    theft = Theft()
    held = yield from _held_out(target, oracle)
    try:
        for _ in range(MOST):
            unit = rng.uniform(size=len(scale.low))
            if target.data is not None and rng.uniform() < 0.5:  # each column as in some row, but each in another's
                data = target.data.rows
                unit = scale.unit(data[rng.integers(len(data), size=data.shape[1]), np.arange(data.shape[1])])
            yield from theft.ask(oracle, unit, scale)
            if _stopped(theft.answers):
                break
    except SpentError:
        pass
    return judged(theft, _test(theft, held, scale), rng, real=target.data is not None)


def augmented(target: Target, oracle: Oracle | None) -> Steps:
    """A few real rows, each moved again and again by the sign of the copy's gradient (Papernot and others, 2017)."""
    if oracle is None or target.data is None or len(target.data) < SEEDS + HELD_OUT // 2:
        return skipped(f"at least {SEEDS + HELD_OUT // 2} reference rows are needed: --data")
    bounds = bounds_of(target)
    assert bounds is not None  # noqa: S101 - there are reference rows
    return _augmented(target, oracle, Scale.of(*bounds))


def _augmented(target: Target, oracle: Oracle, scale: Scale) -> Steps:
    rng = np.random.default_rng([target.seed, 2])
    held = yield from _held_out(target, oracle)
    theft = Theft()
    try:
        for row in target.references(SEEDS):
            yield from theft.ask(oracle, scale.unit(row), scale)
        theft.seeds = len(theft.rows)
        while not _stopped(theft.made):
            before = len(theft.rows)
            for unit in _moved(theft, rng):
                yield from theft.ask(oracle, unit, scale)
                if _stopped(theft.made):
                    break
            if len(theft.rows) == before or before > MOST:
                break  # nothing new can be made of them
    except SpentError:
        pass
    return judged(theft, _test(theft, held, scale), rng, real=target.data is not None)


def _moved(theft: Theft, rng: np.random.Generator) -> list[Array]:
    """Each answered row, moved to where the copy's answer changes soonest."""
    lesson = Lesson.of(theft.rows, theft.answers)
    if lesson is None:
        return []
    copy = lesson.smooth(rng)
    moved = []
    for place in rng.permutation(len(lesson.rows)):
        row = lesson.rows[place]
        own = int(lesson.targets[place].argmax())
        step = STEP * rng.uniform(0.5, 1.5)
        moved.append(np.clip(row - step * np.sign(copy.gradient(row, own)), 0.0, 1.0))
    return moved


def _held_out(target: Target, oracle: Oracle) -> Asking[list[tuple[Array, Answer]]]:
    """Ordinary rows that no thief asks, and what the model says of them; none where there are no data."""
    if target.holdout is not None:
        chosen = target.holdout.rows[
            np.random.default_rng([target.seed, 7]).permutation(len(target.holdout))[:HELD_OUT]
        ]
    elif target.data is not None:
        chosen = target.references(HELD_OUT, after=SEEDS)
    else:
        return []
    answers = yield from oracle.ask_all(chosen)
    return [(row, answer) for row, answer in zip(chosen, answers, strict=True) if answer.given]


def _test(theft: Theft, held: list[tuple[Array, Answer]], scale: Scale) -> list[tuple[Array, Answer]]:
    """Scaled rows to judge copies by; where there are no data, a fifth of the thief's own, which he loses."""
    if held:
        return [(scale.unit(row), answer) for row, answer in held]
    given = [place for place, answer in enumerate(theft.answers) if answer.given][::5]
    test = [(theft.rows[place], theft.answers[place]) for place in given]
    for place in reversed(given):
        del theft.rows[place], theft.answers[place]
    return test


def _stopped(answers: Sequence[Answer]) -> bool:
    """Whether he is refused whatever he asks."""
    return len(answers) >= STOPPED and all(answer.refused for answer in answers[-STOPPED:])


def judged(theft: Theft, test: list[tuple[Array, Answer]], rng: np.random.Generator, *, real: bool) -> Finding:
    """How good a copy is, and whether the thief was stopped before; `real`: there are rows of data to judge it by.

    It is withstood where the thief is refused everything at last, within FREE answers; else the copy decides.
    """
    if not theft.made:
        return Finding("Inconclusive", "the budget was used up before a query was made up")
    answered = sum(answer.given for answer in theft.made)
    if len(test) < 10:
        if _stopped(theft.made):
            return Finding(
                "Withstood", f"{answered} of {len(theft.made)} made-up queries were answered, then none any more"
            )
        other = sum(not answer.given and not answer.refused for answer in theft.made)
        more = f"; {other} answers are of no form that can be compared" if other else ""
        return Finding("Inconclusive", f"{len(test)} held-out rows were answered, too few to judge a copy by{more}")
    rows, answers = np.array([row for row, _ in test]), [answer for _, answer in test]
    commonest = Counter(str(answer.label) for answer in answers).most_common(1)[0][1] / len(answers)
    measured = answers[0].label is None
    needed = AGREES if measured else max(AGREES, (1 + commonest) / 2)
    if not measured and commonest > 0.95:
        told = f"{commonest:.0%} of the held-out rows are of one class: any copy agrees"
        if not real:  # noise tells nothing of a model for which almost all of it is one class
            return Finding("Skipped", f"{told}; rows of each class are needed: --data")
        return Finding("Inconclusive", told)
    reached = agreement(Lesson.of(theft.rows, theft.answers), rows, answers, rng)
    seeds = Lesson.of(theft.rows[: theft.seeds], theft.answers[: theft.seeds])
    before = agreement(seeds, rows, answers, rng)
    what = "explains" if measured else "agrees on"
    told = (
        f"{answered} of {len(theft.made)} made-up queries were answered"
        f"{', then none any more' if _stopped(theft.made) else ''}; the best copy {what} {reached:.1%} of {len(rows)}"
        f" held-out rows"
        f"{f', one of the {theft.seeds} seeds alone {before:.1%}' if theft.seeds else ''}"
    )
    if _stopped(theft.made) and answered <= FREE:
        more = f"; {FREE} answers are anybody's: bound them by `coverage`" if reached >= needed else ""
        return Finding("Withstood", f"{told}{more}")
    return Finding("Succeeded" if reached >= needed else "Withstood", told, round(reached, 4), round(needed, 4))
