from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.cusum import Cusum


def first_alarm(test: Cusum, chance: float, rng: np.random.Generator, most: int) -> int:
    state = 0.0
    for trial, hit in enumerate(rng.random(most) < chance, 1):
        state = test.after(state, bool(hit))
        if test.score(state) > 1:
            return trial
    return most


def test_between_false_alarms_there_are_as_many_trials_as_asked():
    """At the very most that is allowed; the cut at `most` takes from the mean, and so makes the test harder."""
    test, rng = Cusum.of(0.2, 0.6, 100), np.random.default_rng(0)
    assert np.mean([first_alarm(test, 0.2, rng, 2000) for _ in range(150)]) >= 100
    assert np.mean([first_alarm(test, 0.1, rng, 2000) for _ in range(30)]) >= 1500


def test_what_is_suspect_is_found_soon():
    test, rng = Cusum.of(0.2, 0.6, 1e6), np.random.default_rng(0)
    assert np.mean([first_alarm(test, 0.6, rng, 2000) for _ in range(100)]) < 50
    assert first_alarm(test, 1.0, rng, 100) == 13


@given(st.lists(st.booleans(), max_size=300))
def test_the_state_is_bounded_and_falls_when_hits_stop(hits):
    test, state = Cusum.of(0.1, 0.5, 1000), 0.0
    for hit in hits:
        state = test.after(state, hit)
        assert 0 <= state <= test.limit + test.hit
    for _ in range(30):
        state = test.after(state, hit=False)
    assert state == 0


@pytest.mark.parametrize(("allowed", "suspect"), [(0.5, 0.5), (0.0, 0.5), (0.5, 1.0), (0.6, 0.2)])
def test_shares_that_mean_nothing_are_refused(allowed, suspect):
    with pytest.raises(ValueError, match="allowed"):
        Cusum.of(allowed, suspect, 100)
