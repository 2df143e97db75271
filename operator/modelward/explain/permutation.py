"""PermutationSHAP: the Shapley values of any model, estimated within a budget of rows that it is asked.

A walk begins at a reference row and gives it the explained row's values, column by column, in an order drawn by chance;
what the model's answer changes by at each step is that column's share. Walked once more in the reverse order, the two
means cancel much of what the order decides (antithetic sampling, as in the `shap` package's PermutationExplainer;
Mitchell and others, 2022). Every walk has a reference row of its own: so the budget also goes to as many reference
rows as it can. The shares of each walk sum to the difference of the two answers, so that the reference's mean answer
and all contributions sum to the row's own answer, whatever the budget.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array

_AT_ONCE = 32  # walks, and rows between, that are made at once: a millisecond's work at the most
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Walk:
    """From a reference row to the explained one. `order` (q): the columns in which they differ."""

    row: Array
    reference: Array
    order: npt.NDArray[np.intp]

    def __len__(self) -> int:
        """How many rows lie between the two, both ways."""
        return 2 * max(len(self.order) - 1, 0)

    def between(self) -> Array:
        """The rows (n, d) between the two: there in the order, and there again in the reverse order."""
        count = len(self.order)
        turns = np.full(len(self.row), count)
        turns[self.order] = np.arange(count)
        steps = np.arange(1, count)[:, np.newaxis]
        given = np.vstack([turns < steps, count - 1 - turns < steps])
        return np.where(given, self.row, self.reference)

    def shares(self, at_reference: float, between: Array, at_row: float) -> Array:
        """What each column (d,) changed of the answer, from the answers at all rows of the walk."""
        shares = np.zeros(len(self.row))
        half = len(between) // 2
        answers = np.empty(half + 2)
        answers[0], answers[-1] = at_reference, at_row
        for order, found in ((self.order, between[:half]), (self.order[::-1], between[half:])):
            if len(order):
                answers[1:-1] = found
                shares[order] += (answers[1:] - answers[:-1]) / 2
        return shares


def walks(row: Array, references: Array, count: int) -> Iterator[Walk]:
    """As many walks to `row` (d,), from each of the `references` (m, d) in turn; the same ones every time."""
    rng = np.random.default_rng(0)
    for index in range(count):
        reference = references[index % len(references)]
        yield Walk(row, reference, rng.permutation(np.flatnonzero(row != reference)))


def grouped(made: Iterable[Walk]) -> Iterator[list[Walk]]:
    """The walks, a few at a time: about as many as the model is asked about in one call."""
    group: list[Walk] = []
    for walk in made:
        if group and (len(group) == _AT_ONCE or sum(map(len, group)) + len(walk) > _ROWS_AT_ONCE):
            yield group
            group = []
        group.append(walk)
    if group:
        yield group


@dataclass(frozen=True, slots=True)
class Estimate:
    """`base + contributions.sum()` is the explained row's answer.

    `errors` (d): the standard error of each contribution, by how much walks differ: it holds what the orders leave to
    chance and what the choice of reference rows does. What matters in fewer walks than one of all is not seen.
    `beyond`: of so many errors or less a contribution may be chance (once in twenty of those that are).
    """

    base: float
    contributions: Array
    errors: Array
    beyond: float


def estimate(shares: Array, at_references: Array) -> Estimate:
    """From the shares (n, d) of all walks, and the answers at the reference rows (m), as many walks from each."""
    errors = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return Estimate(float(at_references.mean()), shares.mean(axis=0), errors, _student(len(shares) - 1))


def _student(freedom: int) -> float:
    """The 97.5 % point of Student's t, to 1 % from 3 degrees on (Abramowitz and Stegun, 26.7.5).

    An error that is itself estimated, from four walks perhaps, takes more of it than the normal's 1.96 to be sure.
    """
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term * (1.0 / freedom) ** power for power, term in enumerate(terms, 1))
