"""What is counted where: every value has one cell, and what cannot be counted is said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.audit.layout import Counted, LayoutError, interval_names, layout_of, read_layout

AGE = Counted("age", interval_names((18, 40, 65)), (18, 40, 65))


def cell_of(counted: Counted, value: Any) -> str:
    return counted.cells[counted.finder()(value)]


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
    assert cell_of(AGE, value) == cell


@pytest.mark.parametrize(
    ("value", "cell"),
    [("f", "f"), ("F", "other"), ("1.0", "other"), (1, "1"), (1.0, "1"), (True, "true"), (2, "other")],
)
def test_texts_and_numbers_are_counted_by_name(value: Any, cell: str) -> None:
    assert cell_of(Counted("sex", ("f", "1", "true")), value) == cell


@given(st.floats() | st.text() | st.booleans() | st.integers(-(1 << 64), 1 << 64))
def test_every_value_has_a_cell(value: Any) -> None:
    for counted in (Counted("a", ("low", "high"), (0.5,)), Counted("a", ("x", "1e400", "other"))):
        assert 0 <= counted.finder()(value) < len(counted.cells)


def test_with_an_outcome_a_group_has_two_cells() -> None:
    counted = Counted("sex", ("f",), outcome=True)
    assert counted.cells == ("f: selected", "f: not selected", "other: selected", "other: not selected", "unknown")


@pytest.mark.parametrize(
    ("counted", "why"),
    [
        ([], "nothing to count"),
        ([Counted("a", ("x",), (1.0,))], "a: 1 edges make 2 intervals"),
        ([Counted("a", ("x", "y", "z"), (1.0, 1.0))], "edges must rise"),
        ([Counted("a", ("x", "x"))], "comes twice"),
        ([Counted("a", tuple(map(str, range(4096))))], "4,097 cells"),
        ([Counted("a", ("x",))] * 65, "65 fields"),
        ([Counted("a", tuple(f"{number:0>200}" for number in range(1000)))], "longer than 131,072 bytes"),
    ],
)
def test_what_cannot_be_counted_is_said(counted: list[Counted], why: str) -> None:
    with pytest.raises(LayoutError, match=why):
        layout_of(counted)


def test_other_edges_are_another_layout_whatever_they_are_called() -> None:
    one, other = (layout_of([Counted("age", ("young", "old"), (edge,))]) for edge in (40.0, 50.0))
    assert one.digest() != other.digest()


def test_a_layout_is_read_as_it_was_written() -> None:
    layout = layout_of([Counted("a", ("low", "high"), (1.0,)), Counted("b", ("x",), outcome=True)], ["c"])
    assert read_layout(layout.encode()) == layout
    assert layout.size == 8
    for hostile in (b"", b"{}", b"[" * 100_000, b'{"blocks":[]}', b'{"blocks":[{"name":"a","cells":[]}]}', b"\xff"):
        with pytest.raises(LayoutError):
            read_layout(hostile)


def test_with_a_truth_a_group_has_four_cells_and_the_groups_are_found_in_any_block() -> None:
    outcome = Counted("sex", ("f: selected", "m"), outcome=True)
    truth = Counted("sex", ("f: selected", "m"), outcome=True, truth=True)
    assert truth.cells[:5] == (
        "f: selected: selected, rightly",
        "f: selected: selected, wrongly",
        "f: selected: not selected, wrongly",
        "f: selected: not selected, rightly",
        "m: selected, rightly",
    )
    layout = layout_of([outcome, truth])
    assert [block.name for block in layout.blocks] == ["sex by outcome", "sex by truth"]
    assert [block.groups for block in layout.blocks] == [("f: selected", "m", "other")] * 2
    assert read_layout(layout.encode()) == layout


@pytest.mark.parametrize(("kind", "cells"), [("outcome", 4), ("truth", 7), ("truth", 4)])
def test_a_block_with_cells_that_no_group_has_is_none(kind: str, cells: int) -> None:
    block = {"name": "a", "cells": [str(number) for number in range(cells)], kind: True}
    with pytest.raises(LayoutError, match="not as many cells"):
        read_layout(json.dumps({"blocks": [block]}).encode())
