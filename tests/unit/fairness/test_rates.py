from __future__ import annotations

import math
import random
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.fairness.rates import CONFIDENCE, Share, difference_interval, ratio, spread, wilson

shares = st.integers(1, 10_000).flatmap(lambda rows: st.builds(Share, st.integers(0, rows), st.just(rows)))
groups = st.dictionaries(st.text(min_size=1, max_size=3), shares, min_size=2, max_size=6)


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, rows: int, low: float, high: float) -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I."""
    assert wilson(Share(hits, rows)) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(one, other, low: float, high: float) -> None:
    """Newcombe, Interval estimation for the difference between independent proportions, ibid., table II, method 10."""
    assert difference_interval(Share(*one), Share(*other)) == pytest.approx((low, high), abs=5e-5)


@given(shares)
def test_a_share_is_within_its_interval_and_that_within_0_and_1(share: Share) -> None:
    low, high = wilson(share)
    assert 0 <= low <= share.rate <= high <= 1
    narrow = wilson(share, 0.5)
    assert low <= narrow.low <= narrow.high <= high


@given(shares)
def test_wilsons_interval_is_where_the_test_just_rejects(share: Share) -> None:
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    for bound in wilson(share):
        if 0 < bound < 1:
            assert abs(share.rate - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / share.rows), rel=1e-6)


def test_nothing_is_known_without_rows() -> None:
    assert wilson(Share(0, 0)) == (0.0, 1.0)
    assert spread({"a": Share(0, 0), "b": Share(1, 2)}) is None
    assert ratio({"a": Share(0, 0), "b": Share(1, 2)}) is None
    assert ratio({"a": Share(0, 3), "b": Share(0, 2)}) is None


@given(groups)
def test_a_spread_is_the_largest_less_the_smallest_and_its_interval_holds_it(found: dict[str, Share]) -> None:
    told = spread(found)
    rates = [share.rate for share in found.values()]
    assert told is not None
    assert told.highest != told.lowest
    assert told.difference == max(rates) - min(rates)
    assert -1 <= told.interval.low <= told.difference <= told.interval.high <= 1 + 1e-12
    smallest = ratio(found)
    assert smallest == (min(rates) / max(rates) if max(rates) else None)


@given(groups, st.integers(1, 200))
def test_small_groups_are_left_out(found: dict[str, Share], minimum: int) -> None:
    large = {name: share for name, share in found.items() if share.rows >= minimum}
    assert spread(found, minimum) == spread(large)


def test_more_groups_make_the_interval_wider() -> None:
    two = {"a": Share(60, 100), "b": Share(40, 100)}
    more = two | {name: Share(50, 100) for name in "cdef"}
    narrow, wide = spread(two), spread(more)
    assert narrow is not None
    assert wide is not None
    assert narrow.difference == wide.difference
    assert wide.interval.low < narrow.interval.low


def test_looking_again_and_again_finds_what_is_not_there_no_more_often() -> None:
    """Of 100 fair models, each looked at 300 times, by 95 % some 19 are found 0.1 apart beyond chance at least once."""
    once = certain = 0
    for seed in range(100):
        draw = random.Random(seed)
        found = {"a": Share(25, 50), "b": Share(25, 50)}
        alarms = set()
        for _ in range(300):
            found = {name: Share(one.hits + (draw.random() < 0.5), one.rows + 1) for name, one in found.items()}
            told = spread(found)
            assert told is not None
            if told.difference > 0.1:
                alarms |= {"once"} if told.interval.low > 0 else set()
                alarms |= {"certain"} if told.certain else set()
        once += "once" in alarms
        certain += "certain" in alarms
    assert certain <= 4 < once


@given(shares, shares, st.integers(0, 30), st.data())
def test_where_counts_may_be_off_the_interval_holds_those_of_all_that_they_may_be(one, other, off, data) -> None:
    def near(share: Share) -> Share:
        hits, others = (
            data.draw(st.integers(max(count - off, 0), count + off)) for count in (share.hits, share.rows - share.hits)
        )
        return Share(hits, max(hits + others, 1))

    true, true_other = near(one), near(other)
    low, high = wilson(one, off=off)
    assert low <= wilson(true).low + 1e-9
    assert wilson(true).high <= high + 1e-9
    apart, truly = difference_interval(one, other, off=off), difference_interval(true, true_other)
    assert apart.low <= truly.low + 1e-9
    assert truly.high <= apart.high + 1e-9


def test_noise_makes_what_was_certain_uncertain() -> None:
    found = {"f": Share(100, 500), "m": Share(200, 500)}
    exact, noisy = spread(found), spread(found, off=lambda doubt: 5 if doubt > 0.01 else 100)
    assert exact is not None
    assert noisy is not None
    assert (exact.certain, noisy.certain) == (True, False)
    assert noisy.difference == exact.difference
    assert noisy.interval.low < exact.interval.low
    assert noisy.interval.high > exact.interval.high
