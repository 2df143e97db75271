"""A model's answers, in whatever shape it gives them, as what can be compared: labels, and scores if it gives any."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modelward.detect.encoding import Array

MAX_CLASSES: Final = 4096
_APART = "\x1f"  # between the labels of a model that answers with several
_ROUNDING = 1e-6  # scores that are said to be probabilities come as FP32, or FP16


class AnswerError(Exception):
    """An answer that cannot be compared with others; the message says why, without a value of it."""


class Output(NamedTuple):
    """One output of an answer, as V2 has it: `data` in row-major order, the first axis of `shape` its rows."""

    datatype: str
    shape: Sequence[int]
    data: Sequence[Any] | npt.NDArray[Any]
    name: str = ""


def from_v1(predictions: Sequence[Any]) -> list[Output]:
    """The outputs of a V1 answer: a number, a text, a list of these, or an object of such a row.

    Raises:
        AnswerError: the rows differ in their form.
    """
    if predictions and isinstance(predictions[0], dict):
        names = list(predictions[0])
        if not all(isinstance(row, dict) and row.keys() == predictions[0].keys() for row in predictions):
            raise AnswerError("the rows of the answer do not have the same members")
        return [_from_v1(name, [row[name] for row in predictions]) for name in names]
    return [_from_v1("", predictions)]


def _from_v1(name: str, rows: Sequence[Any]) -> Output:
    first: Any = rows
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, str):
        texts = np.array(rows, dtype=object)
        if any(isinstance(each, list) for each in texts.flat):
            raise AnswerError("the rows of the answer differ in their shape")
        if not all(isinstance(each, str | int | float) for each in texts.flat):
            raise AnswerError("the rows of the answer are neither numbers nor texts")
        return Output("BYTES", texts.shape, [str(each) for each in texts.flat], name)
    try:
        array = np.array(rows)
    except ValueError as error:  # rows of different lengths
        raise AnswerError("the rows of the answer differ in their shape") from error
    datatype = {"f": "FP64", "i": "INT64", "u": "UINT64", "b": "BOOL", "U": "BYTES"}.get(array.dtype.kind)
    if datatype is None:
        raise AnswerError("the rows of the answer are neither numbers nor texts")
    return Output(datatype, array.shape, array.reshape(-1), name)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said of n rows.

    `labels` (n,), None if it gives a mere number a row; `scores` (n, c), None if it gives labels alone.
    """

    labels: npt.NDArray[Any] | None
    scores: Array | None

    def __len__(self) -> int:
        given = self.scores if self.scores is not None else self.labels
        return 0 if given is None else len(given)

    def at(self, rows: npt.NDArray[np.intp]) -> "Answers":
        """The answers to these `rows` (m,), by their positions."""
        return Answers(
            None if self.labels is None else self.labels[rows], None if self.scores is None else self.scores[rows]
        )

    def distances(self, others: "Answers") -> Array:
        """How far each answer (n) is from each of those of its m `others` (n * m, row after row); (n, m).

        The L1 distance of the scores; without scores 1 where the labels differ, 0 where they do not.

        Raises:
            AnswerError: one has labels alone, the other scores alone.
        """
        count = len(self)
        if self.scores is not None and others.scores is not None:
            apart = self.scores[:, np.newaxis] - others.scores.reshape(count, -1, self.scores.shape[1])
            distances: Array = np.abs(apart).sum(axis=2)
            return distances
        if self.labels is None or others.labels is None:
            raise AnswerError("one answer has labels alone, the other scores alone")
        return np.asarray(self.labels[:, np.newaxis] != others.labels.reshape(count, -1), dtype=np.float64)


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several calls, in order."""
    labels = [part.labels for part in parts if part.labels is not None]
    scores = [part.scores for part in parts if part.scores is not None]
    return Answers(np.concatenate(labels) if labels else None, np.concatenate(scores) if scores else None)


@dataclass(frozen=True, slots=True)
class Form:
    """How one model answers: which of its outputs is compared (`index`), its width, and what its numbers are.

    It is found once, from the answers to many rows, and held to from then on: a single answer of 0.0 may be a label, a
    probability or a measured value.
    """

    kind: Literal["Labels", "Probability", "Probabilities", "Logits", "Values"]
    index: int
    width: int

    @classmethod
    def of(cls, outputs: Sequence[Output], rows: int) -> "Form":
        """The form of an answer to `rows` rows: scores of classes before a single number, that before labels.

        Raises:
            AnswerError: no output has an element or more for each row.
        """
        forms = [cls._of_one(index, output, rows) for index, output in enumerate(outputs)]
        order = ("Probabilities", "Logits", "Probability", "Values", "Labels")
        usable = sorted((form for form in forms if form is not None), key=lambda form: order.index(form.kind))
        if not usable:
            raise AnswerError(f"the model's answer has no output with 1 to {MAX_CLASSES} elements for each row")
        return usable[0]

    @classmethod
    def _of_one(cls, index: int, output: Output, rows: int) -> "Form | None":
        width = width_of(output, rows)
        if width is None:
            return None
        if not output.datatype.startswith("FP"):
            return cls("Labels", index, width)
        numbers = np.asarray(output.data, dtype=np.float64)
        if width == 1 and np.array_equal(numbers, np.rint(numbers)):
            return cls("Labels", index, width)
        shares = bool(((numbers >= -_ROUNDING) & (numbers <= 1 + _ROUNDING)).all())
        if width == 1:
            return cls("Probability" if shares else "Values", index, width)
        return cls("Probabilities" if shares else "Logits", index, width)

    @property
    def farthest(self) -> float:
        """The greatest distance that two answers can have."""
        return {"Labels": 1.0, "Values": math.inf}.get(self.kind, 2.0)

    def read(self, outputs: Sequence[Output], rows: int) -> Answers:
        """The answers to `rows` rows.

        Raises:
            AnswerError: the answer is not of this form, or holds a number that is none.
        """
        output = outputs[self.index] if self.index < len(outputs) else None
        if output is None or width_of(output, rows) != self.width:
            raise AnswerError("the model's answer is not of the form that it had before")
        if self.kind == "Labels":
            return Answers(_labels(output, rows, self.width), None)
        try:
            scores = np.array(output.data, dtype=np.float64).reshape(rows, self.width)
        except (TypeError, ValueError) as error:
            raise AnswerError("the model's answer is not of the form that it had before") from error
        if not np.isfinite(scores).all():
            raise AnswerError("the model's answer holds a number that is not finite")
        match self.kind:
            case "Values":
                return Answers(None, scores)
            case "Probability":
                scores = np.clip(scores, 0.0, 1.0)
                scores = np.hstack([1.0 - scores, scores])
            case "Logits":
                scores = np.exp(scores - scores.max(axis=1, keepdims=True))
                scores /= scores.sum(axis=1, keepdims=True)
            case _:
                # Shares that do not add up to one (several labels at once) are compared as shares of their sum.
                scores = np.clip(scores, 0.0, 1.0)
                scores /= np.maximum(scores.sum(axis=1, keepdims=True), 1e-12)
        return Answers(scores.argmax(axis=1), scores)


def width_of(output: Output, rows: int) -> int | None:
    """The number of elements for each row; None: the output is not one of so many rows, or has too many elements."""
    if not output.shape or output.shape[0] != rows or rows < 1:
        return None
    width = math.prod(output.shape[1:])
    return width if 1 <= width <= MAX_CLASSES and len(output.data) == rows * width else None


def _labels(output: Output, rows: int, width: int) -> npt.NDArray[Any]:
    if width == 1 and output.datatype != "BYTES":
        try:
            labels = np.asarray(output.data).reshape(rows)
        except ValueError as error:
            raise AnswerError("the model's answer has labels that are none") from error
        if labels.dtype.kind not in "biufU":
            raise AnswerError("the model's answer has labels that are neither numbers nor texts")
        return labels
    texts = [str(element) for element in output.data]
    # As texts of numpy's own each would take the room of the longest, and who asks may choose how long that is.
    joint = [_APART.join(texts[start : start + width]) for start in range(0, rows * width, width)]
    return np.array(joint, dtype=object)
