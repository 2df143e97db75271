"""Tensors as bytes: held to all that tensors in JSON are held to, and to the last byte."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelward.privacy.sanitise import MAX_TEXT
from modelward.sidecar import binary, config
from modelward.sidecar.binary import Body, Texts
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Outputs, Schema
from modelward.sidecar.tensors import Tensor
from tests.unit.sidecar.harness import NORMAL, STRANGE, Asked, ModelConnection, request, settings

DTYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def declared(**fields: Any) -> config.TensorDeclaration:
    document = {"name": "x", "datatype": "FP64", "shape": [-1, 3]} | fields
    return msgspec.json.decode(json.dumps(document), type=config.TensorDeclaration)


def v2(*inputs: config.TensorDeclaration, undeclared: Any = "Reject") -> Schema:
    return Schema("v2", list(inputs) or [declared()], undeclared)


def packed(datatype: str, data: Any) -> bytes:
    """The bytes of `data`, written without the code under test."""
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in data)
    return np.array(data, DTYPES[datatype]).tobytes()


def described(data: bytes, **fields: Any) -> dict[str, Any]:
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP64", "parameters": {"binary_data_size": len(data)}}
    return entry | fields


def body(*tensors: tuple[dict[str, Any], bytes], length: bytes | None = None, key: str = "inputs", **more: Any) -> Body:
    head = json.dumps({key: [entry for entry, _ in tensors]} | more).encode()
    content = head + b"".join(data for _, data in tensors)
    return Body(content, b"%d" % len(head) if length is None else length)


def of(data: Any, datatype: str = "FP64", **fields: Any) -> Body:
    """A request with one input, sent as bytes."""
    raw = data if isinstance(data, bytes) else packed(datatype, data)
    return body((described(raw, datatype=datatype, **fields), raw))


def refused(schema: Schema, content: Body) -> str:
    with pytest.raises(Refusal) as found:
        schema.check(content)
    assert found.value.problem.slug == "schema-violation"
    return found.value.detail


def forwarded(schema: Schema, content: Body) -> tuple[Any, bytes]:
    """The JSON part as the model gets it, and the bytes after it."""
    sent = schema.check(content).encode()
    assert sent.json_length is not None
    length = int(sent.json_length)
    return json.loads(sent.content[:length]), sent.content[length:]


SAMPLES: dict[str, tuple[list[Any], list[Any]]] = {  # what is sent, and what JSON would say of it
    "BOOL": ([True, False, True], [True, False, True]),
    **{f"UINT{bits}": ([0, 1, 2**bits - 1],) * 2 for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": ([-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1],) * 2 for bits in (8, 16, 32, 64)},
    "FP16": ([65504, 0.1, -65504], [65504.0, 0.0999755859375, -65504.0]),
    "FP32": ([0.1, 1e-45, 3.4e38], [float(np.float32(each)) for each in (0.1, 1e-45, 3.4e38)]),
    "FP64": ([0.1, -0.0, 1.7e308],) * 2,
    "BYTES": (["a", "", "grün €"],) * 2,
}


def test_every_datatype_has_a_sample():
    assert set(SAMPLES) == set(get_args(config.Datatype))


@pytest.mark.parametrize("datatype", SAMPLES)
def test_bytes_mean_what_json_means_and_go_on_as_bytes(datatype):
    sent, meant = SAMPLES[datatype]
    schema = v2(declared(datatype=datatype))
    checked = schema.check(of(sent, datatype))
    as_json = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": datatype, "data": meant}]}
    (twin,) = schema.check(Body(json.dumps(as_json).encode())).tensors
    head, rest = forwarded(schema, of(sent, datatype))
    assert rest == packed(datatype, sent)
    assert head["inputs"] == [described(rest, datatype=datatype)]
    if datatype != "BYTES":
        assert checked.tensors[0].numbers().tolist() == twin.numbers().tolist()
    assert checked.tensors[0].data == twin.data == meant
    assert [type(each) for each in checked.tensors[0].data] == [type(each) for each in twin.data]
    # and once the list has been looked at, and may have been changed, it is the list that goes on
    assert checked.encode().content.endswith(rest)


@pytest.mark.parametrize("datatype", SAMPLES)
def test_a_byte_too_few_or_too_many_is_refused(datatype):
    sent, _ = SAMPLES[datatype]
    raw = packed(datatype, sent)
    schema = v2(declared(datatype=datatype))
    for wrong in (raw[:-1], raw + b"\x00", b"", raw * 2):
        assert refused(schema, of(wrong, datatype))
    entry = described(raw, datatype=datatype)
    for size in (len(raw) - 1, len(raw) + 1, 2**31, 2**63, 2**70, 0, -1, -len(raw), float(len(raw)), True, "8", None):
        entry["parameters"]["binary_data_size"] = size
        assert refused(schema, body((entry, raw)))


def test_bytes_are_held_to_shape_and_declaration():
    raw = packed("FP64", [1, 2, 3])
    for fields, told in (
        ({"shape": [3]}, "the shape must be"),
        ({"shape": [1, 4]}, "the shape must be"),
        ({"shape": [0, 3]}, "at least 1 long"),
        ({"shape": [2, 3]}, "6 elements of FP64 have 48"),
        ({"shape": [2**31, 3]}, "elements in all"),
        ({"datatype": "FP32"}, "must be FP64"),
        ({"name": "y"}, "not declared"),
        ({"data": [1, 2, 3]}, "has its data twice"),
    ):
        assert told in refused(v2(), body((described(raw) | fields, raw)))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none(datatype, number):
    told = refused(v2(declared(datatype=datatype)), of([1, number, 3], datatype))
    assert "element [1] must be a finite number" in told
    assert refused(v2(declared(datatype=datatype, minimum=0, maximum=5)), of([1, number, 3], datatype))


@pytest.mark.parametrize("datatype", [name for name in SAMPLES if name not in ("BOOL", "BYTES")])
def test_bounds_are_held_where_the_element_stands(datatype):
    schema = v2(declared(datatype=datatype, minimum=1, maximum=10))
    assert forwarded(schema, of([1, 5, 10], datatype))
    assert "element [2] must be at most 10" in refused(schema, of([1, 10, 11], datatype))
    assert "element [1] must be at least 1" in refused(schema, of([1, 0, 10], datatype))
    beyond = v2(declared(datatype=datatype, minimum=1e300))  # no element can be: none is
    assert refused(beyond, of([1, 5, 10], datatype))


def test_bounds_are_compared_as_json_compares_them():
    """The single float next to 0.7 is below 0.7, the one next to 0.1 is above it."""
    schema = v2(declared(datatype="FP32", minimum=0.1, maximum=0.7))
    assert forwarded(schema, of([0.1, 0.5, 0.7], "FP32"))
    assert refused(v2(declared(datatype="FP32", maximum=0.1)), of([0, 0, 0.1], "FP32"))
    assert refused(v2(declared(datatype="FP32", minimum=0.7)), of([1, 1, 0.7], "FP32"))
    whole = v2(declared(datatype="UINT64", maximum=2**63))
    assert forwarded(whole, of([0, 1, 2**63], "UINT64"))
    assert "[2]" in refused(whole, of([0, 1, 2**63 + 1], "UINT64"))


@pytest.mark.parametrize("wrong", [2, 0x80, 0xFF])
def test_a_boolean_is_a_zero_or_a_one(wrong):
    told = refused(v2(declared(datatype="BOOL")), of(bytes([1, 0, wrong]), "BOOL"))
    assert "element [2] must be the byte 0 or 1" in told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "too few"),
        (b"\x01\x00\x00\x00a", "too few"),
        (struct.pack("<I", 2**32 - 1) + b"a" * 20, "end before element [1]"),
        (packed("BYTES", ["a", "b", "c"])[:-1], "end before element [2]"),
        (packed("BYTES", ["aaaa", "bbbb"]), "end before element [2]"),
        (packed("BYTES", ["a", "b", "c", ""]), "4 bytes more"),
        (struct.pack("<I", 3) + b"\xff\xfe\xfd" + packed("BYTES", ["a", "b"]), "element [0] must be text in UTF-8"),
        (struct.pack("<I", 3) + b"\xed\xa0\x80" + packed("BYTES", ["a", "b"]), "element [0] must be text in UTF-8"),
        (struct.pack(">I", 1) + b"a" + packed("BYTES", ["a", "b"]), "end before element [1]"),
    ],
)
def test_texts_that_lie_about_their_lengths(raw, told):
    assert told in refused(v2(declared(datatype="BYTES")), of(raw, "BYTES"))


@given(st.lists(st.text(max_size=4) | st.integers(250, 600).map(lambda size: "x" * size), min_size=1, max_size=12))
def test_texts_are_found_where_they_lie(texts):
    found = Texts(memoryview(packed("BYTES", texts)), len(texts))
    assert (len(found), found.tolist()) == (len(texts), texts)
    assert found.plain == all(text.isascii() and text.isprintable() for text in texts)
    assert found.longest == max(len(text.encode()) for text in texts)


def test_a_long_text_that_looks_like_short_ones_is_one():
    """By the lowest bytes of what look like lengths these are five elements, and end where the data do."""
    first, second = ["x"] * 256, ["a"] * 40
    first[0] = first[131] = "\x7f"
    second[2], second[16] = "\n", " "
    texts = ["".join(first), "".join(second), "", "", ""]
    raw = packed("BYTES", texts)
    at = 0
    for _ in texts:
        at += 4 + raw[at]
    assert at == len(raw)
    assert Texts(memoryview(raw), 5).tolist() == texts


def test_text_longer_than_any_is_refused_as_in_json():
    schema = v2(declared(datatype="BYTES", shape=[1]))
    entry = {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["x" * (MAX_TEXT + 1)]}
    told = refused(schema, of(entry["data"], "BYTES", shape=[1]))
    assert "at most" in told
    assert told == refused(schema, Body(json.dumps({"inputs": [entry]}).encode()))


def test_text_is_sanitised_as_in_json():
    schema = v2(declared(datatype="BYTES"))
    _, rest = forwarded(schema, of(["a\u202eb", "e\u0301", "\x00c"], "BYTES"))
    assert rest == packed("BYTES", ["ab", "é", "c"])


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"+1", b" 1", b"1, 1", b"0x10", b"1e1", b"99999999999", b"\xb2"])
def test_a_length_of_the_json_part_that_is_no_number(value):
    content = of([1, 2, 3])
    assert "Inference-Header-Content-Length" in refused(v2(), replace(content, json_length=value))


def test_a_json_part_longer_or_shorter_than_it_is():
    content = of([1, 2, 3])
    assert content.json_length is not None
    length = int(content.json_length)
    assert refused(v2(), replace(content, json_length=b"%d" % (len(content.content) + 1)))
    for wrong in (0, length - 1, length + 1, len(content.content)):
        with pytest.raises(Refusal) as found:
            v2().check(replace(content, json_length=b"%d" % wrong))
        assert found.value.problem.slug == "malformed-json"


def test_bytes_are_taken_in_order_once_and_to_the_end():
    schema = v2(declared(name="a", shape=[-1]), declared(name="b", shape=[-1], datatype="INT8"))
    first, second = packed("FP64", [1.5]), packed("INT8", [7])
    a = described(first, name="a", shape=[1])
    b = described(second, name="b", shape=[1], datatype="INT8")
    head, rest = forwarded(schema, body((b, second), (a, first)))
    assert [entry["name"] for entry in head["inputs"]] == ["b", "a"]
    assert rest == second + first
    assert "1 bytes more" in refused(schema, body((a, first), (b, second + b"\x00")))
    assert "ends before" in refused(schema, body((a, first), (b, b"")))
    mixed = {"name": "b", "shape": [1], "datatype": "INT8", "data": [7]}
    head, rest = forwarded(schema, body((mixed, b""), (a, first)))
    assert head["inputs"][0] == mixed
    assert rest == first
    unused = body((mixed, b""), ({"name": "a", "shape": [1], "datatype": "FP64", "data": [1.5]}, b"12345678"))
    assert "8 bytes more" in refused(schema, unused)


def test_a_name_that_comes_twice_is_refused():
    """What has no `data` has one member less, and leaves no room for another."""
    raw = packed("FP64", [1, 2, 3])
    content = body((described(raw), raw), id="a")
    head = content.content[: int(content.json_length or 0)]
    for again in (head.replace(b'"id"', b'"id": "b", "id"'), head.replace(b'"name"', b'"name": "x", "name"')):
        with pytest.raises(Refusal) as found:
            v2().check(Body(again + raw, b"%d" % len(again)))
        assert "two members of one name" in found.value.detail
    answer = json.dumps({"outputs": [described(raw)]}).encode().replace(b'"name"', b'"name": "x", "name"')
    with pytest.raises(Refusal):
        Outputs([declared()]).check(Body(answer + raw, b"%d" % len(answer)))


def test_an_undeclared_input_is_dropped_with_its_bytes():
    secret = b"078-05-1120"
    dropped = described(secret, name="ssn", datatype="UINT8", shape=[len(secret)])
    raw = packed("FP64", [1, 2, 3])
    head, rest = forwarded(v2(undeclared="Drop"), body((dropped, secret), (described(raw), raw)))
    assert [entry["name"] for entry in head["inputs"]] == ["x"]
    assert rest == raw
    assert secret not in json.dumps(head).encode()


def test_wanted_outputs_and_parameters_pass():
    raw = packed("FP64", [1, 2, 3])
    entry = described(raw, parameters={"binary_data_size": len(raw), "unit": "mm"})
    more = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}], "parameters": {"binary_data_output": True}}
    head, _ = forwarded(v2(), body((entry, raw), **more))
    assert head == {"inputs": [entry]} | more


def test_without_declared_inputs_bytes_are_still_data_of_their_datatype():
    schema = Schema("v2", None, "Reject")
    assert forwarded(schema, of([1, 2, 3]))[1] == packed("FP64", [1, 2, 3])
    assert refused(schema, of(b"\x02\x00\x01", "BOOL"))
    assert refused(schema, of([1, 2]))


@pytest.mark.parametrize("datatype", SAMPLES)
def test_outputs_as_bytes(datatype):
    sent, _ = SAMPLES[datatype]
    raw = packed(datatype, sent)
    outputs = Outputs([declared(name="y", datatype=datatype)])
    entry = described(raw, name="y", datatype=datatype)
    outputs.check(body((entry, raw), key="outputs"))
    for bad in (
        body((entry, raw[:-1]), key="outputs"),
        body((entry, raw + b"\x00"), key="outputs"),
        body((entry | {"name": "z"}, raw), key="outputs"),
        body((entry | {"shape": [1, 4]}, raw), key="outputs"),
        body((entry, raw), key="outputs", length=b"1, 2"),
        replace(body((entry, raw), key="outputs"), json_length=None),
        Body(json.dumps({"outputs": [entry]}).encode()),
    ):
        with pytest.raises(Refusal) as found:
            outputs.check(bad)
        assert (found.value.problem.status, found.value.reason) == (502, "upstream-schema")


# --- properties

ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "BYTES": st.text(st.characters(exclude_categories=["C", "M"], max_codepoint=0x24F), max_size=6),
    **{f"INT{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": st.floats(width=bits, allow_nan=False, allow_infinity=False) for bits in (16, 32, 64)},
}  # type: ignore[dict-item] # the widths are literals to mypy


def tensors(datatype: str) -> st.SearchStrategy[tuple[str, list[Any]]]:
    return st.tuples(st.just(datatype), st.lists(ELEMENTS[datatype], min_size=1, max_size=20))


TENSORS = st.lists(st.sampled_from(sorted(ELEMENTS)).flatmap(tensors), min_size=1, max_size=4)


def sent_as_bytes(given_tensors: list[tuple[str, list[Any]]]) -> tuple[Schema, Body]:
    inputs, parts = [], []
    for index, (datatype, data) in enumerate(given_tensors):
        raw = packed(datatype, data)
        inputs.append(declared(name=f"t{index}", datatype=datatype, shape=[-1]))
        parts.append((described(raw, name=f"t{index}", datatype=datatype, shape=[len(data)]), raw))
    return v2(*inputs), body(*parts)


def stays_as_checked(schema: Schema, content: Body) -> list[Tensor]:
    """What is not refused is forwarded so that a second check finds the same; its tensors."""
    try:
        checked = schema.check(content)
    except Refusal as found:
        if found.problem.status not in (400, 422):
            raise
        return []
    assert schema.check(checked.encode()).encode() == checked.encode()
    return checked.tensors


@given(TENSORS)
def test_round_trip(given_tensors):
    schema, content = sent_as_bytes(given_tensors)
    checked = schema.check(content)
    rest = b"".join(packed(datatype, data) for datatype, data in given_tensors)
    assert checked.encode().content.endswith(rest)
    again = schema.check(checked.encode())
    for tensor, twin, (datatype, data) in zip(checked.tensors, again.tensors, given_tensors, strict=True):
        assert binary.to_bytes(datatype, tensor.data) == packed(datatype, data)
        assert tensor.data == twin.data == data
    assert again.encode() == checked.encode()


@given(TENSORS, st.data())
def test_cut_prolonged_or_with_lengths_that_lie(given_tensors, data):
    """Whatever is done to a body: it is refused, or goes on as it was checked, every byte once."""
    schema, content = sent_as_bytes(given_tensors)
    assert content.json_length is not None
    raw = bytearray(content.content)
    length = int(content.json_length)
    match data.draw(st.sampled_from(["cut", "prolonged", "length", "bytes"])):
        case "cut":
            del raw[data.draw(st.integers(0, len(raw) - 1)) :]
        case "prolonged":
            raw += data.draw(st.binary(min_size=1, max_size=9))
        case "length":
            length = data.draw(st.integers(0, len(raw) * 2).filter(lambda each: each != length))
        case _:
            for _ in range(data.draw(st.integers(1, 4))):
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
            mutated = Body(bytes(raw), b"%d" % length)
            stays_as_checked(schema, mutated)
            return
    with pytest.raises(Refusal) as refusal:
        schema.check(Body(bytes(raw), b"%d" % length))
    assert refusal.value.problem.status in (400, 422)


@given(st.sampled_from(sorted(ELEMENTS)), st.binary(max_size=80), st.integers(1, 2**22))
def test_any_bytes_are_data_or_refused(datatype, raw, count):
    schema = v2(declared(datatype=datatype, shape=[-1]))
    content = of(raw, datatype, shape=[count])
    for tensor in stays_as_checked(schema, content):
        assert len(tensor.data) == count


# --- over real sockets


def post(content: Body, **header: str) -> bytes:
    lines = {"content-type": "application/octet-stream"}
    if content.json_length is not None:
        lines["inference-header-content-length"] = content.json_length.decode()
    return request(content.content, header=lines | {name.replace("_", "-"): value for name, value in header.items()})


def ask(running: Any, sent: bytes) -> Any:
    with running.client() as client:
        client.send(sent)
        return client.read()


def replies(content: Body) -> Callable[[ModelConnection, Asked], None]:
    assert content.json_length is not None
    header = b"inference-header-content-length: " + content.json_length + b"\r\n"
    return lambda connection, _: connection.answer(content.content, header=header)


def test_bytes_reach_the_model_as_bytes(running):
    content = of(NORMAL)
    answer = ask(running, post(content))
    assert answer.status == 200
    (asked,) = running.model.asked
    assert asked.header["content-type"] == "application/octet-stream"
    length = int(asked.header["inference-header-content-length"])
    assert json.loads(asked.body[:length])["inputs"] == [described(asked.body[length:])]
    assert asked.body[length:] == packed("FP64", NORMAL)
    assert set(asked.header) == {
        "host", "x-request-id", "content-type", "content-length", "inference-header-content-length"
    }  # fmt: skip
    (line,) = running.log(1)
    assert (line["fields"], line["rows"]) == (["x"], 1)


def test_the_detector_sees_what_is_in_the_bytes(running):
    answer = ask(running, post(of(STRANGE)))
    assert (answer.status, answer.problem) == (403, "anomalous-input")
    assert running.model.asked == []


def test_what_is_sanitised_goes_on_as_bytes(run):
    running = run(screening=settings()["screening"] | {"onAnomaly": "Sanitise"})
    assert ask(running, post(of(STRANGE))).header["x-modelward-verdict"] == "sanitised"
    (asked,) = running.model.asked
    received = np.frombuffer(asked.body[int(asked.header["inference-header-content-length"]) :], "<f8")
    assert received[0] == STRANGE[0]
    assert 10 < received[1] < 15


@pytest.mark.parametrize(
    "changes",
    [
        {"content_type": "application/json"},
        {"content_type": "text/plain"},
        {"content_encoding": "gzip"},
    ],
)
def test_other_media_are_415(running, changes):
    assert ask(running, post(of(NORMAL), **changes)).problem == "unsupported-media-type"
    assert running.model.asked == []


def test_without_a_content_type_as_tritons_client_sends_it(running):
    assert ask(running, post(of(NORMAL), content_type="")).status == 200


def test_without_the_length_of_the_json_part_it_is_415_and_says_so(running):
    answer = ask(running, post(replace(of(NORMAL), json_length=None)))
    assert answer.problem == "unsupported-media-type"
    assert "Inference-Header-Content-Length" in answer.json["detail"]


def test_two_lengths_are_400(running):
    content = of(NORMAL)
    twice = post(content).replace(b"\r\n\r\n", b"\r\nInference-Header-Content-Length: 5\r\n\r\n", 1)
    assert ask(running, twice).problem == "bad-framing"
    assert running.model.asked == []


@pytest.mark.parametrize("target", ["/v2/models/m/infer_stream", "/v2/models/m/explain"])
def test_only_infer_takes_bytes(run, target):
    access = settings()["access"]
    access["rules"][0]["operations"] = ["Infer", "Explain"]
    running = run(access=access)
    sent = post(of(NORMAL)).replace(b"/v2/models/m/infer", target.encode(), 1)
    assert ask(running, sent).problem == "unsupported-media-type"


def test_an_answer_in_bytes_is_checked_and_passes_as_it_came(run):
    outputs = [{"name": "y", "datatype": "FP32", "shape": [-1], "maximum": 1}]
    running = run(outputs=outputs)
    raw = packed("FP32", [0.5, 0.25])
    entry = described(raw, name="y", datatype="FP32", shape=[2])
    good = body((entry, raw), key="outputs")
    running.model.behaviour = replies(good)
    answer = ask(running, post(of(NORMAL)))
    assert answer.body == good.content
    assert answer.header["inference-header-content-length"].encode() == good.json_length
    too_much = packed("FP32", [0.5, 1.5])
    for bad in (body((entry, too_much), key="outputs"), body((entry, raw + b"\x00"), key="outputs")):
        running.model.behaviour = replies(bad)
        assert ask(running, post(of(NORMAL))).problem == "bad-upstream"
    right, wrong = (b"inference-header-content-length: %b\r\n" % length for length in (good.json_length, b"2"))
    running.model.behaviour = lambda connection, _: connection.answer(good.content, header=right + wrong)
    twice = ask(running, post(of(NORMAL)))  # it is checked by the first one, and that one alone passes
    assert twice.body == good.content
    assert twice.header["inference-header-content-length"].encode() == good.json_length
    running.model.behaviour = lambda connection, _: connection.answer(good.content, header=wrong + right)
    assert ask(running, post(of(NORMAL))).problem == "bad-upstream"


def test_fields_are_treated_in_bytes_both_ways(run):
    fields = {
        "a": {"treatment": "Generalise", "step": 5},
        "c": {"treatment": "Drop"},
        "y": {"treatment": "Round", "digits": 1},
    }
    running = run(fields=fields | {"z": {"treatment": "Drop"}}, screening={})
    parts = [
        (described(packed(kind, data), name=name, datatype=kind, shape=[len(data)]), packed(kind, data))
        for name, kind, data in (("y", "FP32", [1.75, 2.25]), ("z", "BYTES", ["secret"]), ("w", "INT8", [1]))
    ]
    running.model.behaviour = replies(body(*parts, key="outputs"))
    answer = ask(running, post(of([37.0, 12.5, 51.0])))
    (asked,) = running.model.asked
    received = np.frombuffer(asked.body[int(asked.header["inference-header-content-length"]) :], "<f8")
    assert received.tolist() == [35.0, 12.5, 0.0]
    length = int(answer.header["inference-header-content-length"])
    head = json.loads(answer.body[:length])
    assert [entry["name"] for entry in head["outputs"]] == ["y", "w"]
    assert [entry["parameters"]["binary_data_size"] for entry in head["outputs"]] == [8, 1]
    assert answer.body[length:] == packed("FP32", [1.8, 2.2]) + packed("INT8", [1])
    assert b"secret" not in answer.body
    for bad in (body((parts[1][0] | {"data": ["secret"]}, parts[1][1]), key="outputs"), body(parts[0], key="outputs")):
        running.model.behaviour = replies(replace(bad, content=bad.content + b"secret"))
        assert ask(running, post(of([37.0, 12.5, 51.0]))).problem == "bad-upstream"


def test_a_treated_number_that_its_datatype_cannot_hold_is_refused():
    with pytest.raises(binary.UnfitError):
        binary.to_bytes("FP16", [70_000.0])
    for datatype, lower in pairwise(["FP64", "FP32", "FP16"]):
        assert binary.to_bytes(datatype, [1.0]) != binary.to_bytes(lower, [1.0])
    with pytest.raises(binary.UnfitError):
        binary.to_bytes("INT8", [128])
