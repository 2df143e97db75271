"""Normal scores: each feature brought to the shape of a normal distribution by its ranks, then all made uncorrelated.

Ranks (Van der Waerden, 1952) take away skewness and long tails; what is left of correlation is that of the data's
Gaussian copula, and whitening takes it away. Beyond what was seen a feature goes on in its own deviations.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect import piecewise
from modelward.detect.archive import checked, prefixed
from modelward.detect.encoding import Array
from modelward.detect.mahalanobis import shrunk_covariance
from modelward.detect.piecewise import Piecewise

_KNOTS = 48
_LEAST_VARIANCE = 1e-3  # of the greatest: directions with less are noise, and are not blown up


@dataclass(frozen=True, slots=True)
class NormalScores:
    """`curves`: from each feature (m) to its normal score. `whiten` (m, m): from normal scores to uncorrelated ones."""

    curves: Piecewise
    whiten: Array

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file keeps."""
        return {"whiten": self.whiten, **{f"curves.{name}": each for name, each in self.curves.arrays().items()}}

    def of_rows(self, features: Array) -> Array:
        """Uncorrelated normal scores of `features` (n, m)."""
        scores: Array = self.curves.of_rows(features) @ self.whiten
        return scores

    def of_row(self, row: Array) -> Array:
        """The same of one row (m,)."""
        scores: Array = self.curves.of_row(row) @ self.whiten
        return scores


def fit(features: Array) -> NormalScores:
    """Of `features` (n, m)."""
    spread = features.std(axis=0)
    ends = 1 / np.where(spread > 0, spread, 1.0)
    curves = piecewise.through([_curve(column) for column in features.T], np.column_stack([ends, ends]))
    scores = curves.of_rows(features)
    deviation = scores.std(axis=0)
    unit = 1 / np.where(deviation > 0, deviation, 1.0)
    scores = (scores - scores.mean(axis=0)) * unit
    values, axes = np.linalg.eigh(shrunk_covariance(scores))
    values = np.maximum(values, _LEAST_VARIANCE * values[-1])
    return NormalScores(curves, unit[:, np.newaxis] * axes / np.sqrt(values))


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> NormalScores:
    """One made again of what `NormalScores.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    whiten = checked(arrays, "whiten")
    if whiten.shape != (width, width):
        raise ValueError("whiten")
    return NormalScores(piecewise.read(prefixed(arrays, "curves"), width), whiten)


def _curve(values: Array) -> tuple[Array, Array]:
    """Knots at values whose normal scores lie about evenly, and those scores; equal values share their middle rank."""
    distinct, counts = np.unique(values, return_counts=True)
    middle = (np.cumsum(counts) - (counts - 1) / 2) / (len(values) + 1)
    if len(distinct) > _KNOTS:
        most = NormalDist().inv_cdf(len(values) / (len(values) + 1))
        wanted = [NormalDist().cdf(score) for score in np.linspace(-most, most, _KNOTS).tolist()]
        last = len(distinct) - 1
        chosen = np.unique([0, *np.minimum(np.searchsorted(middle, wanted), last).tolist(), last])
        distinct, middle = distinct[chosen], middle[chosen]
    return distinct, np.array([NormalDist().inv_cdf(share) for share in middle.tolist()])
