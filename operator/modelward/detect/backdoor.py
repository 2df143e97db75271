"""STRIP: an input that carries a backdoor's trigger keeps its answer, whatever is laid over it.

Each row is asked again with rows of ordinary data superimposed. The answers to an ordinary row then go here and there;
a trigger goes through to its target each time. The measure is the entropy of the mean answer: of the labels' shares
for a model that gives labels alone (Gao, Xu, Wang, Chen, Ranasinghe and Nepal, 2019, who take the mean of the
entropies, which needs scores and misses a model that is sure of each of its different answers).
"""

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from modelward.detect.answers import Answers, Form
from modelward.detect.encoding import Array
from modelward.detect.probing import MAX_EXTRA, ProbeError
from modelward.detect.surroundings import Surroundings

DEFAULT_EXTRA: Final = 32


@dataclass(frozen=True, slots=True)
class Backdoor:
    """Probes for one model. `around` (with the ordinary rows `around.sample`) says what its rows may look like."""

    around: Surroundings
    extra: int = DEFAULT_EXTRA

    def __post_init__(self) -> None:
        if not 2 <= self.extra <= MAX_EXTRA:
            raise ProbeError(f"a backdoor is looked for with 2 to {MAX_EXTRA} rows more for each row, not {self.extra}")

    @property
    def name(self) -> str:
        """The detector's type."""
        return "Backdoor"

    @property
    def measured(self) -> tuple[str, ...]:
        """What the measure says."""
        return ("the answer stays as it is whatever is laid over the row",)

    @property
    def groups(self) -> tuple[int, ...]:
        """One measure."""
        return (1,)

    def taught(self, rows: Array, given: Answers) -> Self:  # noqa: ARG002 - the answers to the sample do not matter
        """The same."""
        return self

    def probes(self, rows: Array, rng: np.random.Generator) -> Array:
        """Rows (n * extra, d): each of `rows` with rows of the sample superimposed.

        Images are added and cut at the brightest, so that a trigger stays whole if it is brighter than its
        surroundings; a dark one does not. Of other rows, a random half of the columns are the sample's.
        """
        origins = np.repeat(rows, self.extra, axis=0)
        chosen = self.around.sample[rng.integers(len(self.around.sample), size=len(origins))]
        if self.around.image is not None:
            within = self.around.fitted(origins, origins)  # first, so that no sum overflows
            # What is brighter than any ordinary pixel may be the trigger, and stays.
            return np.maximum(self.around.fitted(within + chosen - self.around.lower, origins), origins)
        theirs = rng.integers(2, size=origins.shape) > 0
        return np.where(theirs, chosen, origins)

    def measures(self, rows: Array, given: Answers, probed: Answers) -> Array:  # noqa: ARG002
        """How little each row's answers vary: their negative entropy, in nats; (n, 1)."""
        if probed.scores is not None:
            shares = probed.scores.reshape(len(rows), self.extra, -1).mean(axis=1)
        elif probed.labels is not None:
            shares = _shares(probed.labels.reshape(len(rows), self.extra))
        else:
            raise ProbeError(_NO_CLASSES)
        logarithms = np.log(np.where(shares > 0, shares, 1.0))
        negative: Array = (shares * logarithms).sum(axis=1, keepdims=True)
        return negative

    def highest(self, form: Form) -> float:
        """No entropy at all.

        Raises:
            ProbeError: the model does not answer with classes.
        """
        if form.kind == "Values":
            raise ProbeError(_NO_CLASSES)
        return 0.0


_NO_CLASSES = (
    "a backdoor is looked for in models that answer with classes; this one answers with a number: leave it out"
)


def _shares(labels: npt.NDArray[Any]) -> Array:
    """The shares of the labels in each row of `labels` (n, k), in no particular order; (n, k), zeros behind."""
    shares = np.zeros(labels.shape)
    for index, row in enumerate(labels):
        counts = np.unique(row, return_counts=True)[1]
        shares[index, : len(counts)] = counts / labels.shape[1]
    return shares
