"""Tails: how far out in its distribution each feature of a row is, summed over the features.

After ECOD (Li and others, 2022): the surprise at a value is -ln of the share of ordinary rows that lie at least as far
out, to the left or to the right; of a row's sums to the left, to the right, and to where each feature's longer tail is,
the greatest counts. Features count each by itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect import piecewise
from modelward.detect.archive import checked, prefixed
from modelward.detect.encoding import Array
from modelward.detect.piecewise import Piecewise

_KNOTS = 40


@dataclass(frozen=True, slots=True)
class Tails:
    """`left` and `right`: the surprise at each feature's value (m). `longer` (m): 1 where the longer tail is right."""

    left: Piecewise
    right: Piecewise
    longer: Array

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        left = {f"left.{name}": each for name, each in self.left.arrays().items()}
        right = {f"right.{name}": each for name, each in self.right.arrays().items()}
        return {**left, **right, "longer": self.longer}

    def scores(self, features: Array) -> Array:
        """The surprise at each of `features` (n, m); (n,)."""
        return self._summed(self.left.of_rows(features), self.right.of_rows(features))

    def score(self, row: Array) -> float:
        """The same of one row (m,)."""
        return float(self._summed(self.left.of_row(row)[np.newaxis], self.right.of_row(row)[np.newaxis])[0])

    def _summed(self, left: Array, right: Array) -> Array:
        left, right = np.maximum(left, 0), np.maximum(right, 0)
        longer = np.where(self.longer > 0, right, left)
        found: Array = np.max([left.sum(axis=1), right.sum(axis=1), longer.sum(axis=1)], axis=0)
        return found


def fit(features: Array, _rng: "np.random.Generator") -> Tails:
    """Of `features` (n, m)."""
    spread = features.std(axis=0)
    steep = 1 / np.where(spread > 0, spread, 1.0)
    none = np.zeros_like(steep)
    sides = [_sides(column) for column in features.T]
    left = piecewise.through([(knots, left) for knots, left, _ in sides], np.column_stack([-steep, none]))
    right = piecewise.through([(knots, right) for knots, _, right in sides], np.column_stack([none, steep]))
    skew = ((features - features.mean(axis=0)) ** 3).mean(axis=0)
    return Tails(left, right, np.where(skew >= 0, 1.0, -1.0))


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Tails:
    """One made again of what `Tails.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    left, right = (piecewise.read(prefixed(arrays, side), width) for side in ("left", "right"))
    longer = checked(arrays, "longer")
    if longer.shape != (width,):
        raise ValueError("longer")
    return Tails(left, right, longer)


def _sides(values: Array) -> tuple[Array, Array, Array]:
    """Knots, and the surprise to the left and to the right at each; they lie evenly in surprise, both ways."""
    distinct, counts = np.unique(values, return_counts=True)
    total = len(values) + 1
    below = np.cumsum(counts)
    left, right = -np.log(below / total), -np.log((len(values) - below + counts) / total)
    if len(distinct) > _KNOTS:
        steps = np.linspace(0, math.log(total), _KNOTS // 2)
        last = len(distinct) - 1
        chosen = [*np.searchsorted(right, steps).tolist(), *(last - np.searchsorted(left[::-1], steps)).tolist()]
        picked = np.unique(np.clip([0, *chosen, last], 0, last))
        distinct, left, right = distinct[picked], left[picked], right[picked]
    return distinct, left, right
