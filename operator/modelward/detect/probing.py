"""Detectors that ask the model more than was asked: which rows as well, and what the answers say of the first one.

The detectors ask nobody themselves. `Learning` gathers what the model answers to ordinary rows and to their probes,
and then gives the `Probed` detector, calibrated for a rate of false alarms. The rows are best the baseline's sample,
asked of the very model that serves before the first request is screened: then no caller has a hand in what is taken
for ordinary. Where that sample is too small for the asked rate, the first requests will have to do.

A detector may take several measures of a row. Each is turned into the share of ordinary rows that have it as high or
higher, and their logarithms are added (Fisher, 1932), which asks of no measure in what units it comes and lets small
signs add up. Measures that tell of the same thing are added first, and their sum is turned into a share again, so that
they do not outvote one that tells of something else. The threshold is the k-th of the n ordinary rows' own sums,
k = ceil((n + 1)(1 - rate)) (split conformal prediction; Vovk and others, 2005).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from modelward.detect.answers import Answers, Form, Output, joined
from modelward.detect.encoding import Array

MAX_EXTRA: Final = 64  # rows more for each row
LEARN_ROWS: Final = 512
_MAX_NUMBERS = 4_000_000  # of answers held while learning, and of the probes for one request: 32 MB
_NOTABLE = 0.05
_LEAST = 1e-3  # the least threshold: ordinary rows' answers may never differ at all


class ProbeError(Exception):
    """A detector that cannot work with this model or these rows; the message says why and what would mend it."""


class Probe(Protocol):
    """One way of asking more."""

    @property
    def name(self) -> str:
        """The detector's type, as users write it."""

    @property
    def extra(self) -> int:
        """How many rows it asks for each row."""

    @property
    def measured(self) -> tuple[str, ...]:
        """What each measure says when it is high, in words."""

    @property
    def groups(self) -> tuple[int, ...]:
        """How many of the measures, in order, tell of one thing."""

    def taught(self, rows: Array, given: Answers, probed: Answers) -> Self:
        """The same, knowing the model's answers to the ordinary `rows` (n, d) and to their probes."""

    def probes(self, rows: Array, rng: "np.random.Generator") -> Array:
        """The rows to ask as well: (n * extra, d), those of the first of `rows` (n, d) first."""

    def measures(self, rows: Array, given: Answers, probed: Answers) -> Array:
        """Each row's measures (n, m), the higher the stranger, from the answers to it and to its probes."""

    def highest(self, form: Form) -> float:
        """The highest that a measure can be, for a model that answers in this form.

        Raises:
            ProbeError: such answers say nothing to this detector.
        """


@dataclass(frozen=True, slots=True)
class Tails:
    """What n ordinary rows' measures are, and the threshold on how rare a row's are.

    `groups`: how many of the measures, in order, tell of one thing. `ordinary` (m, n): each measure, rising. `sums`
    (g, n): each group's sum of the logarithms, rising.
    """

    groups: tuple[int, ...]
    ordinary: Array
    sums: Array
    threshold: float

    @classmethod
    def fit(cls, measures: Array, groups: tuple[int, ...], rate: float) -> "Tails":
        """Calibrate on `measures` (n, m) of ordinary rows.

        Raises:
            ProbeError: they are too few for this rate.
        """
        count = len(measures)
        rank = math.ceil((count + 1) * (1 - rate))
        if not 1 <= rank <= count:
            needed = math.ceil(1 / rate) - 1
            raise ProbeError(
                f"a false positive rate of {rate:g} needs at least {needed} reference rows, and there are {count}: "
                "ask for a higher rate or fit the baseline on more rows"
            )
        ordinary = np.sort(measures.T, axis=1)
        # An ordinary row is one of the n itself, a new one will be the (n + 1)th: hence no `more` here, and 1 there.
        sums = _by_group(-np.log(_shares(ordinary, measures, more=0)), groups)
        rarities = -np.log(_shares(np.sort(sums.T, axis=1), sums, more=0)).sum(axis=1)
        threshold = max(float(np.sort(rarities)[rank - 1]), _LEAST)
        return cls(groups, ordinary, np.sort(sums.T, axis=1), threshold)

    def shares(self, measures: Array) -> Array:
        """The share of ordinary rows whose measure is as high, for each of `measures` (n, m)."""
        return _shares(self.ordinary, measures, more=1)

    def scores(self, measures: Array) -> Array:
        """The score of each of n rows: 1.0 is the threshold."""
        sums = _by_group(-np.log(self.shares(measures)), self.groups)
        scores: Array = -np.log(_shares(self.sums, sums, more=1)).sum(axis=1) / self.threshold
        return scores


def _shares(ordinary: Array, measures: Array, more: int) -> Array:
    """The share of n ordinary rows and `more`, that are as high as each of `measures` (n, m)."""
    below = [np.searchsorted(column, measures[:, index], side="left") for index, column in enumerate(ordinary)]
    count = ordinary.shape[1] + more
    shares: Array = (count - np.array(below, dtype=np.float64).T.reshape(measures.shape)) / count
    return shares


def _by_group(logarithms: Array, groups: tuple[int, ...]) -> Array:
    """The sums of the columns of each group; (n, g)."""
    starts = np.cumsum((0, *groups[:-1]))
    sums: Array = np.add.reduceat(logarithms, starts, axis=1)
    return sums


class Probed:
    """A calibrated detector. `extra`: the rows that it asks for each row; `probe`, `form`, `tails`: what it learnt."""

    def __init__(self, probe: Probe, form: Form, tails: Tails, rng: "np.random.Generator") -> None:
        self.name = probe.name
        self.extra = probe.extra
        self.probe = probe
        self.form = form
        self.tails = tails
        self._rng = rng

    def probes(self, rows: Array) -> Array:
        """What to ask the model besides `rows` (n, d): (n * extra, d), drawn anew each time.

        Raises:
            ProbeError: that would be too many numbers.
        """
        if rows.size * self.extra > _MAX_NUMBERS:
            raise ProbeError(f"{len(rows)} rows are too many to be looked at in one request")
        return self.probe.probes(rows, self._rng)

    def measures(self, rows: Array, given: Sequence[Output], probed: Sequence[Output]) -> Array:
        """What `scores` goes by: (n, m).

        Raises:
            AnswerError: an answer is not of the form that the model's answers had.
        """
        count = len(rows)
        return self.probe.measures(rows, self.form.read(given, count), self.form.read(probed, count * self.extra))

    def scores(self, rows: Array, given: Sequence[Output], probed: Sequence[Output]) -> Array:
        """Each row's score (n,), 1.0 being the threshold, from the model's answers to `rows` and to their probes.

        Raises:
            AnswerError: an answer is not of the form that the model's answers had.
        """
        return self.tails.scores(self.measures(rows, given, probed))

    def explain(self, measures: Array) -> tuple[str, ...]:
        """What is strange about one row's `measures` (m,), strangest first; at least one thing."""
        shares = self.tails.shares(measures[np.newaxis])[0]
        order = np.argsort(shares, kind="stable")
        return tuple(
            f"{self.probe.measured[index]} (as with {shares[index]:.1%} of ordinary rows or fewer)"
            for rank, index in enumerate(order)
            if rank == 0 or shares[index] <= _NOTABLE
        )


class Learning:
    """The model's answers to ordinary rows, gathered until a detector can be made of them.

        for rows in batches:  # of some tens, the first above all: it tells in what form the model answers
            learning.add(rows, ask(rows), ask(learning.probes(rows)))
        detector = learning.detector()

    Rows (n, d) are in the model's own units, at best some that it was not trained on: trained ones it answers too well.
    """

    def __init__(self, probe: Probe, rate: float, rng: "np.random.Generator | None" = None) -> None:
        self._probe = probe
        self._rate = rate
        self._rng = np.random.default_rng() if rng is None else rng
        self._form: Form | None = None
        self._rows: list[Array] = []
        self._given: list[Answers] = []
        self._probed: list[Answers] = []
        self._most = LEARN_ROWS
        self.learnt = 0
        """How many rows it has the answers to."""

    @property
    def full(self) -> bool:
        """More rows are not taken."""
        return self.learnt >= self._most

    def probes(self, rows: Array) -> Array:
        """What to ask the model besides `rows`: (n * extra, d)."""
        return self._probe.probes(rows, self._rng)

    def add(self, rows: Array, given: Sequence[Output], probed: Sequence[Output]) -> None:
        """Take the model's answers to `rows` and to their probes.

        Raises:
            AnswerError: they cannot be compared.
            ProbeError: such answers say nothing to this detector.
        """
        if self.full:
            return
        if self._form is None:
            self._form = form = Form.of(given, len(rows))
            self._probe.highest(form)
            self._most = min(LEARN_ROWS, _MAX_NUMBERS // (form.width * (1 + self._probe.extra)))
        answers = self._form.read(given, len(rows)), self._form.read(probed, len(rows) * self._probe.extra)
        self._rows.append(rows)
        self._given.append(answers[0])
        self._probed.append(answers[1])
        self.learnt += len(rows)

    def detector(self) -> Probed:
        """The detector, calibrated.

        Raises:
            ProbeError: too few rows, or the ordinary ones are so strange already that none could be called stranger.
        """
        if self._form is None:
            raise ProbeError("there are no reference rows to learn from")
        probe = self._probe.taught(np.concatenate(self._rows), joined(self._given), joined(self._probed))
        answered = zip(self._rows, self._given, self._probed, strict=True)
        measures = np.concatenate([probe.measures(rows, given, probed) for rows, given, probed in answered])
        tails = Tails.fit(measures, probe.groups, self._rate)
        highest = np.full((1, measures.shape[1]), probe.highest(self._form))
        if tails.scores(highest)[0] <= 1.0:
            raise ProbeError(
                f"{probe.name} could tell nothing about this model, whose answers to ordinary rows change as much as "
                "they can, or never: leave it out for this model"
            )
        return Probed(probe, self._form, tails, self._rng)
