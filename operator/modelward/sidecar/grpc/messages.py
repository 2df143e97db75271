"""The messages of the inference protocol's gRPC service, as the bodies that its REST sibling would have for them.

A request becomes a body of the protocol V2 with binary tensor data: so schema, treatments and screening are the very
same. What they let through is written as a message anew, in the form that the client chose: typed contents or raw ones.
Source: the protocol's open_inference_grpc.proto, package `inference`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from modelward.sidecar import binary
from modelward.sidecar.binary import Body
from modelward.sidecar.grpc import contents, wire
from modelward.sidecar.grpc.wire import FIXED64, LENGTH, PACKED, VARINT, Field, WireError

_TENSORS = 128  # as in JSON
_PARAMETERS = 32
_AXES = 16  # more than any tensor may have, which the schema says


class Form(NamedTuple):
    """What of an inference message is no part of a V2 body: its model, and whether its tensors' data are raw."""

    model: str
    version: str
    raw: bool


def read_request(message: bytes) -> tuple[Form, Body]:
    """A ModelInferRequest.

    Raises:
        WireError: it is none.
    """
    return _to_body(wire.read("the request", _REQUEST, memoryview(message)), "inputs")


def read_response(message: bytes) -> tuple[Form, Body]:
    """A ModelInferResponse; raises WireError."""
    return _to_body(wire.read("the answer", _RESPONSE, memoryview(message)), "outputs")


def write_request(form: Form, body: Body) -> bytes:
    """The ModelInferRequest of what passed the chain."""
    head, parts, raw = _from_body(form, body, "inputs", 5)
    wanted = [
        wire.put(6, wire.put_text(1, each["name"]) + _put_parameters(2, each.get("parameters")))
        for each in head.get("outputs") or ()
    ]
    return b"".join([*parts, *wanted, *(wire.put(7, each) for each in raw)])


def write_response(form: Form, body: Body) -> bytes:
    """The ModelInferResponse of what passed the chain."""
    _, parts, raw = _from_body(form, body, "outputs", 5)
    return b"".join([*parts, *(wire.put(6, each) for each in raw)])


def read_names(message: bytes) -> tuple[str, str]:
    """Name and version of the model in a ModelReadyRequest or a ModelMetadataRequest; raises WireError."""
    found = wire.read("the request", _NAMES, memoryview(message))
    return found.get("name", ""), found.get("version", "")


def write_names(name: str, version: str) -> bytes:
    """A ModelReadyRequest or a ModelMetadataRequest."""
    return wire.put_text(1, name) + wire.put_text(2, version)


def read_nothing(message: bytes) -> None:
    """A request without fields; raises WireError."""
    wire.read("the request", {}, memoryview(message))


# --- messages and bodies


def _to_body(found: dict[str, Any], tensors: str) -> tuple[Form, Body]:
    _gather(found)
    raws = found.get("raw")
    entries = found.get(tensors, [])
    if raws is not None and len(raws) != len(entries):
        raise WireError(f"there are {len(raws)} raw contents for {len(entries)} {tensors}; each needs its own")
    head: dict[str, Any] = {key: found[key] for key in ("id", "parameters") if key in found}
    if tensors == "outputs":  # of an answer
        head |= {"model_name": found.get("model_name", ""), "model_version": found.get("model_version", "")}
    elif "outputs" in found:
        head["outputs"] = [{"name": ""} | each for each in found["outputs"]]
    data: list[bytes | memoryview] = []
    texts = contents.MAX_TEXTS
    for index, entry in enumerate(entries):
        typed = contents.read(entry["contents"], texts) if "contents" in entry else None
        texts -= typed.texts if typed is not None else 0
        data.append(_data(entry, typed, raws[index] if raws is not None else None))
    head[tensors] = [
        {
            "name": entry.get("name", ""),
            "datatype": entry.get("datatype", ""),
            "shape": [axis for axes in entry.get("shape", ()) for axis in axes],
            "parameters": entry.get("parameters", {}) | {binary.SIZE: len(raw)},
        }
        for entry, raw in zip(entries, data, strict=True)
    ]
    form = Form(found.get("model_name", ""), found.get("model_version", ""), raw=raws is not None)
    return form, Body.of(msgspec.json.encode(head), data)


def _data(entry: Mapping[str, Any], typed: contents.Contents | None, raw: memoryview | None) -> bytes | memoryview:
    if raw is not None:
        if typed is not None:
            raise WireError("a tensor has its data twice, as contents and as raw ones")
        return raw
    if typed is None:
        raise WireError("a tensor has no data")
    return contents.to_raw(entry.get("datatype", ""), typed)


def _from_body(form: Form, body: Body, tensors: str, number: int) -> tuple[dict[str, Any], list[bytes], list[bytes]]:
    """The head that was read, the message's fields up to the tensors, and the raw contents that come behind them."""
    content, trailer = body.split()
    head: dict[str, Any] = msgspec.json.decode(content)
    parts = [
        wire.put_text(1, form.model),
        wire.put_text(2, form.version),
        wire.put_text(3, head.get("id") or ""),
        _put_parameters(4, head.get("parameters")),
    ]
    raws = []
    for entry in head[tensors]:
        size = entry["parameters"].pop(binary.SIZE)
        raw = b"" if trailer is None else bytes(trailer.take(size))
        shape = b"".join(map(wire.as_varint, entry["shape"]))
        tensor = [
            wire.put_text(1, entry["name"]),
            wire.put_text(2, entry["datatype"]),
            wire.put(3, shape),
            _put_parameters(4, entry["parameters"]),
        ]
        if form.raw:
            raws.append(raw)
        else:
            tensor.append(wire.put(5, contents.from_raw(entry["datatype"], raw)))
        parts.append(wire.put(number, b"".join(tensor)))
    return head, parts, raws


# --- parameters: map<string, InferParameter>


def _entry(data: memoryview) -> tuple[str, Any]:
    found = wire.read("a parameter", _ENTRY, data)
    name, choice = found.get("key", ""), found.get("value") or {}
    if name in binary.RESERVED:
        raise WireError("a parameter that says where a tensor's data are cannot be used here")
    if len(choice) != 1:
        raise WireError("a parameter has no value, or several")
    (value,) = choice.values()
    if isinstance(value, float) and not math.isfinite(value):
        raise WireError("a parameter is not a finite number")
    return name, value


def _put_parameters(number: int, parameters: Mapping[str, Any] | None) -> bytes:
    return b"".join(
        wire.put(number, wire.put_text(1, name) + wire.put(2, _put_choice(value)))
        for name, value in (parameters or {}).items()
        if value is not None
    )


def _put_choice(value: Any) -> bytes:
    if isinstance(value, bool):
        return wire.put_number(1, value)
    if isinstance(value, int):
        return wire.put_number(2 if value < 1 << 63 else 5, value)
    if isinstance(value, float):
        return wire.put_double(4, value)
    return wire.put(3, str(value).encode())


def _choice(data: memoryview) -> dict[str, Any]:
    return wire.read("a parameter", _CHOICE, data)


def _gather(found: dict[str, Any]) -> dict[str, Any]:
    """Make a map of the entries of `parameters`."""
    entries = found.get("parameters")
    if entries is not None:
        found["parameters"] = dict(entries)
        if len(found["parameters"]) != len(entries):
            raise WireError("a parameter comes twice")
    return found


def _axes(packed: memoryview | int) -> list[int]:
    if isinstance(packed, int):
        return [wire.signed(packed)]
    axes: list[int] = []
    at = 0
    while at < len(packed):
        if len(axes) >= _AXES:
            raise WireError("a shape has too many axes")
        value, at = wire.varint(packed, at)
        axes.append(wire.signed(value))
    return axes


_CHOICE = {
    1: Field("bool", VARINT, wire.truth),
    2: Field("int64", VARINT, wire.signed),
    3: Field("string", LENGTH, wire.text),
    4: Field("double", FIXED64, wire.double),
    5: Field("uint64", VARINT, int),
}
_ENTRY = {1: Field("key", LENGTH, wire.text), 2: Field("value", LENGTH, _choice)}
_TENSOR = {
    1: Field("name", LENGTH, wire.text),
    2: Field("datatype", LENGTH, wire.text),
    3: Field("shape", PACKED, _axes, _AXES),
    4: Field("parameters", LENGTH, _entry, _PARAMETERS),
    5: Field("contents", LENGTH, memoryview),
}
_WANTED = {1: Field("name", LENGTH, wire.text), 2: Field("parameters", LENGTH, _entry, _PARAMETERS)}
_COMMON = {
    1: Field("model_name", LENGTH, wire.text),
    2: Field("model_version", LENGTH, wire.text),
    3: Field("id", LENGTH, wire.text),
    4: Field("parameters", LENGTH, _entry, _PARAMETERS),
}
_REQUEST = _COMMON | {
    5: Field("inputs", LENGTH, lambda data: _gather(wire.read("an input", _TENSOR, data)), _TENSORS),
    6: Field("outputs", LENGTH, lambda data: _gather(wire.read("a wanted output", _WANTED, data)), _TENSORS),
    7: Field("raw", LENGTH, memoryview, _TENSORS),
}
_RESPONSE = _COMMON | {
    5: Field("outputs", LENGTH, lambda data: _gather(wire.read("an output", _TENSOR, data)), _TENSORS),
    6: Field("raw", LENGTH, memoryview, _TENSORS),
}
_NAMES = {1: Field("name", LENGTH, wire.text), 2: Field("version", LENGTH, wire.text)}
