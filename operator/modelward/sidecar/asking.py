"""Asks the model about rows that no caller sent: what its detectors want to know besides."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from modelward.detect.answers import AnswerError, Output
from modelward.detect.encoding import Array
from modelward.sidecar.answered import outputs_of
from modelward.sidecar.binary import Body
from modelward.sidecar.columns import Columns, Subject
from modelward.sidecar.config import ConfigError
from modelward.sidecar.config import Upstream as Model
from modelward.sidecar.exchange import Outcome, Response
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import nested
from modelward.sidecar.tensors import Tensor, TensorSpec
from modelward.sidecar.upstream import Upstream

_AT_ONCE = 128  # rows in one call


class Asking:
    """Asks one model by the inputs that it declares.

    `output`: the one that is asked for by name (V2), "": whatever the model answers with. `path`: where it is
    asked; `at_once`: rows in one call.
    """

    def __init__(self, model: Model, columns: Columns, declared: Mapping[str, TensorSpec], output: str = "") -> None:
        self._columns = columns
        self._specs = tuple(declared.values())
        self._v1 = model.protocol == "v1"
        self._protocol = model.protocol
        self._output = output
        self._batched = all(spec.shape[0] == -1 for spec in self._specs)
        self.at_once = _AT_ONCE if self._batched else 1
        self.path = f"/v1/models/{model.model}:predict" if self._v1 else f"/v2/models/{model.model}/infer"
        self._head = (
            f"POST {self.path} HTTP/1.1\r\nhost: {model.host}:{model.port}\r\ncontent-type: application/json\r\n"
        ).encode()

    def check_covered(self) -> None:
        """Raise ConfigError when an input is not among the baseline's columns: nobody could say what to send for it."""
        columns = self._columns
        unknown = [spec.name for spec in self._specs if not columns.covers(spec)]
        if unknown:
            raise ConfigError(
                f"Evasion and Backdoor ask the model about rows like the baseline's, and the baseline does not have "
                f"{', '.join(unknown[:5])}: fit it with every column that the model takes"
            )

    async def ask(self, upstream: Upstream, rows: Array, subject: Subject | None = None) -> list[Output]:
        """The model's answers to encoded `rows` (n, d), as one. `subject`: whose row they are made of, see `Columns`.

        Raises:
            AnswerError: an answer is missing, or not like the others.
            Refusal: the model is busy, in trouble, or not there.
        """
        calls = [_call(upstream, self._payload(part, subject)) for part in self._parts(rows)]
        answers = await asyncio.gather(*calls)
        return joined([outputs_of(Body(each), self._protocol) for each in answers])

    def _parts(self, rows: Array) -> Iterator[Array]:
        for start in range(0, len(rows), self.at_once):
            yield rows[start : start + self.at_once]

    def _payload(self, rows: Array, subject: Subject | None) -> bytes:
        tensors = [self._tensor(spec, rows, subject) for spec in self._specs]
        document = _v1(tensors) if self._v1 else _v2(tensors)
        if self._output:
            document["outputs"] = [{"name": self._output}]
        body = msgspec.json.encode(document)
        return b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)

    def _tensor(self, spec: TensorSpec, rows: Array, subject: Subject | None) -> Tensor:
        inner = list(spec.shape if subject is None else subject.tensors[spec.name].shape)
        if spec.shape[0] == -1:
            inner[0] = len(rows) if self._batched else 1
        return Tensor(spec, inner, self._columns.data(spec, rows, subject))


def joined(answers: Sequence[Sequence[Output]]) -> list[Output]:
    """Several answers as one, row after row.

    Raises:
        AnswerError: they differ in their outputs.
    """
    try:
        return [_joined(parts) for parts in zip(*answers, strict=True)]
    except (ValueError, IndexError):
        raise AnswerError("the model's answers differ in their form") from None


def _joined(parts: Sequence[Output]) -> Output:
    first = parts[0]
    if any((part.datatype, list(part.shape[1:])) != (first.datatype, list(first.shape[1:])) for part in parts):
        raise ValueError("of another form")
    kind = object if first.datatype == "BYTES" else None  # of texts, see `detect.answers`
    data = np.concatenate([np.asarray(part.data, dtype=kind) for part in parts])
    return Output(first.datatype, (sum(part.shape[0] for part in parts), *first.shape[1:]), data, first.name)


def part(outputs: Sequence[Output], start: int, stop: int) -> list[Output]:
    """The answers to the rows from `start` to before `stop`."""
    found = []
    for output in outputs:
        width = math.prod(output.shape[1:])
        shape = (stop - start, *output.shape[1:])
        found.append(Output(output.datatype, shape, output.data[start * width : stop * width], output.name))
    return found


async def _call(upstream: Upstream, payload: bytes) -> bytes:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def settle(outcome: Outcome) -> None:
        if not future.done():
            future.set_result(outcome)

    abandon = upstream.call(payload, settle)
    try:
        outcome = await future
    except asyncio.CancelledError:
        abandon()
        raise
    if isinstance(outcome, Refusal):
        raise outcome
    if not isinstance(outcome, Response) or outcome.status != 200:
        status = outcome.status if isinstance(outcome, Response) else 0
        if status >= 500:
            raise Refusal("bad-upstream", "The model could not answer.", reason="upstream-status")
        raise AnswerError(f"the model refused rows like the baseline's, with status {status}")
    return outcome.body


def _v2(tensors: Sequence[Tensor]) -> dict[str, object]:
    return {
        "inputs": [
            {"name": each.spec.name, "shape": each.shape, "datatype": each.spec.datatype, "data": each.data}
            for each in tensors
        ]
    }


def _v1(tensors: Sequence[Tensor]) -> dict[str, object]:
    rows = [nested(tensor) for tensor in tensors]
    if len(tensors) == 1:
        return {"instances": rows[0]}
    names = [tensor.spec.name for tensor in tensors]
    return {"instances": [dict(zip(names, row, strict=True)) for row in zip(*rows, strict=True)]}
