from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.critical import at_least, chi_square_upper, kolmogorov_upper, normal_upper, share_interval


@given(st.integers(1, 60), st.data())
def test_tails_are_the_binomials(tries, data):
    hits = data.draw(st.integers(0, tries + 1))
    chance = data.draw(st.floats(1e-6, 1 - 1e-6))
    exact = sum(comb(tries, k) * chance**k * (1 - chance) ** (tries - k) for k in range(hits, tries + 1))
    assert at_least(hits, tries, chance) == pytest.approx(exact, abs=1e-10)


def test_large_counts_are_no_trouble():
    assert at_least(50_500, 100_000, 0.5) == pytest.approx(0.000792, rel=0.01)
    low, high = share_interval(1000, 100_000, 0.95)
    assert 0.0093 < low < 0.01 < high < 0.0107


@given(st.integers(0, 300), st.integers(0, 300))
def test_an_interval_has_the_tails_that_it_should(hits, misses):
    low, high = share_interval(hits, hits + misses, 0.95)
    if not hits + misses:
        assert (low, high) == (0, 1)
        return
    assert low <= hits / (hits + misses) <= high
    assert low == 0 or at_least(hits, hits + misses, low) == pytest.approx(0.025, rel=1e-3)
    assert high == 1 or 1 - at_least(hits + 1, hits + misses, high) == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize(
    ("degrees", "alpha", "value"),
    [(1, 0.05, 3.841), (9, 0.05, 16.919), (9, 1e-5, 39.34), (19, 0.01, 36.191), (19, 1e-6, 65.4)],
)
def test_chi_square_as_tables_have_it(degrees, alpha, value):
    assert chi_square_upper(degrees, alpha) == pytest.approx(value, rel=0.03)


def test_normal_and_kolmogorov_as_tables_have_them():
    assert normal_upper(0.025) == pytest.approx(1.95996, rel=1e-4)
    assert kolmogorov_upper(1000, 1000, 0.05) == pytest.approx(1.358 * np.sqrt(2 / 1000), rel=1e-3)
