"""Reasons as people read them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.explain.reasons import Teller, reasons
from modelward.privacy.spec import Treatment


def of(name: str = "age", **changes) -> Teller:
    return Teller(**{"name": name, "categories": None, "usual": 52.0} | changes)


@pytest.mark.parametrize(
    ("teller", "value", "words"),
    [
        (of(), 41.0, "age is 41 (52 is usual)"),
        (of("worst_area", usual=686.55), 1479.123, "worst area is 1479 (686.5 is usual)"),
        (of(usual=0.00012345), 1e-9, "age is 1e-09 (0.0001234 is usual)"),
        (of(treatment=Treatment("Generalise", step=5)), 40.0, "age is between 40 and 45 (52 is usual)"),
        (of(treatment=Treatment("Bucket", edges=(18, 40, 65))), 40.0, "age is between 40 and 65 (52 is usual)"),
        (of(treatment=Treatment("Bucket", edges=(18, 40, 65))), 18.0, "age is below 40 (52 is usual)"),
        (of(treatment=Treatment("Bucket", edges=(18, 40, 65))), 65.0, "age is 65 or more (52 is usual)"),
        (of(treatment=Treatment("Round", digits=-1)), 40.0, "age is about 40 (52 is usual)"),
        (of(categories=("private", "state")), 1.0, 'age is "state"'),
        (of(categories=("private", "state")), -1.0, "age has a value that few reference rows have, or none"),
        (
            of(categories=("he", "she"), rare=frozenset({1})),
            1.0,
            "age has a value that few reference rows have, or none",
        ),
        (of(categories=("he", "she"), rare=frozenset({1})), 0.0, 'age is "he"'),
        (of(hidden=True), 41.0, "age (its value is not told)"),
        (of(categories=("x1f",), treatment=Treatment("Pseudonymise")), 0.0, "age (its value is not told)"),
        (of(categories=("***4",), treatment=Treatment("Mask", keep_last=1)), 0.0, "age (its value is not told)"),
    ],
)
def test_a_value_is_told_as_the_model_got_it(teller, value, words):
    assert teller.words(value) == words


TELLERS = [of(name) for name in ("a", "b", "c", "d", "e", "f")]
ROW = np.arange(6.0)


def told(contributions: list[float], unsure: list[float] | None = None, *, for_class: bool = True) -> tuple[str, ...]:
    given = None if unsure is None else np.array(unsure)
    return reasons(TELLERS, ROW, np.array(contributions), given, for_class=for_class)


def test_the_weightiest_come_first_and_small_ones_not_at_all():
    assert told([0.02, -0.4, 0.1, 0, 0, 0.6]) == (
        "f is 5 (52 is usual): speaks strongly for this answer.",
        "b is 1 (52 is usual): speaks strongly against this answer.",
        "c is 2 (52 is usual): speaks for this answer.",
    )


def test_a_value_is_raised_and_lowered():
    assert told([0, -12.345678, 3, 0, 0, 0], for_class=False) == (
        "b is 1 (52 is usual): lowers the result by 12.35.",
        "c is 2 (52 is usual): raises the result by 3.",
    )


def test_what_may_be_chance_is_not_told():
    assert told([1, 0.9, 0, 0, 0, 0], [0.8, 0.9, 0, 0, 0, 0]) == (
        "a is 0 (52 is usual): speaks strongly for this answer.",
    )
    (nothing,) = told([1, 0.9, 0, 0, 0, 0], [1.2, 1.0, 0, 0, 0, 0])
    assert nothing.startswith("No column stands out")
    assert told([0, 0, 0, 0, 0, 0]) == (nothing,)


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6), st.booleans())
def test_there_is_always_something_to_say_and_never_much(contributions, for_class):
    found = told(contributions, for_class=for_class)
    assert 1 <= len(found) <= 4
    assert all(text.endswith(".") and "\n" not in text for text in found)
