"""The detectors' views as one score: how surprising a row is to them, taken together.

Each view becomes a surprise, -ln of the share of held-back ordinary rows that are stranger in it, which means the same
for all views; beyond the strangest of those it goes on as steeply as over the last tenth. The score is the weighted
mean, and something for the greatest, so that what only one view sees counts.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from modelward.detect import piecewise
from modelward.detect.archive import checked
from modelward.detect.encoding import Array
from modelward.detect.piecewise import Piecewise

# Neighbours find most; the others help where the reference is rotten, or lies along a few directions.
WEIGHTS: Final[dict[str, tuple[float, ...]]] = {
    "NearestNeighbours": (1.0,) * 6,
    "Mahalanobis": (0.25,),
    "Autoencoder": (0.25,),
    "IsolationForest": (0.25,),
}
_GREATEST = 0.25
_KNOTS = 48
_TAIL = math.log(10)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """`parts`: types of detectors. Of their views, one after another: `surprise` (p) and `weights` (p), 1 in all."""

    parts: tuple[str, ...]
    surprise: Piecewise
    weights: Array

    def scores(self, views: Mapping[str, Array]) -> Array:
        """The score of each row, given the parts' views of the rows (v, n) by type; (n,)."""
        stacked = np.concatenate([views[part] for part in self.parts])
        surprises = np.maximum(self.surprise.of_rows(stacked.T), 0)
        scores: Array = surprises @ self.weights + _GREATEST * surprises.max(axis=1)
        return scores

    def score(self, views: Mapping[str, Array]) -> float:
        """The same of one row, given the parts' views of it (v,)."""
        surprises = np.maximum(self.surprise.of_row(np.concatenate([views[part] for part in self.parts])), 0)
        return float(surprises.dot(self.weights) + _GREATEST * surprises.max())

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        return {"weights": self.weights, **self.surprise.arrays()}


def parts_of(detectors: Sequence[str]) -> tuple[str, ...]:
    """Which of these types of detectors count in the ensemble: all that have a weight, or all if none has."""
    return tuple(name for name in detectors if name in WEIGHTS) or tuple(detectors)


def fit(held_back: Mapping[str, Array]) -> Ensemble:
    """Of each detector's held-back views (v, n)."""
    parts = parts_of(list(held_back))
    weights = np.concatenate([WEIGHTS.get(part, np.ones(len(held_back[part]))) for part in parts])
    curves = [_curve(view) for part in parts for view in held_back[part]]
    ends = np.array([[0.0, slope] for _, _, slope in curves])
    points = [(knots, values) for knots, values, _ in curves]
    return Ensemble(parts, piecewise.through(points, ends), weights / weights.sum())


def read(arrays: dict[str, npt.NDArray[Any]], parts: Sequence[str], views: int) -> Ensemble:
    """What `arrays()` gave, for so many views of these parts.

    Raises:
        ValueError: it cannot be that.
    """
    weights = checked(arrays, "weights")
    if weights.shape != (views,) or (weights < 0).any() or not 0.999 < weights.sum() < 1.001:
        raise ValueError("weights")
    return Ensemble(tuple(parts), piecewise.read(arrays, views), weights)


def _curve(view: Array) -> tuple[Array, Array, float]:
    """Knots at rising scores, the surprise at each, and its slope beyond."""
    ordered = np.sort(view)
    count = len(ordered)
    most = math.log(count + 1)
    surprise = np.linspace(0, most, min(_KNOTS, count))
    ranks = np.minimum(((count + 1) * -np.expm1(-surprise)).astype(np.intp), count - 1)
    knots = ordered[ranks]
    last = np.append(np.diff(knots) > 0, True)  # of equal scores the most surprising
    knots, surprise = knots[last], surprise[last]
    start = float(np.quantile(ordered, 0.9))
    run = max(float(knots[-1]) - start, 1e-9 * max(float(knots[-1]), 1e-3))
    return knots, surprise, _TAIL / run
