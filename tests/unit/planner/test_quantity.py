from __future__ import annotations

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.base import QUANTITY_PATTERN
from modelward.planner.quantity import canonical_quantity

_UNITS = {"m": Fraction(1, 1000), "": 1} | {
    name: factor
    for power, letter in enumerate("kMGTPE", 1)
    for name, factor in ((letter, 1000**power), (f"{letter.upper()}i", 1024**power))
}


def value(text: str) -> Fraction:
    match = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    assert match
    return Fraction(match[1]) * _UNITS[match[2]]


@pytest.mark.parametrize(
    ("given_", "stored"),
    [  # as a kube-apiserver 1.37 stores them; tests/integration/test_controller.py asks a real one
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Ki", "512"),
        (1, "1"),
        (2000, "2k"),
        ("0", "0"),
        ("0Gi", "0"),
        ("100000k", "100M"),
        ("0.1Gi", "107374182400m"),
    ],
)
def test_examples(given_: int | str, stored: str) -> None:
    assert canonical_quantity(given_) == stored


@given(st.from_regex(QUANTITY_PATTERN, fullmatch=True).filter(lambda text: len(text) <= 32))
def test_the_value_is_kept_up_to_a_thousandth_and_the_form_is_final(text: str) -> None:
    stored = canonical_quantity(text)
    assert 0 <= value(stored) - value(text) < Fraction(1, 1000)
    assert canonical_quantity(stored) == stored


@pytest.mark.parametrize("text", ["", "1GB", "-1", "1e3", "Gi", "1.", "0x1"])
def test_what_the_schema_does_not_allow_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        canonical_quantity(text)
