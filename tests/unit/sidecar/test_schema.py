from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Outputs, Schema


def declared(**fields: Any) -> config.TensorDeclaration:
    document = {"name": "x", "datatype": "FP64", "shape": [-1, 3]} | fields
    return msgspec.json.decode(json.dumps(document), type=config.TensorDeclaration)


def v2(*inputs: config.TensorDeclaration, undeclared: Any = "Reject") -> Schema:
    return Schema("v2", list(inputs) or [declared()], undeclared)


def v1(*inputs: config.TensorDeclaration, undeclared: Any = "Reject") -> Schema:
    return Schema("v1", list(inputs) or [declared()], undeclared)


def body(data: Any = (1, 2, 3), **fields: Any) -> bytes:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": data} | fields
    return json.dumps({"inputs": [tensor]}).encode()


def forwarded(schema: Schema, content: bytes) -> Any:
    return json.loads(schema.check(Body(content)).encode().content)


def refusal(schema: Schema, content: bytes) -> Refusal:
    with pytest.raises(Refusal) as refused:
        schema.check(Body(content))
    assert refused.value.problem.status in (400, 422)
    return refused.value


@pytest.mark.parametrize("data", [[1, 2, 3], [[1, 2, 3]], [1.0, 2.5, -3e10]])
def test_flat_and_nested_data_are_the_same(data):
    flat = data[0] if isinstance(data[0], list) else data
    assert forwarded(v2(), body(data))["inputs"][0]["data"] == flat


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (body([1, 2]), "has 2 elements"),
        (body([1, 2, 3, 4]), "has 4 elements"),
        (body([1, True, 3]), "[1]"),
        (body([1, "2", 3]), "[1]"),
        (body([1, None, 3]), "[1]"),
        (body([[1, 2]], shape=[1, 3]), "nested otherwise"),
        (body([[1, 2, 3], [4, 5]], shape=[2, 3]), "nested otherwise"),
        (body([[[1, 2, 3]]]), "nested otherwise"),
        (body([[[1], [2], [3]]]), "[0]"),
        (body({"a": 1}), "must be array"),
        (body(None), "must be array"),
        (body(shape=[3]), "the shape must be"),
        (body(shape=[1, 4]), "the shape must be"),
        (body(shape=[0, 3]), "at least 1 long"),
        (body(shape=[-1, 3]), "shape"),
        (body(shape=[1, 1, 3]), "the shape must be"),
        (body(shape=[2**31, 3]), "elements in all"),
        (body(shape="x"), "shape"),
        (body(datatype="FP32"), "must be FP64"),
        (body(datatype="FLOAT"), "datatype"),
        (body(name="y"), "not declared"),
        (body(name=""), "name"),
        (body(extra=1), "unknown field"),
        (body(parameters={"a": [1]}), "parameters"),
        (body(parameters={"binary_data_size": 24}), "needs the binary tensor data"),
        (body(parameters={"binary_data": True}), "`binary_data` cannot be used here"),
        (body(parameters={"shared_memory_region": "r"}), "`shared_memory_region` cannot be used here"),
        (b'{"inputs": []}', "inputs"),
        (b"{}", "inputs"),
        (b"[]", "object"),
        (b'{"inputs": [{"name": "x"}]}', "missing required field"),
        (b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64"}]}', "needs `data`"),
        (json.dumps({"inputs": json.loads(body())["inputs"] * 2}).encode(), "comes twice"),
        (json.dumps(json.loads(body()) | {"more": 1}).encode(), "unknown field"),
        (body().replace(b"{", b'{"parameters": {"binary_data_output": 1}, ', 1), "must be true or false"),
        (body().replace(b"{", b'{"parameters": {"binary_data_size": 1}, ', 1), "cannot be used here"),
        (
            body().replace(b"{", b'{"outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}], ', 1),
            "`shared_memory_region` cannot be used here",
        ),
    ],
)
def test_what_does_not_fit_is_422_with_the_place(content, told):
    refused = refusal(v2(), content)
    assert refused.problem.slug == "schema-violation"
    assert told in refused.detail


@pytest.mark.parametrize(
    "content", [b"", b"{", b"nul", b'{"inputs": [}', b"\xff\xfe", b"[" * 100_000, body()[:-1], body() + b"x"]
)
def test_what_is_not_json_is_400(content):
    assert refusal(v2(), content).problem.slug == "malformed-json"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "0x1", "01", "+1", ".5", "1."])
def test_numbers_that_are_none(number):
    refusal(v2(), body().replace(b"2", number.encode()))


def test_bounds_are_held_where_the_element_stands():
    schema = v2(declared(minimum=-1, maximum=10))
    assert forwarded(schema, body([-1, 0, 10]))
    assert "[2] must be at most 10" in refusal(schema, body([0, 0, 10.001])).detail
    assert "[0] must be at least -1" in refusal(schema, body([-1.5, 0, 0])).detail


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("BOOL", [True, False, True], [1, 0, 1]),
        ("INT8", [-128, 0, 127], [-129, 0, 0]),
        ("UINT8", [0, 1, 255], [0, 1, 256]),
        ("INT16", [-32768, 0, 32767], [0, 0, 32768]),
        ("UINT16", [0, 0, 65535], [-1, 0, 0]),
        ("INT32", [-(2**31), 0, 2**31 - 1], [2**31, 0, 0]),
        ("UINT32", [0, 0, 2**32 - 1], [0, 0, 2**32]),
        ("INT64", [-(2**63), 0, 2**63 - 1], [2**63, 0, 0]),
        ("UINT64", [0, 0, 2**64 - 1], [0, 0, 2**64]),
        ("FP16", [65504, 0, -65504], [65505, 0, 0]),
        ("FP32", [3.4e38, 0, 0], [3.5e38, 0, 0]),
        ("FP64", [1.7e308, 0, 0], ["1", 0, 0]),
        ("BYTES", ["a", "", "ü"], [1, "a", "b"]),
    ],
)
def test_every_datatype_has_its_range(datatype, good, bad):
    schema = v2(declared(datatype=datatype))
    assert forwarded(schema, body(good, datatype=datatype))["inputs"][0]["data"] == good
    refusal(schema, body(bad, datatype=datatype))
    for wrong in (1.5, None, {}, "x" if datatype != "BYTES" else 1):
        if datatype.startswith("FP") and wrong == 1.5:
            continue
        refusal(schema, body([wrong, *good[1:]], datatype=datatype))


def test_a_bound_of_whole_numbers_may_be_a_fraction():
    schema = v2(declared(datatype="INT32", minimum=-0.5, maximum=2.5))
    assert forwarded(schema, body([0, 1, 2], datatype="INT32"))
    refusal(schema, body([3, 1, 2], datatype="INT32"))
    refusal(schema, body([-1, 1, 2], datatype="INT32"))


REPEATED = (
    body().replace(b'"data": [1, 2, 3]', b'"data": [1, 2, 3], "data": [7, 8, 9]'),
    body().replace(b"{", b'{"id": "a", "id": "b", ', 1),
    body().replace(b"{", b'{"id": "a", "\\u0069d": "b", ', 1),
    body().replace(b"{", b'{"parameters": {"a": "x:y", "a": "x"}, ', 1),
    body()[:-1] + b', "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [7, 8, 9]}]}',
    b'{"unknown": {"a": 1, "a": 1}}',
)


@pytest.mark.parametrize("content", REPEATED)
def test_a_name_that_comes_twice_is_refused(content):
    with pytest.raises(Refusal) as refused:
        v2().check(Body(content))
    assert refused.value.problem.slug == "malformed-json"
    assert "two members of one name" in refused.value.detail


def test_a_name_that_comes_twice_is_refused_in_what_is_dropped_too():
    extra = b'{"inputs": [{"name": "y", "shape": [1], "datatype": "BYTES", "data": [{"a": 1, "a": 2}]}, '
    with pytest.raises(Refusal, match="malformed-json"):
        v2(undeclared="Drop").check(Body(body().replace(b'{"inputs": [', extra, 1)))


@pytest.mark.parametrize(
    "content",
    [
        b'{"instances": [[1, 2, 3]], "instances": [[1, 2, 3]]}',
        b'{"instances": [{"x": [1, 2, 3], "x": [1, 2, 3]}]}',
        b'{"instances": [[1, 2, 3]], "parameters": {"a": 1, "a": 1}}',
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_name_that_comes_twice_is_refused_in_v1(content, known):
    with pytest.raises(Refusal, match="malformed-json"):
        Schema("v1", [declared()] if known else None, "Reject").check(Body(content))


def test_an_answer_that_names_its_outputs_twice_does_not_pass():
    outputs = Outputs([config.TensorDeclaration("y", "INT64", [1])])
    one = b'"outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [1]}]'
    outputs.check(Body(b"{" + one + b"}"))
    with pytest.raises(Refusal, match="bad-upstream"):
        outputs.check(Body(b'{"outputs": [{"name": "secret"}], ' + one + b"}"))
    with pytest.raises(Refusal, match="bad-upstream"):
        outputs.check(Body(b"{" + one + b", " + one + b"}"))


def test_colons_in_strings_repeat_nothing():
    names = config.TensorDeclaration("n", "BYTES", [-1])
    times = {"inputs": [{"name": "n", "shape": [1], "datatype": "BYTES", "data": ["12:00:00 \u003a"]}], "id": "a:b"}
    content = json.dumps(times).encode()
    assert json.loads(Schema("v2", [names], "Reject").check(Body(content)).encode().content) == times
    assert Schema("v2", [names], "Reject").check(
        Body(content.replace(b'"id"', b'"parameters": {"n": ' + b"1" * 15 + b'}, "id"'))
    )


def test_a_shape_that_no_request_can_hold_is_no_configuration():
    with pytest.raises(config.ConfigError, match="more than 4194304 elements"):
        v2(declared(shape=[1 << 31, 3]))


def test_undeclared_inputs_can_be_dropped_and_missing_ones_never():
    schema = v2(declared(), undeclared="Drop")
    content = json.loads(body())
    content["inputs"].append({"name": "ssn", "shape": [1], "datatype": "BYTES", "data": ["078-05-1120"]})
    sent = forwarded(schema, json.dumps(content).encode())
    assert [tensor["name"] for tensor in sent["inputs"]] == ["x"]
    assert "missing" in refusal(schema, json.dumps({"inputs": content["inputs"][1:]}).encode()).detail


def test_id_parameters_and_wanted_outputs_pass():
    content = json.loads(body(parameters={"content_type": "np", "count": 3, "flag": True}))
    content |= {"id": "42", "parameters": {"a": 1.5}, "outputs": [{"name": "y", "parameters": {"b": "c"}}]}
    assert forwarded(v2(), json.dumps(content).encode()) == content


def test_without_declared_inputs_the_structure_is_still_checked():
    schema = Schema("v2", None, "Reject")
    content = body(name="anything")
    assert forwarded(schema, content) == json.loads(content)
    refusal(schema, body([1, "a", 3], name="anything"))
    refusal(schema, body([1, 2], name="anything"))
    any_v1 = Schema("v1", None, "Reject")
    assert forwarded(any_v1, b'{"instances": [{"a": 1}, [2], "x"]}') == {"instances": [{"a": 1}, [2], "x"]}
    refusal(any_v1, b'{"inputs": [1]}')


def test_v1_rows_and_objects():
    assert forwarded(v1(), b'{"instances": [[1, 2, 3], [4, 5, 6]]}') == {"instances": [[1, 2, 3], [4, 5, 6]]}
    assert forwarded(v1(), b'{"instances": [{"x": [1, 2, 3]}]}') == {"instances": [{"x": [1, 2, 3]}]}
    several = v1(declared(name="a", shape=[-1]), declared(name="b", shape=[-1, 2, 2], datatype="INT32"))
    rows = {"instances": [{"a": 1.5, "b": [[1, 2], [3, 4]]}, {"a": 2, "b": [[5, 6], [7, 8]]}]}
    assert forwarded(several, json.dumps(rows).encode()) == rows
    assert several.check(Body(json.dumps(rows).encode())).rows == 2


@pytest.mark.parametrize(
    "content",
    [
        b'{"instances": []}',
        b'{"instances": 1}',
        b'{"instances": [[1, 2]]}',
        b'{"instances": [[1, 2, 3], [1, 2]]}',
        b'{"instances": [[1, 2, 3], 4]}',
        b'{"instances": [1, 2, 3]}',
        b'{"instances": [[1, 2, "3"]]}',
        b'{"instances": [{"y": [1, 2, 3]}]}',
        b'{"instances": [{"x": [1, 2, 3], "y": 1}]}',
        b'{"instances": [{"x": [1, 2, 3]}, [1, 2, 3]]}',
        b'{"instances": [[1, 2, 3]], "inputs": []}',
        b'{"instances": [[1, 2, 3],]}',
    ],
)
def test_v1_that_does_not_fit(content):
    refusal(v1(), content)


def test_v1_has_no_binary_tensors():
    with pytest.raises(Refusal) as refused:
        v1(declared()).check(Body(b'{"instances": [[1, 2, 3]]}', b"26"))
    assert refused.value.problem.slug == "unsupported-media-type"


def test_v1_drops_undeclared_fields_when_told():
    assert forwarded(v1(undeclared="Drop"), b'{"instances": [{"x": [1, 2, 3], "ssn": "1"}]}') == {
        "instances": [{"x": [1, 2, 3]}]
    }


def test_outputs():
    outputs = Outputs([declared(name="y", shape=[-1, 1], datatype="INT64")])
    outputs.check(
        Body(
            b'{"model_name":"m","model_version":null,"id":"1",'
            b'"outputs":[{"name":"y","shape":[2,1],"datatype":"INT64","data":[1,2]}]}'
        )
    )
    outputs.check(Body(b'{"outputs": []}'))
    # As KServe's Python server writes what is not there.
    outputs.check(
        Body(
            b'{"model_name":"m","model_version":null,"id":"1","parameters":null,"outputs":[{"name":"y","shape":[1,1],'
            b'"datatype":"INT64","parameters":null,"data":[1]}]}'
        )
    )
    for bad in (
        b"{}",
        b"x",
        b'{"outputs":[{"name":"z","shape":[1,1],"datatype":"INT64","data":[1]}]}',
        b'{"outputs":[],"debug":1}',
    ):
        with pytest.raises(Refusal) as refused:
            outputs.check(Body(bad))
        assert (refused.value.problem.status, refused.value.reason) == (502, "upstream-schema")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ALMOST = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {"name": st.just("x") | st.text(max_size=3), "shape": st.just([1, 3]) | JSON, "data": JSON},
                optional={"datatype": st.just("FP64") | JSON, "parameters": JSON},
            ),
            max_size=3,
        )
    }
)


@given(JSON | ALMOST | st.fixed_dictionaries({"instances": JSON}))
def test_any_json_is_forwarded_as_checked_or_refused(document):
    content = json.dumps(document).encode()
    for schema in (v2(), v1(), Schema("v2", None, "Reject"), Schema("v1", None, "Drop")):
        try:
            checked = schema.check(Body(content))
        except Refusal as refused:
            if refused.problem.status not in (400, 422):
                raise
            continue
        again = schema.check(checked.encode())
        assert again.encode() == checked.encode()


@given(st.binary(max_size=64))
def test_any_bytes_are_forwarded_as_checked_or_refused(content):
    for schema in (v2(), v1()):
        with pytest.raises(Refusal):
            schema.check(Body(content))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_numbers_arrive_as_they_were_sent(data):
    assert forwarded(v2(), body(data))["inputs"][0]["data"] == data
