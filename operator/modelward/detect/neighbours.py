"""Nearest neighbours: how far a row is from the rows most like it.

The reference is condensed to a sample, drawn without regard to the values, that is small enough to lie in a
processor's cache; the score is the mean distance to the nearest `NEIGHBOURS` of it (Ramaswamy and others, 2000;
Angiulli and Pizzuti, 2002).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelward.detect.archive import checked
from modelward.detect.encoding import Array

NEIGHBOURS = 5
MAX_REFERENCE = 3000
MAX_REFERENCE_VALUES = 120_000
_CHUNK = 1 << 22  # distances held at once


@dataclass(frozen=True, slots=True)
class Neighbours:
    """`reference` (r, m): features of ordinary rows. `squares` (r): their squared lengths."""

    reference: npt.NDArray[np.float32]
    squares: npt.NDArray[np.float32]

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """What the file keeps."""
        return {"reference": self.reference}

    def scores(self, features: Array) -> Array:
        """The mean distance of each of `features` (n, m) to its nearest reference rows; (n,)."""
        count = min(NEIGHBOURS, len(self.reference))
        step = max(1, _CHUNK // len(self.reference))
        scores = np.empty(len(features))
        for start in range(0, len(features), step):
            part = features[start : start + step].astype(np.float32)
            squares = self.squares - 2 * (part @ self.reference.T)
            squares += np.einsum("ij,ij->i", part, part)[:, np.newaxis]
            nearest = np.partition(squares, count - 1, axis=1)[:, :count]
            scores[start : start + step] = np.sqrt(np.maximum(nearest, 0)).mean(axis=1)
        return scores


def fit(features: Array, rng: np.random.Generator) -> Neighbours:
    """Keep a sample of `features` (n, m)."""
    most = max(50, min(MAX_REFERENCE, MAX_REFERENCE_VALUES // features.shape[1]))
    if len(features) > most:
        features = features[np.sort(rng.choice(len(features), most, replace=False))]
    return _of(features.astype(np.float32))


def read(arrays: dict[str, npt.NDArray[Any]], width: int) -> Neighbours:
    """What `arrays()` gave, for `width` features.

    Raises:
        ValueError: it cannot be that.
    """
    reference = checked(arrays, "reference", np.float32)
    if reference.ndim != 2 or reference.shape[1] != width or not len(reference):
        raise ValueError("reference")
    return _of(np.ascontiguousarray(reference))


def _of(reference: npt.NDArray[np.float32]) -> Neighbours:
    return Neighbours(reference, np.einsum("ij,ij->i", reference, reference))
