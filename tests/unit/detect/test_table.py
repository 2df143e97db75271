from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.table import TableError, read


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_csv_with_and_without_a_header():
    named = read(b"a,b\n1,2\n3,4.5\n", ".csv")
    assert named.columns == ("a", "b")
    assert named.rows.tolist() == [[1, 2], [3, 4.5]]
    bare = read(b"1,2\n3,4\n", ".CSV")
    assert bare.columns is None
    assert bare.rows.tolist() == [[1, 2], [3, 4]]


def test_csv_with_other_separators_a_mark_and_empty_lines():
    assert read("\ufeffa;b\r\n1;2\r\n\r\n".encode(), ".csv").rows.tolist() == [[1, 2]]
    assert read(b"a\tb\n1\t2\n", ".csv").columns == ("a", "b")
    assert read(b'"a,b",c\n1,2\n', ".csv").columns == ("a,b", "c")


def test_missing_values_are_nan():
    rows = read(b"a,b\n1,\n?,NA\n", ".csv").rows
    assert np.isnan(rows[0, 1])
    assert np.isnan(rows[1]).all()


def test_columns_can_be_chosen_past_those_that_are_no_numbers():
    table = read(b"id,a,b\nx,1,2\ny,3,4\n", ".csv", ["b", "a"])
    assert table.columns == ("b", "a")
    assert table.rows.tolist() == [[2, 1], [4, 3]]
    assert read(b"1,2,3\n", ".csv", ["x2"]).rows.tolist() == [[3]]


def test_assumed_names_are_for_files_without():
    assert read(b"1,2\n", ".csv", ["b"], assumed=["a", "b"]).rows.tolist() == [[2]]
    assert read(b"c,b\n1,2\n", ".csv", ["b"], assumed=["a", "b"]).rows.tolist() == [[2]]
    assert read(npz(X=np.eye(2)), ".npz", ["b"], assumed=["a", "b"]).rows.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("content", "suffix", "wanted", "told"),
    [
        (b"", ".csv", [], "empty"),
        (b"a,b\n1\n", ".csv", [], "row 2 has 1 values"),
        (b"a,b\n1,x\n", ".csv", [], "row 2, column b: not a number"),
        (b"a,a\n1,2\n", ".csv", [], "same name"),
        (b"a,b\n1,2\n", ".csv", ["c"], "no column c; there are a, b"),
        (b"a\xff\n", ".csv", [], "UTF-8"),
        (b"x", ".npz", [], "npz"),
        (npz(Y=np.eye(2)), ".npz", [], "no array `X`"),
        (npz(X=np.ones(3)), ".npz", [], "table of numbers"),
        (npz(X=np.array([["a"]])), ".npz", [], "table of numbers"),
        (npz(X=np.eye(2), columns=np.array(["a"])), ".npz", [], "names 1 columns"),
        (b"x", ".xlsx", [], "csv, npz, parquet or jsonl"),
        (b"x", "", [], "nothing"),
        (b"x", ".parquet", [], "parquet"),
    ],
)
def test_what_cannot_be_read_is_told(content, suffix, wanted, told):
    with pytest.raises(TableError, match=told):
        read(content, suffix, wanted)


def test_npz_with_names_and_integers():
    table = read(npz(X=np.arange(4).reshape(2, 2), columns=np.array(["a", "b"]), y=np.ones(2)), ".npz", ["b"])
    assert table.columns == ("b",)
    assert table.rows.tolist() == [[1], [3]]


def test_npz_with_pickled_objects_is_refused():
    with pytest.raises(TableError, match="pickled"):
        read(npz(X=np.array([[{}]], dtype=object)), ".npz")


def test_parquet():
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2], "s": ["x", "y"], "b": [0.5, None]}), sink)
    table = read(sink.getvalue(), ".parquet", ["b", "a"])
    assert table.columns == ("b", "a")
    assert table.rows[0].tolist() == [0.5, 1]
    assert np.isnan(table.rows[1, 0])
    with pytest.raises(TableError, match="column s: not a number"):
        read(sink.getvalue(), ".parquet")


@given(st.binary(max_size=100), st.sampled_from([".csv", ".npz"]))
def test_rubbish_is_refused_or_a_table(content, suffix):
    try:
        table = read(content, suffix)
    except TableError:
        return
    assert table.rows.ndim == 2


@given(st.lists(st.lists(st.floats(allow_nan=False), min_size=3, max_size=3), min_size=1, max_size=10))
def test_numbers_are_read_as_they_are_written(rows):
    content = "\n".join(",".join(map(repr, row)) for row in rows).encode()
    assert read(b"a,b,c\n" + content, ".csv").rows.tolist() == rows
