"""The detectors' views as one score: how surprising a row is to them, taken together.

Each view becomes a surprise, -ln of the share of held-back ordinary rows that are stranger in it, which means the same
for all views. Beyond nine tenths of those rows it goes on as steeply, over the logarithm of the view, as it came there
from the median: the last tenth may hold stray or poisoned rows, and would make light of others like them. The score is
the weighted mean, and something for the greatest, so that what only one view sees counts.
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
    "Mahalanobis": (0.5,),
    "Autoencoder": (0.5,),
    "IsolationForest": (0.5,),
}
_GREATEST = 0.25
_KNOTS = 32
_TRUSTED = 0.9  # of the held-back rows
_LEAST = 1e-2  # views below this are alike: the logarithm of zero is none


@dataclass(frozen=True, slots=True)
class Ensemble:
    """`parts`: types of detectors. Of their views, one after another: `surprise` (p) and `weights` (p), 1 in all."""

    parts: tuple[str, ...]
    surprise: Piecewise
    weights: Array

    def scores(self, views: Mapping[str, Array]) -> Array:
        """The score of each row, given the parts' views of the rows (v, n) by type; (n,)."""
        stacked = np.concatenate([views[part] for part in self.parts])
        surprises = np.maximum(self.surprise.of_rows(np.log(np.maximum(stacked.T, _LEAST))), 0)
        scores: Array = surprises @ self.weights + _GREATEST * surprises.max(axis=1)
        return scores

    def score(self, views: Mapping[str, Array]) -> float:
        """The same of one row, given the parts' views of it (v,)."""
        row = np.log(np.maximum(np.concatenate([views[part] for part in self.parts]), _LEAST))
        surprises = np.maximum(self.surprise.of_row(row), 0)
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


def read(arrays: dict[str, npt.NDArray[Any]], parts: Sequence[str], views: int | None = None) -> Ensemble:
    """One made again of what `Ensemble.arrays` gave, for `views` (v, n) of these parts (None: as many as it has).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    weights = checked(arrays, "weights")
    views = weights.size if views is None else views
    if weights.shape != (views,) or (weights < 0).any() or not 0.999 < weights.sum() < 1.001:
        raise ValueError("weights")
    return Ensemble(tuple(parts), piecewise.read(arrays, views), weights)


def _curve(view: Array) -> tuple[Array, Array, float]:
    """Knots at rising logarithms of the view, the surprise at each, and its slope beyond."""
    ordered = np.log(np.maximum(np.sort(view), _LEAST))
    count = len(ordered)
    surprise = np.linspace(0, -math.log1p(-_TRUSTED), _KNOTS)
    knots = ordered[np.minimum((count * -np.expm1(-surprise)).astype(np.intp), count - 1)]
    last = np.append(np.diff(knots) > 0, True)  # of equal views the most surprising
    run = max(float(knots[-1] - np.median(ordered)), 1e-3)
    return knots[last], surprise[last], math.log(0.5 / (1 - _TRUSTED)) / run
