from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.coarsen import Bucket, Round, Step
from modelward.privacy.hierarchy import Hierarchy, HierarchyError, read_hierarchy
from modelward.privacy.values import TreatmentError, number_in

NUMBERS = st.floats(-1e9, 1e9) | st.integers(-(10**9), 10**9)
STEPS = st.sampled_from([0.1, 0.25, 0.3, 0.001, 1, 2.5, 5, 7, 100, 1e-6]) | st.floats(1e-3, 1e6)
EDGES = st.lists(st.floats(-1e6, 1e6) | st.integers(-100, 100), min_size=1, max_size=12, unique=True).map(sorted)
COARSE = st.one_of(STEPS.map(Step), EDGES.map(Bucket), st.integers(-6, 9).map(Round))
NO_NUMBERS = [math.nan, math.inf, -math.inf, None, True, "5", [], 10**400]
WRITTEN = st.decimals(-(10**9), 10**9, allow_nan=False, places=4).map(str) | st.integers(-(10**9), 10**9).map(str)


@given(COARSE, NUMBERS)
def test_treating_a_treated_number_changes_nothing(coarse: Step | Bucket | Round, value: float) -> None:
    once = coarse.number(value)
    assert coarse.number(once) == once


@given(COARSE, NUMBERS, NUMBERS)
def test_order_is_kept(coarse: Step | Bucket | Round, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert coarse.number(low) <= coarse.number(high)


@given(COARSE, st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8))
def test_an_array_is_treated_as_its_numbers_are(coarse: Step | Bucket | Round, values: list[float]) -> None:
    assert coarse.array(np.array(values)).tolist() == [coarse.number(value) for value in values]


@given(COARSE, WRITTEN)
def test_treating_a_treated_text_changes_nothing(coarse: Step | Bucket | Round, value: str) -> None:
    once = coarse.text(value)
    assert coarse.text(once) == once


@given(STEPS, NUMBERS)
def test_a_number_lies_in_its_interval(step: float, value: float) -> None:
    low = Step(step).number(value)
    assert low <= value
    assert value - low <= step * (1 + 1e-9) + 1e-9 * abs(value)


@pytest.mark.parametrize("coarse", [Step(5), Step(0.5), Bucket([0, 18]), Round(2)])
@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_what_is_no_number_is_an_error_without_the_value(coarse: Step | Bucket | Round, value: object) -> None:
    if isinstance(value, int) and isinstance(coarse, Step) and not isinstance(value, bool) and coarse.whole:
        assert coarse.number(value) == value // 5 * 5  # whole numbers are exact, however large
        return
    with pytest.raises(TreatmentError) as told:
        coarse.number(value)
    assert str(value) not in str(told.value)


@pytest.mark.parametrize("coarse", [Step(5), Bucket([0, 18]), Round(2)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_array_with_what_is_no_number_is_an_error(coarse: Step | Bucket | Round, value: float) -> None:
    with pytest.raises(TreatmentError):
        coarse.array(np.array([1.0, value]))


@pytest.mark.parametrize("coarse", [Step(5), Bucket([0, 18]), Round(2), Step(0.5)])
@pytest.mark.parametrize("value", ["", "Miller", "nan", "inf", "1e999", "٣", "0x10", "1_0", "9" * 65, 5, None])
def test_text_that_writes_no_number_is_an_error_without_the_value(coarse: Step | Bucket | Round, value: object) -> None:
    with pytest.raises(TreatmentError) as told:
        coarse.text(value)
    assert not value or str(value) not in str(told.value) or value == 5


def test_steps_are_decimal_fractions() -> None:
    assert [Step(0.1).number(value) for value in (0.3, 0.7, -0.05, 0.29)] == [0.3, 0.7, -0.1, 0.2]
    assert Step(5).number(37) == 35
    assert type(Step(5).number(37)) is int
    assert Step(5).number(-1) == -5
    assert [Step(5).text(value) for value in ("37", " 37.9 ", "-0.5", "[35, 40)")] == [
        "[35, 40)",
        "[35, 40)",
        "[-5, 0)",
        "[35, 40)",
    ]
    assert Step(0.1).text("0.3") == "[0.3, 0.4)"


def test_dates_are_generalised_by_days() -> None:
    assert Step(7).text("2026-03-31T08:30:00Z") == Step(7).text("2026-03-30") == "2026-03-26"
    assert Step(7).text("2026-03-26") == "2026-03-26"
    with pytest.raises(TreatmentError):
        Step(0.5).text("2026-03-31")


def test_a_label_tells_nothing_that_the_interval_does_not() -> None:
    assert Step(5).text("[37, Miller)") == "[35, 40)"
    with pytest.raises(TreatmentError):
        Step(5).text("[Miller, 40)")


def test_buckets() -> None:
    bucket = Bucket([0, 18, 65.5])
    assert [bucket.number(value) for value in (-3, 0, 17.9, 18, 65.5, 1e9)] == [0, 0, 0, 18, 65.5, 65.5]
    assert [bucket.text(value) for value in ("-3", "18", "99")] == ["[0, 18)", "[18, 65.5)", "[65.5, inf)"]
    assert bucket.text("[18, 65.5)") == "[18, 65.5)"


def test_rounding_is_half_to_even_and_shows_no_sign_of_nothing() -> None:
    assert [Round(0).number(value) for value in (0.5, 1.5, 2.5)] == [0, 2, 2]
    assert Round(-2).number(250) == 200
    assert type(Round(1).number(7)) is int
    assert math.copysign(1, Round(0).number(-0.2)) == 1
    assert [Round(1).text(value) for value in ("2.25", "-0.04", "1e3")] == ["2.2", "0", "1000"]


@given(WRITTEN, st.integers(-6, 6))
def test_text_is_rounded_exactly(value: str, digits: int) -> None:
    assert Fraction(Round(digits).text(value)) == round(Fraction(value), digits)


AGES = "39;35-39;30-39;*\n40;40-44;40-49;*\n"


def test_a_hierarchy_gives_the_group_at_a_level() -> None:
    finest, next_one = (Hierarchy(read_hierarchy(AGES, level)) for level in (1, 2))
    assert [finest.text(value) for value in ("39", " 40 ", "41", "35-39")] == ["35-39", "40-44", "*", "35-39"]
    assert next_one.text("39") == "30-39"
    with pytest.raises(TreatmentError):
        finest.text(39)


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(["a", "b", "c"])), st.text())
def test_a_hierarchy_never_lets_a_value_through_that_is_no_group(groups: dict[str, str], value: str) -> None:
    assert Hierarchy(groups).text(value) in {*groups.values(), "*"}


@pytest.mark.parametrize(
    ("text", "level", "told"),
    [
        ("", 1, "empty"),
        ("39;x\n40;x;y", 1, "line 2 has 3 cells"),
        ("39;x\n39;y", 1, "line 2 gives a value another group"),
        ("39;x", 2, "levels 1 to 1"),
        ("\n".join(f"{number};x" for number in range(10_001)), 1, "more than 10000"),
    ],
)
def test_a_hierarchy_that_cannot_be_used_is_told(text: str, level: int, told: str) -> None:
    with pytest.raises(HierarchyError, match=told):
        read_hierarchy(text, level)


@given(st.text(max_size=80))
def test_what_is_read_as_a_number_is_finite(text: str) -> None:
    found = number_in(text)
    assert found is None or math.isfinite(found)
