"""Rows as bodies of the protocols: what comes out is what the sidecar's own schema takes, and what went in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack.exchange import Reply
from modelward.attack.layout import Layout, LayoutError
from modelward.attack.oracle import metadata_of
from modelward.detect import table
from modelward.detect.table import TableError
from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.schema import Schema

TWO = {
    "inputs": [
        {"name": "age", "datatype": "INT32", "shape": [-1], "minimum": 0, "maximum": 130},
        {"name": "measures", "datatype": "FP64", "shape": [-1, 2, 2], "minimum": -1, "maximum": 1},
        {"name": "smokes", "datatype": "BOOL", "shape": [-1, 1]},
        {"name": "ward", "datatype": "BYTES", "shape": [-1, 1]},
    ]
}


def schema(protocol: Any, declared: dict[str, Any]) -> Schema:
    tensors = [
        config.TensorDeclaration(
            one["name"], one["datatype"], one["shape"], minimum=one.get("minimum"), maximum=one.get("maximum")
        )
        for one in declared["inputs"]
    ]
    return Schema(protocol, tensors, "Reject")


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4), st.integers(0, 130), st.booleans(), st.sampled_from("ab"))
@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_a_row_is_a_body_that_fits(protocol: Any, measures: list[float], age: int, smokes: bool, ward: str) -> None:
    read = table.read(b"age,a,b,c,d,smokes,ward\n1,0,0,0,0,1,a\n2,0,0,0,0,0,b\n", ".csv", texts=True)
    layout, rows = Layout.of_schema(TWO, protocol).fitted(read)
    assert rows.shape == (2, layout.width) == (2, 7)
    body = layout.body(np.array([age, *measures, smokes, "ab".index(ward)]))
    checked = schema(protocol, TWO).check(Body(body))
    assert [tensor.data for tensor in checked.tensors] == [[age], measures, [smokes], [ward]]


def test_columns_are_found_by_name_in_whatever_order() -> None:
    declared = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2], "columns": ["a", "b"]}]}
    layout = Layout.of_schema(declared, "v2")
    _, rows = layout.fitted(table.read(b"b,other,a\n1,9,2\n", ".csv"))
    assert rows.tolist() == [[2.0, 1.0]]
    _, rows = layout.fitted(table.read(b"3,4\n", ".csv"))
    assert rows.tolist() == [[3.0, 4.0]]
    for text in (b"b,other\n1,9\n", b"1,2,3\n"):
        with pytest.raises(TableError):
            layout.fitted(table.read(text, ".csv"))


def test_an_open_axis_is_as_wide_as_the_data() -> None:
    layout = Layout.of_schema({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}]}, "v2")
    layout, rows = layout.fitted(table.read(b"1,2,3\n", ".csv"))
    assert layout.document(rows[0])["inputs"][0] == {
        "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0],
    }  # fmt: skip


@pytest.mark.parametrize(
    "declared", [{}, {"inputs": []}, {"inputs": [{"name": "x"}]}, {"inputs": [{"name": "x", "shape": [-1, -1, -1]}]}]
)
def test_inputs_that_nobody_can_lay_out_are_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(LayoutError):
        Layout.of_schema(declared, "v2")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["inputs", "outputs", "name", "shape", "datatype"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_metadata_of_any_kind_are_read_or_refused_in_words(document: Any) -> None:
    """They come from the model: nothing in them may break the attacker."""
    reply = Reply(200, {}, json.dumps(document).encode())
    try:
        layout = metadata_of(reply)
    except LayoutError:
        return
    assert isinstance(layout.width, int)
