"""Backdoors: an input that carries a trigger keeps its answer, whatever is laid over it.

As STRIP does (Gao, Xu, Wang, Chen, Ranasinghe and Nepal, 2019), each row is asked again with ordinary rows
superimposed. The answers to an ordinary row then go here and there; a trigger goes through to its target each time.
Two things are not as in STRIP, whose entropy of single superpositions let a fifth and more of the triggers in small
networks pass: several ordinary rows are laid over an image at once, of which it is worn down and the trigger is not;
and the measure is how much oftener the row's own answer comes than it comes to superpositions in general, so that an
answer that any mixture gets is no sign of anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from modelward.detect.answers import Answers, Form
from modelward.detect.encoding import Array
from modelward.detect.probing import MAX_EXTRA, ProbeError
from modelward.detect.surroundings import Surroundings

DEFAULT_EXTRA: Final = 32
OVERLAYS: Final = 3


@dataclass(frozen=True, slots=True)
class Backdoor:
    """Probes for one model.

    `around` (with the ordinary rows `around.sample`) says what its rows may look like. `usual`: the share that each
    answer has among those to superpositions of rows that are answered otherwise, once the model was asked.
    """

    around: Surroundings
    extra: int = DEFAULT_EXTRA
    usual: Mapping[Any, float] = field(default_factory=dict)

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

    def taught(self, rows: Array, given: Answers, probed: Answers) -> Self:  # noqa: ARG002 - the answers are enough
        """The same, knowing how often each answer comes to superpositions of rows that are answered otherwise.

        Args:
            rows: ordinary ones (n, d).
            given: the answers to them (n).
            probed: those to `probes(rows)` (n * extra).
        """
        labels = _labels(given)
        usual = {}
        for label in np.unique(labels).tolist():
            others = np.flatnonzero(np.repeat(labels != label, self.extra))
            usual[label] = float(_shares(probed.at(others), label).mean()) if len(others) else 0.0
        return replace(self, usual=usual)

    def probes(self, rows: Array, rng: "np.random.Generator") -> Array:
        """Rows (n * extra, d): each of `rows` with rows of the sample superimposed.

        Images are added and cut at the brightest, so that a trigger stays whole if it is brighter than its
        surroundings; a dark one does not. Of other rows, a random half of the columns are the sample's.
        """
        origins = np.repeat(rows, self.extra, axis=0)
        if self.around.image is None:
            return np.where(rng.integers(2, size=origins.shape) > 0, self._drawn(len(origins), rng), origins)
        mixed = self.around.fitted(origins, origins)  # first, so that no sum overflows
        for _ in range(OVERLAYS):
            mixed = self.around.fitted(mixed + self._drawn(len(origins), rng) - self.around.lower, origins)
        return np.maximum(mixed, origins)  # what is brighter than any ordinary pixel may be the trigger

    def measures(self, rows: Array, given: Answers, probed: Answers) -> Array:
        """How much oftener than usual each row's own answer comes to its probes; (n, 1)."""
        own = _labels(given)
        shares = np.empty((len(rows), 1))
        for index, label in enumerate(own.tolist()):
            answers = probed.at(np.arange(index * self.extra, (index + 1) * self.extra))
            shares[index] = _shares(answers, label).mean() - self.usual.get(label, 0.0)
        return shares

    def highest(self, form: Form) -> float:
        """The answer always comes, and to nothing else.

        Raises:
            ProbeError: the model does not answer with classes.
        """
        if form.kind == "Values":
            raise ProbeError(_NO_CLASSES)
        return 1.0

    def _drawn(self, count: int, rng: "np.random.Generator") -> Array:
        return self.around.sample[rng.integers(len(self.around.sample), size=count)]


_NO_CLASSES = (
    "a backdoor is looked for in models that answer with classes; this one answers with a number: leave it out"
)


def _labels(answers: Answers) -> npt.NDArray[Any]:
    if answers.labels is None:
        raise ProbeError(_NO_CLASSES)
    return answers.labels


def _shares(answers: Answers, label: Any) -> Array:
    """How much of each answer is `label`: its score, or whether it is the one; (n,)."""
    if answers.scores is not None:
        return answers.scores[:, label]
    return np.asarray(_labels(answers) == label, dtype=np.float64)
