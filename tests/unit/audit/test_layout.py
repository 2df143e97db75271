"""What is counted where: every value has one cell, and what cannot be counted is said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.audit.layout import Counted, LayoutError, layout_of, read_layout


def cell_of(counted: Counted, value: Any) -> str:
    return counted.names[counted.finder()(value)]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-5, "below 18"),
        (17.99, "below 18"),
        (18, "[18, 40)"),
        (39.5, "[18, 40)"),
        (65, "65 and above"),
        (1e300, "65 and above"),
        (float("nan"), "other"),
        (float("inf"), "other"),
        ("33", "other"),
    ],
)
def test_numbers_are_counted_by_interval(value: Any, cell: str) -> None:
    assert cell_of(Counted("age", edges=(18, 40, 65)), value) == cell


@pytest.mark.parametrize(
    ("value", "cell"), [("f", "f"), ("F", "other"), (1, "1"), (1.0, "1"), (True, "true"), (2, "other")]
)
def test_texts_and_numbers_are_counted_by_name(value: Any, cell: str) -> None:
    assert cell_of(Counted("sex", values=("f", "1", "true")), value) == cell


@given(st.floats() | st.text() | st.booleans() | st.integers(-(1 << 64), 1 << 64))
def test_every_value_has_a_cell(value: Any) -> None:
    for counted in (Counted("a", edges=(0.5,)), Counted("a", values=("x",))):
        assert 0 <= counted.finder()(value) < len(counted.names)


def test_with_an_outcome_a_group_has_two_cells() -> None:
    counted = Counted("sex", values=("f",), outcome=True)
    assert counted.names == ("f, selected", "f, not selected", "other, selected", "other, not selected")


@pytest.mark.parametrize(
    ("counted", "why"),
    [
        ([], "nothing to count"),
        ([Counted("a")], "a: either values or edges"),
        ([Counted("a", values=("x",), edges=(1.0,))], "either values or edges"),
        ([Counted("a", edges=(1.0, 1.0))], "edges must rise"),
        ([Counted("a", values=tuple(map(str, range(4096))))], "4,097 cells"),
        ([Counted("a", values=("x",))] * 65, "65 fields"),
    ],
)
def test_what_cannot_be_counted_is_said(counted: list[Counted], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        layout_of(counted)


def test_a_layout_is_read_as_it_was_written() -> None:
    layout = layout_of([Counted("a", edges=(1.0,)), Counted("b", values=("x",), outcome=True)], ["c"])
    assert read_layout(layout.encode()) == layout
    assert layout.size == 7
    for hostile in (b"", b"{}", b"[" * 100_000, b'{"blocks":[]}', b'{"blocks":[{"name":"a","cells":[]}]}', b"\xff"):
        with pytest.raises(LayoutError):
            read_layout(hostile)
