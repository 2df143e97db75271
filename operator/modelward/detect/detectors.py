"""The detectors of single rows, by the type that users write."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from modelward.detect import autoencoder, forest, mahalanobis, neighbours, tails
from modelward.detect.encoding import Array

ENSEMBLE: Final = "Ensemble"
Arrays = dict[str, npt.NDArray[Any]]


class Detector(Protocol):
    """Something fitted on features that says of others how strange they are, in one view or several."""

    def views(self, features: Array) -> Array:
        """How strange each of `features` (n, m) is in each view; (v, n), none negative."""

    def view(self, row: Array) -> Array:
        """The same of one row (m,), as fast as can be; (v,)."""

    def overall(self, views: Array) -> Array:
        """The detector's own score of its views (v, ...); (...)."""

    def arrays(self) -> Arrays:
        """What the file keeps of it."""


class _Scores(Protocol):
    def scores(self, features: Array) -> Array: ...

    def score(self, row: Array) -> float: ...

    def arrays(self) -> Arrays: ...


@dataclass(frozen=True, slots=True)
class Single:
    """A detector of one view: its score."""

    of: _Scores

    def views(self, features: Array) -> Array:
        """See `Detector`."""
        return self.of.scores(features)[np.newaxis]

    def view(self, row: Array) -> Array:
        """See `Detector`."""
        return np.array([self.of.score(row)])

    def overall(self, views: Array) -> Array:
        """See `Detector`."""
        found: Array = views[0]
        return found

    def arrays(self) -> Arrays:
        """See `Detector`."""
        return self.of.arrays()


class Kind(NamedTuple):
    """How a type of detector is fitted on features (n, m), and made again of its arrays for features of width m.

    `read` raises ValueError when the arrays cannot be right.
    """

    fit: Callable[[Array, "np.random.Generator"], Detector]
    read: Callable[[Arrays, int], Detector]


def _single(fit: Callable[[Array, "np.random.Generator"], _Scores], read: Callable[[Arrays, int], _Scores]) -> Kind:
    return Kind(lambda features, rng: Single(fit(features, rng)), lambda arrays, width: Single(read(arrays, width)))


KINDS: Final[dict[str, Kind]] = {
    "Mahalanobis": _single(lambda features, _: mahalanobis.fit(features), mahalanobis.read),
    "NearestNeighbours": Kind(neighbours.fit, neighbours.read),
    "Autoencoder": _single(autoencoder.fit, autoencoder.read),
    "IsolationForest": _single(forest.fit, forest.read),
    "Tails": _single(tails.fit, tails.read),
}
