from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.compiled import CannotTreatError, compiled, date_shift, neutral
from modelward.privacy.keys import derive
from modelward.privacy.spec import KEEP, Treatment, mistake, strictest
from modelward.privacy.values import TreatmentError

PUBLIC = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
KEYS = derive({1: bytes(32)}, "clinic")
IN_ORDER = [
    KEEP,
    Treatment("Mask", identifiers=True),
    Treatment("Round", digits=2),
    Treatment("Round", digits=0),
    Treatment("Generalise", step=1),
    Treatment("Bucket", edges=(0, 2, 5)),
    Treatment("Generalise", step=5),
    Treatment("Round", digits=-1),
    Treatment("Bucket", edges=(0, 18, 65)),
    Treatment("Generalise", groups={"a": "b"}),
    Treatment("DateShift", max_days=10, subject="x"),
    Treatment("DateShift", max_days=100, subject="x"),
    Treatment("Mask", keep_last=4),
    Treatment("Mask", keep_last=2),
    Treatment("Tokenise", recipient=PUBLIC),
    Treatment("Pseudonymise"),
    Treatment("Drop"),
]
DATATYPES = ["BOOL", "INT8", "INT64", "UINT8", "UINT64", "FP16", "FP32", "FP64", "BYTES"]


@given(st.lists(st.integers(0, len(IN_ORDER) - 1), max_size=6))
def test_the_strictest_wins_whatever_the_order(chosen: list[int]) -> None:
    found = strictest(IN_ORDER[index] for index in chosen)
    assert found == IN_ORDER[max(chosen, default=0)]


@pytest.mark.parametrize(
    ("treatment", "datatype", "told"),
    [
        (Treatment("Pseudonymise"), "FP64", "Pseudonymise gives text and the column is FP64: use Drop, or coarsen"),
        (Treatment("Tokenise", recipient=PUBLIC), "INT64", "gives text"),
        (Treatment("Mask"), "FP32", "gives text"),
        (Treatment("DateShift", max_days=1, subject="x"), "INT64", "gives text"),
        (Treatment("Round", digits=1), "BOOL", "use Drop or Keep"),
        (Treatment("Generalise"), "FP64", "lacks `step`"),
        (Treatment("Generalise", groups={}), "FP64", "use `step`"),
        (Treatment("Generalise", step=2.5), "INT8", "whole numbers"),
        (Treatment("Bucket"), "FP64", "lacks `edges`"),
        (Treatment("Bucket", edges=(1, 1)), "FP64", "must rise"),
        (Treatment("Bucket", edges=(0.5, 1)), "UINT8", "whole numbers"),
        (Treatment("Round"), "FP64", "lacks `digits`"),
        (Treatment("DateShift"), "BYTES", "lacks `maxDays`"),
        (Treatment("DateShift", max_days=1), "BYTES", "lacks a subject"),
        (Treatment("Tokenise"), "BYTES", "lacks a key holder"),
    ],
)
def test_a_mistake_is_told_with_its_fix(treatment: Treatment, datatype: str, told: str) -> None:
    assert told in mistake(treatment, datatype)
    with pytest.raises(CannotTreatError, match="field age: "):
        compiled(treatment, "age", datatype, KEYS, "clinic")


@given(st.sampled_from(IN_ORDER), st.sampled_from(DATATYPES), st.data())
def test_what_is_no_mistake_fits_the_datatype(treatment: Treatment, datatype: str, data: st.DataObject) -> None:
    if mistake(treatment, datatype) or treatment.treatment == "DateShift":
        return
    value = data.draw(_values(datatype))
    try:
        treated = compiled(treatment, "age", datatype, KEYS, "clinic")(value)
    except TreatmentError:
        assert datatype in ("BYTES", "FP64")  # text that writes no number; numbers too large for the step
        return
    assert type(treated) is type(value)
    if datatype.startswith(("INT", "UINT")):
        bits = int(datatype.lstrip("UINT"))
        low = 0 if datatype[0] == "U" else -(1 << bits - 1)
        assert low <= treated < low + (1 << bits)


def _values(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.integers().map(str)
    if datatype.startswith("FP"):
        return st.floats(-60000, 60000) | (st.floats(allow_nan=False) if datatype == "FP64" else st.nothing())
    bits = int(datatype.lstrip("UINT"))
    low = 0 if datatype[0] == "U" else -(1 << bits - 1)
    return st.integers(low, low + (1 << bits) - 1)


SECRETS = st.text(st.characters(categories=["L", "Nd"]), min_size=8, max_size=40)


@given(
    st.sampled_from(
        [
            one
            for one in IN_ORDER
            if one.treatment in ("Drop", "Tokenise", "Pseudonymise", "Mask") and not one.identifiers
        ]
    ),
    SECRETS,
)
def test_no_raw_value_comes_out(treatment: Treatment, value: str) -> None:
    assert value not in compiled(treatment, "name", "BYTES", KEYS, "clinic")(value)


def test_dates_are_shifted_by_subject() -> None:
    shift = date_shift(Treatment("DateShift", max_days=30, subject="patient"), "visit", "BYTES", KEYS)
    assert shift("2026-03-31", "Ada") != "2026-03-31"
    with pytest.raises(CannotTreatError, match="gives text"):
        date_shift(Treatment("DateShift", max_days=30, subject="patient"), "visit", "FP64", KEYS)


def test_without_keys_nothing_is_pseudonymised() -> None:
    with pytest.raises(CannotTreatError, match="there is no key"):
        compiled(Treatment("Pseudonymise"), "name", "BYTES", None, "clinic")


@pytest.mark.parametrize(
    ("datatype", "low", "high", "value"),
    [
        ("BYTES", None, None, ""),
        ("BOOL", None, None, False),
        ("FP64", None, None, 0.0),
        ("FP64", 1.5, None, 1.5),
        ("FP64", None, -2.5, -2.5),
        ("INT8", 0.5, 9, 1),
        ("INT8", -9, -0.5, -1),
        ("UINT64", 3, 9, 3),
    ],
)
def test_the_neutral_value_is_nearest_to_nothing(
    datatype: str, low: float | None, high: float | None, value: object
) -> None:
    found = neutral(datatype, low, high)
    assert (found, type(found)) == (value, type(value))


def test_nothing_is_known_of_an_interval_without_an_end() -> None:
    assert Treatment("Bucket", edges=(1,)).width == math.inf
