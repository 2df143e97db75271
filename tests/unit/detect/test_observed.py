from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.observed import RateWatch


def watched(rate: float, rows: int, seed: int = 0, asked: float = 0.01) -> RateWatch:
    watch, rng = RateWatch(asked), np.random.default_rng(seed)
    for alarm in rng.random(rows) < rate:
        watch.add(1, int(alarm))
    return watch


def test_a_detector_that_keeps_its_rate_is_not_off_at_any_look():
    offs = looks = 0
    for seed in range(15):
        watch, rng = RateWatch(0.01), np.random.default_rng(seed)
        for _ in range(40):
            watch.add(100, int(rng.binomial(100, 0.01)))
            offs += watch.verdict().off
            looks += 1
    assert offs == 0
    assert looks == 600


@pytest.mark.parametrize("rate", [0.005, 0.02])
def test_within_twice_and_half_is_kept(rate):
    assert not any(watched(rate, 6000, seed).verdict().off for seed in range(10))


@pytest.mark.parametrize("rate", [0.0005, 0.05])
def test_far_from_the_asked_is_off(rate):
    verdict = watched(rate, 6000).verdict()
    assert verdict.off
    assert verdict.low <= rate <= verdict.high


def test_the_window_slides():
    watch = watched(0.2, 5000)
    assert watch.verdict().off
    watch.add(2500, 25)
    watch.add(2500, 25)
    for _ in range(18):
        watch.add(250, 2)
    assert not watch.verdict().off
    assert watch.verdict().rows <= 10_000


def test_nothing_seen_is_nothing_said():
    verdict = RateWatch(0.01).verdict()
    assert (verdict.observed, verdict.low, verdict.high, verdict.rows, verdict.off) == (0, 0, 1, 0, False)


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1))))
def test_counts_are_borne_whatever_they_are(batches):
    watch = RateWatch(0.01, window=100)
    for rows, share in batches:
        watch.add(rows, int(rows * share))
    verdict = watch.verdict()
    assert 0 <= verdict.low <= verdict.observed <= verdict.high <= 1
