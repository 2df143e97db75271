"""LinearSHAP: the Shapley values of a linear model, exactly.

With the columns that are left out taken from reference rows, independently of the others (the interventional value
function), the contribution of column i to the margin w x + b is w_i (x_i - E[x_i]) (Lundberg and Lee, 2017, corollary
1). So it is in the `shap` package's LinearExplainer, given the same mean. What is explained is the margin, before the
link: of a logistic regression the log-odds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modelward.detect.answers import Output
from modelward.detect.encoding import Array
from modelward.explain.target import form_of, numbers

Link = Literal["identity", "logistic", "softmax"]
Agreement = Literal["values", "probabilities", "classes"]

_NEAR = 1e-3  # probabilities; and values, as a share of their spread: servers answer in FP32, or FP16
_UNDECIDED = 1e-6  # of the margins' size: where a class is left to rounding


@dataclass(frozen=True, slots=True)
class Linear:
    """`weights` (o, d) and `bias` (o): a margin for each output of a row (d,)."""

    weights: Array
    bias: Array
    link: Link

    def margins(self, rows: Array) -> Array:
        """The margins (n, o) of rows (n, d), or (o,) of one (d,)."""
        margins: Array = rows @ self.weights.T + self.bias
        return margins

    def contributions(self, row: Array, mean: Array, output: int = 0) -> Array:
        """What each column (d,) adds to the margin of `row` (d,), over that of the reference's `mean` (d,)."""
        added: Array = self.weights[output] * (row - mean)
        return added

    def what(self, output: int, *, of_class: bool) -> str:
        """What a margin is, in words."""
        if not of_class:
            return "the model's result"
        if len(self.bias) == 1:
            number = "log-odds" if self.link == "logistic" else "margin"
            return f"the {number} of the second of the model's two classes"
        return f"the margin of class {output}, counted from 0: the one that the model chose"

    def classes(self, rows: Array) -> npt.NDArray[np.intp]:
        """The class (n,) that each row gets; of a single output 1 where the margin is positive, else 0."""
        margins = self.margins(rows)
        if margins.shape[1] == 1:
            return np.asarray(margins[:, 0] > 0, dtype=np.intp)
        return np.asarray(margins.argmax(axis=1))

    def agreement(self, rows: Array, outputs: Sequence[Output]) -> Agreement | None:
        """By what the model's `outputs` for `rows` (n, d) are those of these weights; None: they are another model's.

        Numbers are held against margins, probabilities against what the link makes of them, and labels against classes:
        each label must be one class and the other way round, whatever its name is.

        Raises:
            AnswerError: the outputs are none of so many rows.
        """
        form = form_of(outputs, len(rows))
        margins = self.margins(rows)
        if self.link == "identity" and margins.shape[1] == form.width == 1 and _is_number(outputs[form.index]):
            apart = np.abs(numbers(form, outputs, len(rows)) - margins).max()
            if apart <= _NEAR * max(float(np.ptp(margins)), _UNDECIDED):
                return "values"
        answers = form.read(outputs, len(rows))
        shares = self._shares(margins)
        if form.kind in ("Probability", "Probabilities") and shares is not None and answers.scores is not None:
            same = shares.shape == answers.scores.shape and np.abs(shares - answers.scores).max() <= _NEAR
            return "probabilities" if same else None
        return None if answers.labels is None else self._of_classes(rows, answers.labels)

    def _of_classes(self, rows: Array, labels: npt.NDArray[Any]) -> Agreement | None:
        margins = self.margins(rows)
        ordered = np.sort(margins, axis=1)
        gaps = np.abs(ordered[:, -1]) if margins.shape[1] == 1 else ordered[:, -1] - ordered[:, -2]
        sure = gaps > _UNDECIDED * max(float(np.abs(margins).max()), 1.0)
        pairs = set(zip(self.classes(rows)[sure].tolist(), labels[sure].tolist(), strict=True))
        one_to_one = len({each for each, _ in pairs}) == len(pairs) == len({label for _, label in pairs})
        return "classes" if one_to_one else None

    def _shares(self, margins: Array) -> Array | None:
        """The probability of each class, where the link gives one."""
        if self.link == "logistic" and margins.shape[1] == 1:
            high = 1.0 / (1.0 + np.exp(-np.clip(margins, -500, 500)))
            return np.hstack([1.0 - high, high])
        if self.link == "softmax" and margins.shape[1] > 1:
            raised = np.exp(margins - margins.max(axis=1, keepdims=True))
            shares: Array = raised / raised.sum(axis=1, keepdims=True)
            return shares
        return None


def _is_number(output: Output) -> bool:
    return output.datatype.startswith(("FP", "INT", "UINT"))
