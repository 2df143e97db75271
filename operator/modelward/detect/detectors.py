"""The detectors of single rows, by the type that users write."""

import importlib
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

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
        """What the file keeps of it: arrays by name, of which `Kind.read` makes it again."""


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


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of detector. Its module is loaded when it is first used: a sidecar holds no more than it is asked for.

    The module has `fit(features, rng)` and `read(arrays, width)`. `several`: what they give sees in several views by
    itself, where the others give one score.
    """

    module: str
    several: bool = False

    def fit(self, features: Array, rng: "np.random.Generator") -> Detector:
        """One fitted on features (n, m)."""
        return self._detector(self._loaded().fit(features, rng))

    def read(self, arrays: Arrays, width: int) -> Detector:
        """One made again of its arrays, for features of width m; raises ValueError when they cannot be right."""
        return self._detector(self._loaded().read(arrays, width))

    def _loaded(self) -> Any:
        return importlib.import_module(f"modelward.detect.{self.module}")

    def _detector(self, made: Any) -> Detector:
        detector: Detector = made if self.several else Single(made)
        return detector


KINDS: Final[dict[str, Kind]] = {
    "Mahalanobis": Kind("mahalanobis"),
    "NearestNeighbours": Kind("neighbours", several=True),
    "Autoencoder": Kind("autoencoder"),
    "IsolationForest": Kind("forest"),
    "Tails": Kind("tails"),
}
