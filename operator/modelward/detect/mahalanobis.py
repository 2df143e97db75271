"""Robust Mahalanobis distance: how far a row is from the bulk of the data, in the data's own scales and correlations.

The fit trims: it looks for the nine tenths of the rows that lie most closely together (the concentration steps of
Rousseeuw and Van Driessen's fast MCD, 1999, from a start without chance), so that a tenth of stray or poisoned rows
does not bend the picture. The covariance is shrunk (Ledoit and Wolf, 2004), so that it can be inverted when columns
nearly repeat one another or rows are few.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

KEPT = 0.9
MAX_STEPS = 20
_FARTHEST = 1e100  # deviations; farther is cut to this, so that no square overflows
_CONSISTENT = 1.4826  # median absolute deviation to standard deviation, for a normal distribution
_CONSTANT = 1e-6  # of its value: the scale given to a column that never varies


@dataclass(frozen=True, slots=True)
class Mahalanobis:
    """A fitted detector for rows of `d` columns.

    `centre` (d) and `scale` (d) standardise a row; `precision` (d, d) is the inverse covariance of standardised rows.
    """

    centre: Array
    scale: Array
    precision: Array

    def scores(self, rows: Array) -> Array:
        """The distance of each of `rows` (n, d), all finite; (n,), finite."""
        standard = self._standardise(rows)
        squares: Array = np.einsum("ij,ij->i", standard @ self.precision, standard)
        return np.sqrt(np.maximum(squares, 0.0))

    def score(self, row: Array) -> float:
        """The same of one row (m,)."""
        standard = self._standardise(row)
        return math.sqrt(max(standard.dot(self.precision).dot(standard), 0.0))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the file keeps."""
        return {"centre": self.centre, "scale": self.scale, "precision": self.precision}

    def deviations(self, row: Array) -> tuple[Array, Array]:
        """Why a row (d,) is far: each column's deviation by itself, and from what the other columns suggest; both (d,).

        The second is the standardised residual of the column's regression on the others.
        """
        standard = self._standardise(row[np.newaxis])[0]
        return standard, (self.precision @ standard) / np.sqrt(np.diag(self.precision))

    def _standardise(self, rows: Array) -> Array:
        reach = _FARTHEST * self.scale
        standard: Array = (
            np.minimum(np.maximum(rows, self.centre - reach), self.centre + reach) - self.centre
        ) / self.scale
        return standard


def fit(rows: Array, _rng: "np.random.Generator | None" = None) -> Mahalanobis:
    """Fit on `rows` (n, d), all finite, n of at least two. The same rows give the same detector."""
    centre, scale = _robust_scales(rows)
    standard = (rows - centre) / scale
    count = max(2, int(np.ceil(KEPT * len(rows))))
    # The start: rows whose columns are each near their median. Cut, so that one wild column does not decide alone.
    kept = _nearest((np.clip(standard, -3, 3) ** 2).sum(axis=1), count)
    for _ in range(MAX_STEPS):
        middle, precision = _shape(standard[kept])
        offset = standard - middle
        nearest = _nearest(np.einsum("ij,ij->i", offset @ precision, offset), count)
        if np.array_equal(nearest, kept):
            break
        kept = nearest
    middle, precision = _shape(standard[kept])
    return Mahalanobis(centre + middle * scale, scale, precision)


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Mahalanobis:
    """One made again of what `Mahalanobis.arrays` gave, for features (n, `width`).

    Raises:
        ValueError: an array is missing, or not of the type, shape or range that it has; the message is its name.
    """
    centre, scale, precision = (checked(arrays, name) for name in ("centre", "scale", "precision"))
    if centre.shape != (width,) or scale.shape != (width,) or precision.shape != (width, width):
        raise ValueError("centre, scale and precision are of other widths")
    if not (scale > 0).all():
        raise ValueError("scale")
    try:
        np.linalg.cholesky(precision)
    except np.linalg.LinAlgError as error:
        raise ValueError("precision") from error
    return Mahalanobis(centre, scale, precision)


def _robust_scales(rows: Array) -> tuple[Array, Array]:
    centre: Array = np.median(rows, axis=0)
    scale = _CONSISTENT * np.median(np.abs(rows - centre), axis=0)
    spread = np.std(rows, axis=0)
    scale = np.where(scale > 0, scale, spread)  # more than half of the values are the same
    floor = _CONSTANT * np.maximum(np.abs(centre), 1.0)
    return centre, np.asarray(np.maximum(scale, floor), dtype=np.float64)


def _nearest(squares: Array, count: int) -> npt.NDArray[np.intp]:
    return np.sort(np.argsort(squares, kind="stable")[:count])


def _shape(rows: Array) -> tuple[Array, Array]:
    """Mean and inverse shrunk covariance of `rows`."""
    middle: Array = rows.mean(axis=0)
    return middle, np.asarray(np.linalg.inv(shrunk_covariance(rows - middle)), dtype=np.float64)


def shrunk_covariance(centred: Array) -> Array:
    """Ledoit and Wolf's estimate for `centred` rows (n, d): towards a sphere, by as much as the sample is uncertain."""
    count, width = centred.shape
    sample = centred.T @ centred / count
    mean_variance = max(float(np.trace(sample)) / width, 1e-12)
    sphere = mean_variance * np.eye(width)
    spread = float(((sample - sphere) ** 2).sum())
    squares = (centred**2).sum(axis=1)
    noise = max(float((squares**2).mean() - (sample**2).sum()) / count, 0.0)
    weight = 1.0 if spread <= 0 else min(noise / spread, 1.0)
    # Never quite zero: a column that repeats another must leave the matrix invertible.
    weight = max(weight, 1e-9)
    shrunk: Array = weight * sphere + (1 - weight) * sample
    return shrunk
