from __future__ import annotations

import io

import pytest

from tests.cluster.progress import Step, clock, left, run_steps


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.4, 60, 754)] == ["0:00", "0:59", "1:00", "12:34"]


def test_time_left() -> None:
    assert left(expected=100, elapsed=40, later=60) == "about 2:00 left in all"
    assert left(expected=100, elapsed=140, later=60) == "about 1:00 left in all (this step is slower than usual)"


def test_steps_run_in_order_and_are_shown() -> None:
    done: list[str] = []
    out = io.StringIO()
    run_steps([Step("one", 60, lambda: done.append("one")), Step("two", 30, lambda: done.append("two"))], out)
    assert done == ["one", "two"]
    assert out.getvalue().splitlines() == [
        "[1/2] one: 0:00, about 1:30 left in all",
        "[1/2] one: done in 0:00",
        "[2/2] two: 0:00, about 0:30 left in all",
        "[2/2] two: done in 0:00",
    ]


def test_a_step_that_fails_ends_it() -> None:
    done: list[str] = []
    out = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        run_steps([Step("one", 1, lambda: 1 / 0), Step("two", 1, lambda: done.append("two"))], out)
    assert done == []
    assert out.getvalue().splitlines()[-1] == "[1/2] one: stopped after 0:00"
