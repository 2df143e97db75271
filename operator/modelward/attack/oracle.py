"""A model asked row by row, as every attack on it does: what it said, or that it was refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from modelward.attack.exchange import Asking, Reply
from modelward.attack.layout import Layout
from modelward.attack.target import Target
from modelward.detect.answers import AnswerError, Form, Output, from_v1
from modelward.detect.encoding import Array

LEARN = 12
"""Ordinary rows that are asked to learn in which form the model answers."""
MAX_OUTPUTS = 16
_MAX_DEPTH = 8


class Answer(NamedTuple):
    """What came of asking one row.

    Attributes:
        label: the class as a text; None: refused, or the model answers with a measured value.
        scores: of the classes (c,), or the value (1,); None: refused, or the model answers with labels alone.
        status: of HTTP.
        problem: the kind of modelward's refusal.
    """

    label: str | None = None
    scores: Array | None = None
    status: int = 0
    problem: str = ""

    @property
    def given(self) -> bool:
        """Whether the model answered."""
        return self.label is not None or self.scores is not None

    @property
    def refused(self) -> bool:
        """Whether nothing was granted. What is granted in a form that cannot be compared is neither this nor given."""
        return not self.given and not 200 <= self.status < 300


class Oracle:
    """A model with known inputs, and what it has said of rows so far."""

    def __init__(self, target: Target) -> None:
        assert target.layout is not None  # noqa: S101 - whoever asks rows has looked
        self.target = target
        self.layout = target.layout
        self.form: Form | None = None
        self.known: dict[bytes, Answer] = {}
        self.asked = 0
        self.refused = 0
        self._first: list[tuple[bytes, list[Output], Reply]] = []

    def learn(self) -> Asking[Reply]:
        """Ask some ordinary rows, and find in which form the model answers; returns the best of the answers."""
        data = self.target.data
        if data is not None and len(data):
            rows = data.rows[:: max(1, len(data) // LEARN)][:LEARN]
        else:
            middle = self.target.ordinary()
            rows = np.empty((0, self.layout.width)) if middle is None else middle[np.newaxis]
        best = Reply()
        for row in rows:
            reply: Reply = yield self.target.infer(self.layout.body(row))
            if reply.status in (401, 404):
                return reply  # the same would come of each
            self._take(row, reply)
            if not best.good:
                best = reply
        self._settle()
        return best

    def _take(self, row: Array, reply: Reply) -> None:
        if not reply.good:
            return
        try:
            self._first.append((row.tobytes(), outputs_of(reply.body, self.layout.protocol), reply))
        except AnswerError:
            return
        self._first = self._first[-LEARN:]

    def _settle(self) -> None:
        """Find the form from all that was answered together."""
        if not self._first:
            return
        outputs = _stacked([outputs for _, outputs, _ in self._first])
        try:
            self.form = Form.of(outputs, len(self._first))
        except (AnswerError, ArithmeticError, TypeError, ValueError):  # whatever a model sends in the place of numbers
            return
        for key, answer, reply in self._first:
            with suppress(AnswerError):
                self.known[key] = self._read(answer, reply)

    @property
    def measures(self) -> bool:
        """Whether the model answers with a measured value, and no class."""
        return self.form is not None and self.form.kind == "Values"

    @property
    def scored(self) -> bool:
        """Whether the model tells how sure it is of each class."""
        return self.form is not None and self.form.kind not in ("Values", "Labels")

    def ask(self, row: Array, *, anew: bool = False) -> Asking[Answer]:
        """What the model says of a row; asked once, unless `anew`."""
        key = np.ascontiguousarray(row, dtype=np.float64).tobytes()
        if not anew and key in self.known:
            return self.known[key]
        self.asked += 1
        reply: Reply = yield self.target.infer(self.layout.body(row))
        answer = Answer(status=reply.status, problem=reply.problem)
        if reply.good and self.form is None:  # no ordinary row was answered: this is the first to tell the form
            self._take(row, reply)
            self._settle()
        if reply.good:
            try:
                answer = self._read(outputs_of(reply.body, self.layout.protocol), reply)
            except AnswerError:
                answer = Answer(status=reply.status)
        if not answer.given:
            self.refused += 1
        else:
            self.known[key] = answer
        return answer

    def ask_all(self, rows: Array) -> Asking[list[Answer]]:
        """What the model says of rows (n, d), one a request."""
        answers = []
        for row in rows:
            answers.append((yield from self.ask(row)))  # noqa: PERF401 - no comprehension yields
        return answers

    def _read(self, outputs: Sequence[Output], reply: Reply) -> Answer:
        if self.form is None:
            raise AnswerError("the form of the model's answers is not known")
        try:
            read = self.form.read(outputs, 1)
        except (ArithmeticError, TypeError, ValueError):
            raise AnswerError("the answer is not of the form that others had") from None
        label = None if read.labels is None else str(read.labels[0])
        return Answer(label, None if read.scores is None else read.scores[0], reply.status)


def outputs_of(body: bytes, protocol: str) -> list[Output]:
    """The outputs of an answer to one row.

    Raises:
        AnswerError: it is not one of the protocol's.
    """
    try:
        document = json.loads(body)
        if protocol == "v1":
            return from_v1(document["predictions"])
        return [_output(one) for one in document["outputs"]]
    except (ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
        raise AnswerError("the answer is not one of the inference protocol's") from None


def _output(one: Mapping[str, Any]) -> Output:
    shape = [int(axis) for axis in one["shape"]]
    flat: list[Any] = list(one["data"])
    for _ in range(_MAX_DEPTH):
        if not any(isinstance(item, list) for item in flat):
            break
        flat = [element for row in flat for element in row]
    if len(flat) != math.prod(shape):
        raise ValueError("not as many elements as the shape says")
    return Output(str(one["datatype"]), shape, flat, str(one.get("name", "")))


def _stacked(answers: Sequence[Sequence[Output]]) -> list[Output]:
    """Answers to a row each as one answer to all."""
    most = min(len(outputs) for outputs in answers)
    stacked = []
    for index in range(most):
        each = [outputs[index] for outputs in answers]
        first = each[0]
        data = [element for output in each for element in output.data]
        shape = [len(each), *first.shape[1:]] if first.shape[:1] == [1] else [len(each), *first.shape]
        stacked.append(Output(first.datatype, shape, data, first.name))
    return stacked


class _Tensor(msgspec.Struct):
    name: str
    datatype: str = "FP64"
    shape: list[int] = []


class _About(msgspec.Struct):
    inputs: list[_Tensor] | None = None
    outputs: list[_Tensor] | None = None


def metadata_of(reply: Reply) -> Layout:
    """What the V2 metadata of a model say of its inputs and outputs; nothing of either where they do not say it.

    Raises:
        LayoutError: they name inputs that cannot be laid out.
    """
    try:
        about = msgspec.json.decode(reply.body, type=_About) if reply.good else _About()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        about = _About()
    outputs = tuple(one.name for one in (about.outputs or ())[:MAX_OUTPUTS])
    if not about.inputs:
        return Layout("v2", (), outputs)
    told = Layout.of_schema({"inputs": [msgspec.structs.asdict(one) for one in about.inputs]}, "v2")
    return replace(told, outputs=outputs)
