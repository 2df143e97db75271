from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelward.scan import reading
from modelward.scan.dataset import DataError
from modelward.scan.reading import read


def cells(data, name):
    column = data.column(name)
    return [column.values[code] for code in column.codes]


def written(tmp_path: Path, text: str, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_text_numbers_gaps_and_lines(tmp_path):
    data = read(written(tmp_path, '\ufeffname;age\n"Ann\nLee";41\n\nBob; NaN \nBob;41.0\n'))
    assert (data.names, data.rows, data.named) == (("name", "age"), 3, True)
    assert cells(data, "name") == ["Ann\nLee", "Bob", "Bob"]
    assert cells(data, "age") == ["41", "", "41.0"]
    assert data.lines.tolist() == [2, 5, 6]
    age = data.column("age")
    assert (age.present, age.whole, age.ranks()[0] == age.ranks()[2]) == (2, True, True)
    assert data.column("name").numbers is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a,b\n1,2\n", True),
        ("1,2\n3,4\n", False),
        ("red,1\nblue,2\n", False),
        ("red,big\nblue,big\nred,small\n", False),
        ("colour,size\nblue,big\nred,small\n", True),
        ("colour,size\n", None),
    ],
)
def test_a_header_is_told_from_a_row(tmp_path, text, named):
    path = written(tmp_path, text)
    if named is None:
        with pytest.raises(DataError, match="no rows"):
            read(path)
        return
    data = read(path)
    assert (data.named, data.rows) == (named, text.count("\n") - named)
    assert data.lines.tolist() == list(range(1 + named, 1 + named + data.rows))


def test_npz_and_parquet_are_the_same_table(tmp_path):
    parquet = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"a": [1.0, 2.5, None], "b": ["x", None, "x"], "c": [[1], [1], []]}), parquet
    )
    data = read(parquet)
    assert [cells(data, name) for name in data.names] == [["1", "2.5", ""], ["x", "", "x"], ["[1]", "[1]", "[]"]]
    npz = tmp_path / "data.npz"
    np.savez(npz, X=np.array([[1, 7], [2.5, 7], [np.nan, 8]]), y=np.array(["p", "q", "p"]))
    data = read(npz)
    assert data.names == ("x0", "x1", "y")
    assert (cells(data, "x0"), cells(data, "y")) == (["1", "2.5", ""], ["p", "q", "p"])


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a,b\n1,2\n3\n", 3, "it has 1 values and the first line has 2"),
        ("a,a\n1,2\n", 1, "columns 1 and 2 have the same name"),
        ("a,\n1,2\n", 1, "column 2 of the header has no name"),
        ("", 0, "it is empty"),
        (f"a\n1\n{'x' * 200_000}\n", 3, "not readable as csv"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_the_fix(tmp_path, text, line, told):
    with pytest.raises(DataError, match=told) as error:
        read(written(tmp_path, text))
    assert error.value.line == line
    assert "Fix: " in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n1,2\n1,\xff\n")
    with pytest.raises(DataError, match="not UTF-8") as error:
        read(path)
    assert error.value.line == 3


@pytest.mark.parametrize("name", ["data.npz", "data.parquet"])
def test_damaged_archives(tmp_path, name):
    with pytest.raises(DataError, match="Fix: "):
        read(written(tmp_path, "PK no such thing", name))


def test_too_much_is_refused_before_it_is_held(tmp_path, monkeypatch):
    path = written(tmp_path, "a,b\n" + "1,2\n" * 50)
    monkeypatch.setattr(reading, "MAX_CELLS", 60)
    with pytest.raises(DataError, match="more than 30 rows of 2 columns") as error:
        read(path)
    assert error.value.line == 32
    monkeypatch.setattr(reading, "MAX_TEXT", 3)
    with pytest.raises(DataError, match="more than 3 characters"):
        read(written(tmp_path, "a\n1\n22\n333\n"))


def test_numbers_of_arrays_are_kept_as_numbers_and_large_whole_ones_exactly(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, X=np.array([[9007199254740993, 1], [9007199254740992, 2], [7, 2]]))
    data = read(path)
    assert cells(data, "x0") == ["9007199254740993", "9007199254740992", "7"]
    assert cells(data, "x1") == ["1", "2", "2"]
    assert data.column("x1").values[0:1][0] == "1"
    assert data.column("x1").whole


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_holds_it_is_read_or_refused_with_a_fix(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content)
    try:
        data = read(path)
    except DataError as error:
        assert "Fix: " in str(error)  # noqa: PT017
    else:
        assert all(len(column.codes) == data.rows > 0 for column in data.columns)


def test_the_line_of_a_byte_that_is_no_text_far_down(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 9000 + b"\xff,1\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.line == 9002
