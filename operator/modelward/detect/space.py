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
_STRANGE, _TYPICAL, _NEAR, _INWARD = 0.9, 0.5, 0.05, 0.1
_NEIGHBOURS = 5


def numbers(rows: Array) -> Array:
    """The features of rows whose columns are all numbers: themselves."""
    return rows


@dataclass(frozen=True, slots=True)
class Frame:
    """What brings rows onto the scale of a summary's sample."""

    features: Features
    centre: Array
    scale: Array
    rotation: Array | None

    @classmethod
    def of(cls, summary: Summary, features: Features = numbers) -> "Frame":
        """The frame of a summary; `features` makes of encoded rows (n, d) the numbers (n, w) to compare."""
        spread = features(summary.sample)
        centre = spread.mean(axis=0)
        scale = np.maximum(spread.std(axis=0), _FLOOR * np.maximum(np.abs(centre), 1.0))
        width = spread.shape[1]
        rotation = None
        if width > MAX_DIMENSIONS:
            rotation = np.random.default_rng(0).normal(size=(width, MAX_DIMENSIONS)) / np.sqrt(MAX_DIMENSIONS)
        return cls(features, centre, scale, rotation)

    def standard(self, rows: Array) -> Array:
        """The features of encoded rows (n, d) on the sample's scale, cut; what is no number counts as farthest."""
        with np.errstate(over="ignore", invalid="ignore"):
            deviations = (self.features(rows) - self.centre) / self.scale
        cut: Array = np.minimum(np.maximum(deviations, -_MOST_DEVIATIONS), _MOST_DEVIATIONS)
        cut[np.isnan(cut)] = _MOST_DEVIATIONS
        return cut

    def place(self, rows: Array) -> Places:
        """Where encoded rows (n, d) lie: (n, k), k <= MAX_DIMENSIONS."""
        at = self.standard(rows)
        return np.ascontiguousarray(at if self.rotation is None else at @ self.rotation, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Space:
    """Distances among rows, as the sample of a summary has them.

    `landmarks` (m, k) are where the sample's rows lie, `reaches` (m) how far from the middle. How far each is from its
    nearest other tells what is ordinary: one in ten is farther than `strange`, half are farther than `typical`, one in
    twenty is nearer than `near`. One in ten has less `outwardness` than `inward`.
    """

    frame: Frame
    landmarks: Places
    reaches: Places
    strange: float
    typical: float
    near: float
    inward: float

    @classmethod
    def of(cls, summary: Summary, features: Features = numbers) -> "Space":
        """The space of a summary, as `Frame.of`."""
        frame = Frame.of(summary, features)
        landmarks = frame.place(summary.sample)
        bare = cls(frame, landmarks, np.sqrt(_squares(landmarks)), 0.0, 0.0, 0.0, 0.0)
        apart = np.stack([distances(landmarks, place) for place in landmarks])
        np.fill_diagonal(apart, np.inf if len(apart) > 1 else 0.0)
        nearest = apart.min(axis=1)
        strange, typical, near = (float(np.quantile(nearest, share)) for share in (_STRANGE, _TYPICAL, _NEAR))
        inward = float(np.quantile(bare.outwardness(landmarks, apart), _INWARD))
        return cls(frame, landmarks, bare.reaches, strange, typical, near, inward)

    def place(self, rows: Array) -> Places:
        """Where encoded rows (n, d) lie: (n, k)."""
        return self.frame.place(rows)

    def to_landmarks(self, places: Places) -> Places:
        """How far each of `places` (n, k) is from each landmark: (n, m), good for what is not very near."""
        squares = _squares(places)[:, np.newaxis] + self.reaches**2 - 2 * (places @ self.landmarks.T)
        return np.sqrt(np.maximum(squares, 0.0))

    def outwardness(self, places: Places, apart: Places) -> Places:
        """How far from the middle each of `places` lies, over what its nearest landmarks do; `apart` is to_landmarks.

        What is averaged of several rows lies nearer to the middle than the rows about it.
        """
        count = min(_NEIGHBOURS, len(self.landmarks) - 1)
        if not count:
            return np.ones(len(places), dtype=np.float32)
        about = self.reaches[np.argpartition(apart, count - 1, axis=1)[:, :count]].mean(axis=1)
        outward: Places = np.sqrt(_squares(places)) / np.maximum(about, 1e-6)
        return outward


def distances(places: Places, place: Places) -> Places:
    """How far each of `places` (n, k) is from `place` (k,)."""
    return np.sqrt(_squares(places - place))


def _squares(places: Places) -> Places:
    squares: Places = np.einsum("ij,ij->i", places, places)
    return squares
