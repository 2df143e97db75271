"""The number that is explained, of all that a model answers: its result, or its own score of the class that it chose.

Numbers are taken as the model gives them. Whether a lone one is a probability or a measured value cannot be told from a
few answers, and makes no difference to what adds up to it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelward.detect.answers import AnswerError, Form, Output
from modelward.detect.encoding import Array


@dataclass(frozen=True, slots=True)
class Target:
    """Found from the answers to several rows, the first of them the explained one. `chosen`: its class, or label."""

    form: Form
    chosen: Any

    @classmethod
    def of(cls, outputs: Sequence[Output], rows: int) -> "Target":
        """What is explained of an answer to `rows` rows.

        Raises:
            AnswerError: the model's answer has nothing that could be.
        """
        form = form_of(outputs, rows)
        if form.kind == "Labels":
            labels = form.read(outputs, rows).labels
            return cls(form, None if labels is None else labels[0])
        return cls(form, int(numbers(form, outputs, rows)[0].argmax()))

    @property
    def of_class(self) -> bool:
        """Whether a class is explained, for which columns speak or against which; otherwise a value."""
        return self.form.kind == "Labels" or self.form.width > 1

    @property
    def what(self) -> str:
        """What the numbers are, in words."""
        if self.form.kind == "Labels":
            return "whether the model gives this answer (1) or another (0)"
        if self.form.width > 1:
            return f"the model's score of class {self.chosen}, counted from 0: the one that it chose"
        return "the model's result"

    def read(self, outputs: Sequence[Output], rows: int) -> Array:
        """The number (rows,) of each row.

        Raises:
            AnswerError: the answer is not of the form that it had before.
        """
        if self.form.kind == "Labels":
            return np.asarray(self.form.read(outputs, rows).labels == self.chosen, dtype=np.float64)
        chosen: Array = numbers(self.form, outputs, rows)[:, self.chosen]
        return chosen


def form_of(outputs: Sequence[Output], rows: int) -> Form:
    """How the model answers.

    Raises:
        AnswerError: an output holds something else than it says, or none has an element for each row.
    """
    try:
        return Form.of(outputs, rows)
    except (TypeError, ValueError, OverflowError):
        raise AnswerError("an output of the model's answer does not hold what its datatype says") from None


def numbers(form: Form, outputs: Sequence[Output], rows: int) -> Array:
    """The numbers (rows, width) of an answer that holds some, as they are.

    Raises:
        AnswerError: the answer is not of this form, or holds a number that is none.
    """
    output = outputs[form.index] if form.index < len(outputs) else None
    try:
        found = np.array(None if output is None else output.data, dtype=np.float64).reshape(rows, form.width)
    except (TypeError, ValueError, OverflowError):
        raise AnswerError("the model's answer is not of the form that it had before") from None
    if not np.isfinite(found).all():
        raise AnswerError("the model's answer holds a number that is not finite")
    return found


def open_outputs(
    outputs: Sequence[Output], treated: Collection[str], wanted: str, declared: Collection[str] | None = None
) -> list[Output]:
    """The outputs that may be explained: of the `declared` (None: any) those that are not treated, or `wanted` alone.

    Raises:
        AnswerError: there is none.
    """
    named = outputs if declared is None else [each for each in outputs if each.name in declared]
    found = [each for each in named if each.name not in treated and wanted in ("", each.name)]
    if not found:
        raise AnswerError(f"the model's answer has no output {wanted}" if wanted else "every output is treated")
    return found
