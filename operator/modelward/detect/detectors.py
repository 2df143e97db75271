"""The detectors of single rows, by the type that users write."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from modelward.detect import mahalanobis, neighbours
from modelward.detect.encoding import Array

ENSEMBLE: Final = "Ensemble"
Arrays = dict[str, npt.NDArray[Any]]


class Detector(Protocol):
    """Something fitted on features that says of others how strange they are."""

    def scores(self, features: Array) -> Array:
        """How strange each of `features` (n, m) is; (n,), none negative."""

    def arrays(self) -> Arrays:
        """What the file keeps of it."""


class Kind(NamedTuple):
    """How a type of detector is fitted on features (n, m), and made again of its arrays for features of width m.

    `read` raises ValueError when the arrays cannot be right; KeyError when one is missing.
    """

    fit: Callable[[Array, np.random.Generator], Detector]
    read: Callable[[Arrays, int], Detector]


KINDS: Final[dict[str, Kind]] = {
    "Mahalanobis": Kind(lambda features, _: mahalanobis.fit(features), mahalanobis.read),
    "NearestNeighbours": Kind(neighbours.fit, neighbours.read),
}
