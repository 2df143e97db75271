"""Nearest neighbours: how far a row is from the rows most like it.

The reference is condensed to a sample, drawn without regard to the values, that is small enough to lie in a
processor's cache. Distances are taken in three spaces, since none is right for all data: of features on their robust
scale, on their whole range, and as uncorrelated normal scores. In each space a row is held against the nearest two rows
of the reference, and against the nearest five of those nine tenths that an isolation forest finds least strange: the
first is the sharper where the reference is clean, the second holds where stray or poisoned rows are in it. (Distances
to neighbours as a score: Ramaswamy and others, 2000; Angiulli and Pizzuti, 2002.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect import forest, normal
from modelward.detect.archive import checked, prefixed
from modelward.detect.encoding import Array
from modelward.detect.normal import NormalScores

Matrix = npt.NDArray[np.float32]

MAX_REFERENCE = 3000
MAX_REFERENCE_VALUES = 90_000
KEPT = 0.9
NEAREST = 2
FEW = 5
SPACES = 3
_TREES = 30
_CHUNK = 1 << 22  # distances held at once


@dataclass(frozen=True, slots=True)
class Space:
    """`points` (r, m): the reference in it, around `centre` (m), and the `squares` (r) of their lengths."""

    centre: Array
    points: Matrix
    squares: Matrix


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`reference` (r, m): features of ordinary rows, the `kept` least strange of them first.

    `unit` (m): one over the range of each feature. `scale` (6): the usual distance in each view.
    """

    reference: Matrix
    kept: int
    unit: Array
    scores_of: NormalScores
    scale: Array
    spaces: tuple[Space, ...]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        curves = {f"normal.{name}": each for name, each in self.scores_of.arrays().items()}
        kept = np.array([self.kept])
        return {"reference": self.reference, "kept": kept, "unit": self.unit, "scale": self.scale, **curves}

    def views(self, features: Array) -> Array:
        """Six mean distances of each of `features` (n, m), as multiples of what is usual; (6, n).

        The first three are to the nearest two rows of the reference in each space, the others to the nearest five of
        those kept.
        """
        features = _rounded(features)
        placed = (features, features * self.unit, self.scores_of.of_rows(features))
        step = max(1, _CHUNK // len(self.reference))
        found = np.empty((2 * SPACES, len(features)))
        for index, (space, rows) in enumerate(zip(self.spaces, placed, strict=True)):
            for start in range(0, len(rows), step):
                part = (rows[start : start + step] - space.centre).astype(np.float32)
                squares = space.squares - 2 * (part @ space.points.T)
                squares += np.einsum("ij,ij->i", part, part)[:, np.newaxis]
                here = slice(start, start + step)
                for view, rest, count in ((index, squares, NEAREST), (SPACES + index, squares[:, : self.kept], FEW)):
                    near = np.partition(rest, count - 1, axis=1)[:, :count]
                    found[view, here] = np.sqrt(np.maximum(near, 0)).mean(axis=1)
        return found / self.scale[:, np.newaxis]

    def view(self, row: Array) -> Array:
        """The same of one row (m,); (6,)."""
        row = _rounded(row)
        placed = (row, row * self.unit, self.scores_of.of_row(row))
        nearest, few = [], []
        for space, place in zip(self.spaces, placed, strict=True):
            point = (place - space.centre).astype(np.float32)
            squares = space.squares - (2 * point).dot(space.points.T)
            squares += point.dot(point)
            nearest.append(np.partition(squares, NEAREST - 1)[:NEAREST])
            few.append(np.partition(squares[: self.kept], FEW - 1)[:FEW])
        distances = [np.sqrt(np.maximum(near, 0)).mean(axis=1) for near in (nearest, few)]
        found: Array = np.concatenate(distances) / self.scale
        return found

    def overall(self, views: Array) -> Array:
        """One score of the views (6, ...): how many times as far as usual from its neighbours a row is."""
        mean: Array = views.mean(axis=0)
        return mean


def fit(features: Array, rng: "np.random.Generator") -> Neighbours:
    """Keep a sample of `features` (n, m), n at least 30."""
    features = _rounded(features)
    most = max(50, min(MAX_REFERENCE, MAX_REFERENCE_VALUES // features.shape[1]))
    kept = features
    if len(features) > most:
        kept = features[np.sort(rng.choice(len(features), most, replace=False))]
    strange = forest.fit(features, rng, _TREES).scores(kept)
    reference = kept[np.argsort(strange, kind="stable")].astype(np.float32)
    span = np.ptp(features, axis=0)
    unit = 1 / np.where(span > 0, span, 1.0)
    count = max(FEW, round(KEPT * len(reference)))
    ones = np.ones(2 * SPACES)
    unscaled = _assembled(reference, count, unit, normal.fit(features), ones)
    return _assembled(reference, count, unit, unscaled.scores_of, _usual(unscaled))


def _rounded(features: Array) -> Array:
    """As the file keeps them, so that what is equal stays equal."""
    return features.astype(np.float32).astype(np.float64)


def _usual(unscaled: Neighbours) -> Array:
    """The median distance in each view of reference rows to others, by the few nearest, themselves among them."""
    distances = unscaled.views(unscaled.reference.astype(np.float64))[SPACES:]
    usual = np.maximum(np.median(distances, axis=1), 1e-6)
    return np.concatenate([usual, usual])


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Neighbours:
    """One made again of what `Neighbours.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    reference, kept = checked(arrays, "reference", np.float32), checked(arrays, "kept", np.int64)
    unit, scale = checked(arrays, "unit"), checked(arrays, "scale")
    if reference.ndim != 2 or reference.shape[1] != width or kept.shape != (1,):
        raise ValueError("reference")
    if not FEW <= int(kept[0]) <= len(reference):
        raise ValueError("kept")
    if unit.shape != (width,) or scale.shape != (2 * SPACES,) or not (scale > 0).all():
        raise ValueError("unit and scale")
    scores_of = normal.read(prefixed(arrays, "normal"), width)
    return _assembled(np.ascontiguousarray(reference), int(kept[0]), unit, scores_of, scale)


def _assembled(reference: Matrix, kept: int, unit: Array, scores_of: NormalScores, scale: Array) -> Neighbours:
    rows = reference.astype(np.float64)
    spaces = tuple(_space(each) for each in (rows, rows * unit, scores_of.of_rows(rows)))
    return Neighbours(reference, kept, unit, scores_of, scale, spaces)


def _space(rows: Array) -> Space:
    centre = np.median(rows, axis=0)
    points = (rows - centre).astype(np.float32)
    return Space(centre, points, np.einsum("ij,ij->i", points, points))
