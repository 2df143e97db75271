"""A model's answer as detectors read it: its outputs, flat, whatever protocol and form they came in."""

import math
from typing import Any

import msgspec

from modelward.detect.answers import AnswerError, Output, from_v1
from modelward.sidecar import binary
from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal

_MAX_DEPTH = 8


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: dict[str, Any] | None = None


class _V2(msgspec.Struct):
    outputs: list[_Tensor]


class _V1(msgspec.Struct):
    predictions: list[Any]


def outputs_of(body: Body, protocol: str) -> list[Output]:
    """The outputs of an answer.

    Raises:
        AnswerError: it is not one of the protocol's.
    """
    try:
        if protocol == "v1":
            return from_v1(_V1_DECODER.decode(body.content).predictions)
        content, trailer = body.split()
        return [_output(one, trailer) for one in _V2_DECODER.decode(content).outputs]
    except (Refusal, binary.UnfitError, ValueError, TypeError, RecursionError):  # msgspec's errors are ValueErrors
        raise AnswerError("the answer is not one of the inference protocol's") from None


def _output(tensor: _Tensor, trailer: binary.Trailer | None) -> Output:
    count = math.prod(tensor.shape)
    size = binary.size_of(tensor.parameters, trailer)
    if size is None or trailer is None:
        return Output(tensor.datatype, tensor.shape, _flat(tensor.data, count), tensor.name)
    raw = trailer.take(size)
    if tensor.datatype != "BYTES" and tensor.datatype not in binary.DTYPES:
        raise ValueError("no datatype of the protocol")
    if tensor.datatype == "BYTES":
        return Output("BYTES", tensor.shape, binary.Texts(raw, count).tolist(), tensor.name)
    return Output(tensor.datatype, tensor.shape, binary.numbers(tensor.datatype, raw, count), tensor.name)


def _flat(data: Any, count: int) -> list[Any]:
    flat = data if isinstance(data, list) else [data]
    for _ in range(_MAX_DEPTH):
        if not any([isinstance(item, list) for item in flat]):  # noqa: C419 - of so few, a list is sooner made
            break
        flat = [element for row in flat for element in row]
    if len(flat) != count:
        raise ValueError("not as many elements as the shape says")
    return flat


_V2_DECODER = msgspec.json.Decoder(_V2)
_V1_DECODER = msgspec.json.Decoder(_V1)
