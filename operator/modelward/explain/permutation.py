"""PermutationSHAP: the Shapley values of any model, estimated within a budget of rows that it is asked.

A walk begins at a reference row and gives it the explained row's values, column by column, in an order drawn by chance;
what the model's answer changes by at each step is that column's share. Walked once more in the reverse order, the two
means cancel much of what the order decides (antithetic sampling, as in the `shap` package's PermutationExplainer;
Mitchell and others, 2022). Every walk has a reference row of its own: so the budget also goes to as many reference
rows as it can. The shares of each walk sum to the difference of the two answers, so that the reference's mean answer
and all contributions sum to the row's own answer, whatever the budget.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array

MIN_WALKS = 4
MAX_COLUMNS = 512


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
        rows = np.repeat(self.reference[np.newaxis], len(self), axis=0)
        half = len(self) // 2
        for step, column in enumerate(self.order):
            rows[step:half, column] = self.row[column]
            rows[half + len(self.order) - 1 - step :, column] = self.row[column]
        return rows

    def shares(self, at_reference: float, between: Array, at_row: float) -> Array:
        """What each column (d,) changed of the answer, from the answers at all rows of the walk."""
        shares = np.zeros(len(self.row))
        half = len(self) // 2
        for order, answers in ((self.order, between[:half]), (self.order[::-1], between[half:])):
            shares[order] += np.diff(answers, prepend=at_reference, append=at_row) / 2
        return shares


def walks(row: Array, references: Array, count: int) -> list[Walk]:
    """As many walks to `row` (d,), from each of the `references` (m, d) in turn; the same ones every time."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        reference = references[index % len(references)]
        made.append(Walk(row, reference, rng.permutation(np.flatnonzero(row != reference))))
    return made


def affordable(budget: int, width: int, references: int) -> int:
    """How many walks a budget of rows allows over `width` columns: as many from each of so many reference rows.

    A walk costs at most 2 (width - 1) rows, and one for its reference; the explained row itself costs one. 0: too few.
    """
    count = (budget - 1) // (2 * (width - 1) + 1)
    if count > references:
        count -= count % references
    return count if count >= MIN_WALKS else 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """`base + contributions.sum()` is the explained row's answer.

    `errors` (d): the standard error of each contribution, by how much walks differ: it holds what the orders leave to
    chance and what the choice of reference rows does. What matters in fewer walks than one of all is not seen.
    """

    base: float
    contributions: Array
    errors: Array


def estimate(made: Sequence[Walk], at_row: float, at_references: Array, between: Array) -> Estimate:
    """From the answers at the row, at each reference row (m), and at all rows between, walk after walk."""
    shares = np.empty((len(made), len(made[0].row)))
    start = 0
    for index, walk in enumerate(made):
        stop = start + len(walk)
        at_reference = float(at_references[index % len(at_references)])
        shares[index] = walk.shares(at_reference, between[start:stop], at_row)
        start = stop
    errors = shares.std(axis=0, ddof=1) / np.sqrt(len(made))
    return Estimate(float(at_references.mean()), shares.mean(axis=0), errors)


def in_parts(made: Sequence[Walk], most: int) -> Iterator[Array]:
    """The rows between of all walks, in order, at most so many at a time."""
    held = np.empty((0, len(made[0].row)))
    for walk in made:
        held = np.concatenate([held, walk.between()])
        while len(held) >= most:
            yield held[:most]
            held = held[most:]
    if len(held):
        yield held
