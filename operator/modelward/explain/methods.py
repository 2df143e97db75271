"""The two methods as conversations: each asks for the model's answers to rows, and ends with what it has found.

Generators, so that they know nothing of how a model is asked: `explain(row)` yields encoded rows (n, d), is sent the
model's answers to them, and returns what explains `row`.
"""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modelward.detect.answers import AnswerError, Output
from modelward.detect.encoding import Array
from modelward.explain.limits import affordable, trouble
from modelward.explain.linear import Linear
from modelward.explain.permutation import estimate, grouped, walks
from modelward.explain.target import Target

Mask = npt.NDArray[np.bool_]

CHECKED_ROWS = 63  # of the reference, on which weights must agree with the model


class MethodError(Exception):
    """A method that cannot be used with this model; the message says why, and the fix."""


class UnfaithfulError(Exception):
    """The weights are another model's than the one that answers."""


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a row's answer is what it is: `base + contributions.sum() == value`.

    `what`: the number that is explained, in words. `errors` (d): standard errors, and `unsure` (d): what of each may be
    chance; None: it is exact. `towards` (d): the contributions with the sign that they have for the answer that was
    given. `agreement`: by what the weights were found to be the model's.
    """

    what: str
    of_class: bool
    value: float
    base: float
    contributions: Array
    errors: Array | None
    towards: Array
    unsure: Array | None = None
    agreement: str = ""


Conversation = Generator[Array, Sequence[Output], Explained]


class Method(Protocol):
    """Explains rows. `references`: how many reference rows each is compared with."""

    references: int

    def explain(self, row: Array) -> Conversation:
        """Of an encoded row (d,). The answers that it is sent may be read with AnswerError; see each method."""


class ByWeights:
    """LinearSHAP. The model is asked once, whether it is the linear one that the weights are of.

    Args:
        linear: the weights.
        sample: reference rows (s, d).
        dropped: which columns (d) the model never gets; they have no part in the answer.
    """

    def __init__(self, linear: Linear, sample: Array, dropped: Mask) -> None:
        self._linear = linear
        self._mean = sample.mean(axis=0)
        self._checked = some(sample, CHECKED_ROWS)
        self._dropped = dropped
        self.references = len(sample)

    def explain(self, row: Array) -> Conversation:
        """Raises UnfaithfulError: the model's answers are not those of the weights; AnswerError: nor any at all."""
        linear = self._linear
        rows = np.vstack([row, np.where(self._dropped, row, self._checked)])
        outputs = yield rows
        with np.errstate(over="ignore", invalid="ignore"):
            if not np.isfinite(linear.weights * row).all():
                raise AnswerError("the row has values that are too large for the weights")
        agreement = linear.agreement(rows, outputs)
        if agreement is None:
            raise UnfaithfulError
        of_class = agreement != "values"
        chosen = int(linear.classes(rows[:1])[0])
        output = chosen if len(linear.bias) > 1 else 0
        mean = np.where(self._dropped, row, self._mean)
        contributions = linear.contributions(row, mean, output)
        # Of two classes there is one margin, the second's: what lowers it speaks for the first.
        against = of_class and len(linear.bias) == 1 and not chosen
        return Explained(
            what=linear.what(output, of_class=of_class),
            of_class=of_class,
            value=float(linear.margins(row)[output]),
            base=float(linear.margins(mean)[output]),
            contributions=contributions,
            errors=None,
            towards=-contributions if against else contributions,
            agreement=agreement,
        )


class ByWalks:
    """PermutationSHAP, of any model, by asking it about at most `budget` rows for each that is explained.

    Raises:
        MethodError: there are too many columns, or the budget is too small for them.
    """

    def __init__(self, sample: Array, dropped: Mask, budget: int) -> None:
        width = int((~dropped).sum())
        why = trouble(budget, width)
        if why:
            raise MethodError(why)
        self._walks = affordable(budget, width, len(sample))
        if not self._walks:
            raise MethodError(f"the baseline has {len(sample)} rows to compare with: fit it on more")
        self.references = min(self._walks, len(sample))
        self._rows = some(sample, self.references)
        self._dropped = dropped

    def explain(self, row: Array) -> Conversation:
        """See `Method.explain`. Raises AnswerError where the model's answers cannot be explained."""
        references = np.where(self._dropped, row, self._rows)
        ends = np.vstack([row, references])
        outputs = yield ends
        target = Target.of(outputs, len(ends))
        at_row, *at_references = target.read(outputs, len(ends)).tolist()
        starts = itertools.cycle(at_references)
        shares: list[Array] = []
        for group in grouped(walks(row, references, self._walks)):
            asked = np.vstack([walk.between() for walk in group])
            between = np.empty(0)
            if len(asked):
                outputs = yield asked
                between = target.read(outputs, len(asked))
            ends_at = np.cumsum([len(walk) for walk in group])[:-1]
            parts = zip(group, np.split(between, ends_at), strict=True)
            shares.extend(walk.shares(next(starts), part, at_row) for walk, part in parts)
        found = estimate(np.array(shares), np.array(at_references))
        return Explained(
            what=target.what,
            of_class=target.of_class,
            value=at_row,
            base=found.base,
            contributions=found.contributions,
            errors=found.errors,
            towards=found.contributions,
            unsure=found.beyond * found.errors,
        )


def some(sample: Array, most: int) -> Array:
    """At most `most` of the rows `sample` (s, d), by chance, and the same ones every time; (m, d)."""
    if len(sample) <= most:
        return sample
    return sample[np.sort(np.random.default_rng(0).choice(len(sample), most, replace=False))]
