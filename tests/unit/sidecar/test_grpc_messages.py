"""The codec of gRPC's messages, held to the protobuf library, and what it refuses."""

from __future__ import annotations

import math
import struct
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar import binary, config
from modelward.sidecar.grpc import contents, frames, framing, messages, routes, status, wire
from modelward.sidecar.problems import BY_SLUG, Refusal
from modelward.sidecar.schema import Schema
from tests.unit.sidecar.oip_messages import Contents, InferRequest, InferResponse, Parameter, infer, message

INTEGERS = {name: np.iinfo(dtype) for name, dtype in binary.DTYPES.items() if dtype.kind in "iu" and name != "BOOL"}
FIELDS = {1: "bool_contents", 2: "int_contents", 3: "int64_contents", 4: "uint_contents", 5: "uint64_contents",
          6: "fp32_contents", 7: "fp64_contents", 8: "bytes_contents"}  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMETER = st.one_of(
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    TEXT,
    st.floats(allow_nan=False, allow_infinity=False),
)
PARAMETERS = st.dictionaries(TEXT.filter(lambda name: name not in binary.RESERVED), PARAMETER, max_size=3)


@st.composite
def tensors(draw: Any) -> tuple[str, list[Any], bytes]:
    """A datatype, its elements, and their raw bytes."""
    datatype = draw(st.sampled_from(list(contents.FIELDS)))
    if datatype == "BYTES":
        elements = draw(st.lists(TEXT.map(str.encode), min_size=1, max_size=5))
        return datatype, elements, b"".join(struct.pack("<I", len(one)) + one for one in elements)
    if datatype in INTEGERS:
        info = INTEGERS[datatype]
        one: Any = st.integers(int(info.min), int(info.max))
    else:
        one = {"BOOL": st.booleans(), "FP32": st.floats(width=32), "FP64": st.floats()}[datatype]
    elements = draw(st.lists(one, min_size=1, max_size=40))
    return datatype, elements, np.array(elements, binary.DTYPES[datatype]).tobytes()


def choice(value: Any) -> Any:
    if isinstance(value, bool):
        return Parameter(bool_param=value)
    if isinstance(value, int):
        return Parameter(int64_param=value) if value < 1 << 63 else Parameter(uint64_param=value)
    return Parameter(double_param=value) if isinstance(value, float) else Parameter(string_param=value)


@st.composite
def requests(draw: Any) -> Any:
    raw = draw(st.booleans())
    asked = InferRequest(model_name="m", model_version=draw(TEXT), id=draw(TEXT))
    for one, value in draw(PARAMETERS).items():
        asked.parameters[one].CopyFrom(choice(value))
    for datatype, elements, octets in draw(st.lists(tensors(), min_size=1, max_size=3)):
        tensor = asked.inputs.add(
            name=draw(TEXT), datatype=datatype, shape=[len(elements), draw(st.integers(-5, 1 << 40))]
        )
        for one, value in draw(PARAMETERS).items():
            tensor.parameters[one].CopyFrom(choice(value))
        if raw:
            asked.raw_input_contents.append(octets)
        else:
            getattr(tensor.contents, FIELDS[contents.FIELDS[datatype]]).extend(elements)
    for name in draw(st.lists(TEXT, max_size=2)):
        asked.outputs.add(name=name)
    return asked


@given(requests())
def test_a_request_is_read_and_written_as_the_protobuf_library_does(asked: Any) -> None:
    form, body = messages.read_request(asked.SerializeToString())
    assert (form.model, form.version, form.raw) == ("m", asked.model_version, bool(asked.raw_input_contents))
    again = InferRequest.FromString(messages.write_request(form, body))
    assert again.SerializeToString(deterministic=True) == asked.SerializeToString(deterministic=True)


@given(requests())
def test_an_answer_is_read_and_written_as_the_protobuf_library_does(asked: Any) -> None:
    told = InferResponse(model_name="m", id=asked.id, raw_output_contents=asked.raw_input_contents)
    for tensor in asked.inputs:
        told.outputs.add().MergeFromString(tensor.SerializeToString())
    form, body = messages.read_response(told.SerializeToString())
    again = InferResponse.FromString(messages.write_response(form, body))
    assert again.SerializeToString(deterministic=True) == told.SerializeToString(deterministic=True)


@given(tensors())
def test_typed_contents_and_raw_ones_are_the_same_data(tensor: tuple[str, list[Any], bytes]) -> None:
    datatype, elements, octets = tensor
    typed = Contents(**{FIELDS[contents.FIELDS[datatype]]: elements}).SerializeToString()
    found = contents.read(memoryview(typed))
    assert found is not None
    assert bytes(contents.to_raw(datatype, found)) == octets
    assert contents.from_raw(datatype, octets) == typed


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for read in (messages.read_request, messages.read_response, messages.read_names, messages.read_nothing):
        try:
            read(data)
        except wire.WireError:
            continue


@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=50))
def test_numbers_one_by_one_are_as_good_as_packed_ones(numbers: list[int]) -> None:
    packed = wire.put(5, b"".join(map(wire.as_varint, numbers)))
    single = b"".join(wire.put_number(5, number) for number in numbers)
    for data in (packed, single) if numbers else ():
        found = contents.read(memoryview(data))
        assert found is not None
        assert np.frombuffer(contents.to_raw("UINT64", found), "<u8").tolist() == numbers


def tensor(**fields: Any) -> bytes:
    asked = infer()
    del asked.inputs[:]
    asked.inputs.add(**({"name": "x", "datatype": "FP64", "shape": [1, 3]} | fields))
    return asked.SerializeToString()


GOOD = infer().SerializeToString()
REFUSED = {
    "no protobuf at all": b"\xff\xff\xff",
    "cut off": GOOD[:-3],
    "an unknown field": GOOD + wire.put(9, b"x"),
    "an unknown field of a tensor": GOOD + wire.put(5, wire.put(6, b"")),
    "field 0": GOOD + b"\x02\x00",
    "a group": GOOD + b"\x0b\x0c",
    "the model twice": GOOD + wire.put_text(1, "other"),
    "a name of the wrong type": wire.put_number(1, 7),
    "a name that is not UTF-8": wire.put(1, b"\xff"),
    "a number of more than 64 bits": wire.put(5, b"\x18" + b"\xff" * 10 + b"\x01"),
    "a shape of many axes": wire.put(5, wire.put(3, b"\x01" * 100)),
    "many inputs": wire.put(5, b"") * 200,
    "data twice": infer(raw=True, contents={"fp64_contents": [1, 2, 3]}).SerializeToString(),
    "no data": tensor(),
    "raw data for no input": GOOD + wire.put(7, b""),
    "another datatype's field": tensor(contents={"fp32_contents": [1, 2, 3]}),
    "two fields of data": tensor(contents={"fp32_contents": [1], "fp64_contents": [1, 2]}),
    "FP16 as contents": tensor(datatype="FP16", contents={"fp32_contents": [1, 2, 3]}),
    "bools beyond their end": tensor(datatype="BOOL")
    + wire.put(5, wire.put_text(2, "BOOL") + wire.put(5, b"\x0a\1\xff")),
    "a number beyond its datatype": tensor(datatype="INT8", contents={"int_contents": [1, 2, 300]}),
    "a negative one beyond it": tensor(datatype="INT16", contents={"int_contents": [-40_000]}),
    "a parameter without a value": tensor(parameters={"a": Parameter()}, contents={"fp64_contents": [1]}),
    "a parameter that is no number": tensor(parameters={"a": Parameter(double_param=math.nan)}),
    "shared memory": tensor(parameters={"shared_memory_region": Parameter(string_param="r")}),
    "a size of data": tensor(parameters={"binary_data_size": Parameter(int64_param=24)}),
    "a parameter twice": GOOD + 2 * wire.put(4, wire.put_text(1, "a") + wire.put(2, wire.put_number(1, 1))),
    "a bool of two": GOOD + wire.put(4, wire.put_text(1, "a") + wire.put(2, wire.put_number(1, 2))),
    "many pieces": tensor(datatype="INT64", contents={}) + wire.put(5, wire.put(5, wire.put_number(3, 1) * 5000)),
}


def test_texts_without_number_cost_little_in_however_many_tensors() -> None:
    """A message of 4 MiB has room for two million empty ones: they were a GiB of objects, and ten seconds."""
    before = InferRequest(model_name="m")
    for name in ("a", "b"):
        texts = Contents(bytes_contents=[b""] * (contents.MAX_TEXTS // 2))
        before.inputs.add(name=name, datatype="BYTES", shape=[contents.MAX_TEXTS // 2], contents=texts)
    tracemalloc.start()
    try:
        messages.read_request(before.SerializeToString())
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    before.inputs[1].contents.bytes_contents.append(b"one more")
    with pytest.raises(wire.WireError, match="send them raw"):
        messages.read_request(before.SerializeToString())


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_a_request_is_refused(what: str) -> None:
    with pytest.raises(wire.WireError) as error:
        messages.read_request(REFUSED[what])
    assert "other" not in str(error.value)


def test_the_schema_reads_what_it_would_read_over_rest() -> None:
    declared = [config.TensorDeclaration("x", "FP64", [-1, 3], minimum=-9)]
    _, body = messages.read_request(infer([1.5, -2, 3, 4, 5, 6]).SerializeToString())
    (found,) = Schema("v2", declared, "Reject").check(body).tensors
    assert (found.shape, found.data) == ([2, 3], [1.5, -2, 3, 4, 5, 6])
    _, body = messages.read_request(infer([1.5, -20, 3]).SerializeToString())
    with pytest.raises(Refusal, match="schema-violation"):
        Schema("v2", declared, "Reject").check(body)


def test_names_are_written_as_they_were_read() -> None:
    asked = message("ModelReadyRequest")(name="m", version="1").SerializeToString()
    assert messages.write_names(*messages.read_names(asked)) == asked
    with pytest.raises(wire.WireError):
        messages.read_nothing(asked)


@pytest.mark.parametrize("parts", [[], [b"\0\0\0\0"], [b"\0\0\0\0\1"], [b"\0\0\0\0\1ab"], [b"\2\0\0\0\0"]])
def test_a_body_that_is_not_one_message_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(framing.FramingError):
        framing.message(parts)
    assert framing.message([framing.framed(b"ab")[:3], framing.framed(b"ab")[3:]]) == b"ab"


def test_every_problem_has_a_status() -> None:
    assert set(status.CODES) == set(BY_SLUG)
    assert status.code_of(Refusal("bad-upstream", "", reason="upstream-connect")) == status.UNAVAILABLE
    assert status.code_of(Refusal("bad-upstream", "", reason="upstream-schema")) == status.INTERNAL
    assert status.percent("50 % é\n") == b"50 %25 %C3%A9%0A"


def test_a_refusal_says_when_to_try_again() -> None:
    told = dict(status.refused(Refusal("rate-limited", "Wait.", headers=b"retry-after: 7\r\n"), "id-1"))
    assert told[b"grpc-status"] == b"8"
    assert told[b"grpc-retry-pushback-ms"] == b"7000"


def test_no_method_but_those_of_the_protocol_is_open() -> None:
    router = routes.Router("m")
    assert router.route(b"POST", routes.INFER).operation == "Infer"
    for method, target in (
        (b"POST", routes.INFER + b"/"),
        (b"POST", b"/grpc.health.v1.Health/Check"),
        (b"GET", routes.INFER),
    ):
        with pytest.raises(Refusal):
            router.route(method, target)


def test_a_head_is_small_beside_its_data() -> None:
    """The JSON part, by which the chain reads a message, has no number of the data in it."""
    _, body = messages.read_request(infer([1.25] * 3).SerializeToString())
    content, _ = body.split()
    assert msgspec.json.decode(content)["inputs"][0]["parameters"] == {"binary_data_size": 24}
    assert b"1.25" not in content


FRAME = st.tuples(st.sampled_from([0, 1, 3, 6, 9, 200]), st.integers(0, 255), st.binary(max_size=60))


@given(st.lists(FRAME, max_size=20), st.integers(1, 30))
def test_frames_are_counted_however_they_are_cut(told: list[tuple[int, int, bytes]], size: int) -> None:
    sent = b"p" * 24 + b"".join(
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + b"\0\0\0\1" + payload for kind, flags, payload in told
    )
    meter = frames.Meter(24, 1 << 20)
    counted = sum(meter.idle(sent[start : start + size]) for start in range(0, len(sent), size))
    wanted = [
        kind
        for kind, flags, payload in told
        if ((len(payload) < frames.SMALL and not flags & 1) or flags & 8 if kind == 0 else kind != 1)
    ]
    assert counted == len(wanted)


def test_a_frame_that_is_too_large_is_known_by_its_first_bytes() -> None:
    with pytest.raises(frames.FramesError):
        frames.Meter(0, 100).idle(b"\0\x40\1\0\0\0\0\0\1")
    meter = frames.Meter(0, 100)
    assert meter.idle(b"\0\0\x40\1\0\0\0\0\1" + bytes(64)) == 0
    with pytest.raises(frames.FramesError):
        meter.idle(b"\0\0\x40\x09\0\0\0\0\1")
