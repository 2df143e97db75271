"""What is shown of counts moves in steps, is never more than there is, and tells nothing of one row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.reidentification.figures import figures
from modelward.reidentification.sample import Sample, bit_of
from modelward.reidentification.steps import FEWEST, in_steps, moved, share_in_steps, shown, step_of

COUNTS = st.integers(0, 1 << 53)


@given(COUNTS, COUNTS)
def test_steps_keep_the_order_and_are_never_more_than_there_is(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert in_steps(low) <= low
    assert in_steps(low) <= in_steps(high)
    assert bool(in_steps(low)) == bool(low)
    assert low - in_steps(low) < step_of(low)


@given(COUNTS)
def test_few_numbers_are_shown(count: int) -> None:
    told = in_steps(count)
    assert told in (0, 1) or told % FEWEST == 0
    assert len(str(told).rstrip("0")) <= 2


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=50))
def test_of_what_is_shown_one_after_another_two_differ_by_five_rows_at_least(counts: list[int]) -> None:
    told = 0
    for count in counts:
        if moved(told, count):
            assert abs(count - told) >= FEWEST
            told = count


@given(st.floats(0, 1), st.integers(0, 100_000))
def test_a_share_is_of_few_numbers_of_rows_and_near_enough(share: float, rows: int) -> None:
    told = share_in_steps(share, rows)
    assert 0 <= told <= 1
    if rows >= 1000:  # what a condition begins with
        assert told == pytest.approx(share, abs=0.11 * share + 3 / rows)


def test_figures_of_one_row_more_look_the_same() -> None:
    sample = Sample()
    for combination in range(101):
        for person in range(1 if combination < 20 else 6):
            sample.add(combination << 40, bit_of(person))
    before = shown(figures(sample, 5, people=False))
    sample.add(5 << 40, bit_of(9))
    assert shown(figures(sample, 5, people=False)).below == before.below
    assert shown(figures(sample, 5, people=False)).rows == before.rows == 500
    assert (before.smallest, before.sizes, before.combinations) == (1, ((1, 20),), 100)
