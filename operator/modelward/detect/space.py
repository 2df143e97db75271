"""Where distances between rows are taken, and what distances ordinary rows have there.

Every feature is brought to the reference's own scale and cut at some deviations, so that no single one decides; wide
rows are projected by a fixed random rotation (Johnson and Lindenstrauss, 1984: distances stay the same within about an
eighth), so that what is remembered of each client stays small.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array
from modelward.detect.summary import Summary

Places = npt.NDArray[np.float32]
Features = Callable[[Array], Array]

MAX_DIMENSIONS = 32
SAME = 1e-4  # closer is a repetition
_MOST_DEVIATIONS = 8.0
_FLOOR = 1e-3  # of its value: the scale of a feature that does not vary
_STRANGE, _TYPICAL, _NEAR = 0.9, 0.5, 0.05


def numbers(rows: Array) -> Array:
    """The features of rows whose columns are all numbers: themselves."""
    return rows


@dataclass(frozen=True, slots=True)
class Space:
    """Distances among rows, as the sample of a summary has them.

    `landmarks` (m, k) are where the sample's rows lie. How far each is from its nearest other tells what is ordinary:
    one in ten is farther than `strange`, half are farther than `typical`, one in twenty is nearer than `near`.
    """

    features: Features
    centre: Array
    scale: Array
    rotation: Array | None
    landmarks: Places
    strange: float
    typical: float
    near: float

    @classmethod
    def of(cls, summary: Summary, features: Features = numbers) -> "Space":
        """The space of a summary; `features` makes of encoded rows (n, d) the numbers (n, w) to compare."""
        spread = features(summary.sample)
        centre = spread.mean(axis=0)
        scale = np.maximum(spread.std(axis=0), _FLOOR * np.maximum(np.abs(centre), 1.0))
        width = spread.shape[1]
        rotation = None
        if width > MAX_DIMENSIONS:
            rotation = np.random.default_rng(0).normal(size=(width, MAX_DIMENSIONS)) / np.sqrt(MAX_DIMENSIONS)
        bare = cls(features, centre, scale, rotation, np.empty((0, 0), dtype=np.float32), 0.0, 0.0, 0.0)
        landmarks = bare.place(summary.sample)
        apart = np.array([_nearest_other(landmarks, at) for at in range(len(landmarks))])
        strange, typical, near = (float(np.quantile(apart, share)) for share in (_STRANGE, _TYPICAL, _NEAR))
        return cls(features, centre, scale, rotation, landmarks, strange, typical, near)

    def standard(self, rows: Array) -> Array:
        """The features of encoded rows (n, d) on the reference's scale, cut; what is no number counts as farthest."""
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = (self.features(rows) - self.centre) / self.scale
        cut: Array = np.minimum(np.maximum(deviations, -_MOST_DEVIATIONS), _MOST_DEVIATIONS)
        cut[np.isnan(cut)] = _MOST_DEVIATIONS
        return cut

    def place(self, rows: Array) -> Places:
        """Where encoded rows (n, d) lie: (n, k), k <= MAX_DIMENSIONS."""
        at = self.standard(rows)
        return np.ascontiguousarray(at if self.rotation is None else at @ self.rotation, dtype=np.float32)


def _nearest_other(places: Places, at: int) -> float:
    apart = distances(places, places[at])
    apart[at] = np.inf
    return float(apart.min()) if len(apart) > 1 else 0.0


def distances(places: Places, place: Places) -> Places:
    """How far each of `places` (n, k) is from `place` (k,)."""
    apart = places - place
    squares: Places = np.einsum("ij,ij->i", apart, apart)
    return np.sqrt(squares)
