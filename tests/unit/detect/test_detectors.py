"""What all detectors of single rows have in common, and what each is known to find."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, spearmanr
from sklearn.ensemble import IsolationForest

from modelward.detect import autoencoder, forest, neighbours, normal, piecewise, tails
from modelward.detect.detectors import KINDS

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(5, 5))
ROWS = np.column_stack([RNG.normal(size=(500, 5)) @ MIX, RNG.exponential(size=500), RNG.integers(0, 3, size=500)])
FAR = ROWS[:50] + RNG.choice([-12.0, 12.0], size=(50, 7))
FITTED = {name: kind.fit(ROWS, np.random.default_rng(1)) for name, kind in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_far_rows_are_stranger_than_ordinary_ones(name):
    detector = FITTED[name]
    ordinary, far = (detector.overall(detector.views(rows)) for rows in (ROWS, FAR))
    assert np.quantile(far, 0.1) > np.quantile(ordinary, 0.9)


@pytest.mark.parametrize("name", KINDS)
def test_one_row_is_seen_as_among_others(name):
    views = FITTED[name].views(FAR)
    for index, row in enumerate(FAR[:10]):
        assert FITTED[name].view(row) == pytest.approx(views[:, index], rel=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_what_the_file_keeps_is_the_detector(name):
    again = KINDS[name].read(FITTED[name].arrays(), 7)
    assert np.array_equal(again.views(FAR), FITTED[name].views(FAR))


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=30)
@given(row=st.lists(st.floats(-1e9, 1e9), min_size=7, max_size=7))
def test_any_row_within_the_encodings_reach_has_finite_views(name, row):
    views = FITTED[name].view(np.array(row))
    assert np.isfinite(views).all()
    assert (views >= 0).all()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("harm", ["missing", "width", "not finite", "type"])
def test_arrays_that_cannot_be_right_are_refused(name, harm):
    for array in FITTED[name].arrays():
        arrays = dict(FITTED[name].arrays())
        changed = arrays.pop(array)
        if harm == "width":
            arrays[array] = (
                np.concatenate([changed, changed[..., :1]], axis=-1)[:-1] if changed.ndim > 1 else changed[1:]
            )
        elif harm == "type":
            arrays[array] = changed.astype(str)
        elif harm == "not finite" and changed.dtype.kind == "f":
            arrays[array] = np.where(np.arange(changed.size).reshape(changed.shape) == 0, np.nan, changed)
        with pytest.raises(ValueError):
            KINDS[name].read(arrays, 7)


def test_the_forest_ranks_rows_as_an_independent_one_does():
    ours = forest.fit(ROWS, np.random.default_rng(0)).scores(np.vstack([ROWS, FAR]))
    theirs = -IsolationForest(n_estimators=100, random_state=0).fit(ROWS).score_samples(np.vstack([ROWS, FAR]))
    assert spearmanr(ours, theirs).statistic > 0.95
    assert ours == pytest.approx(theirs, abs=0.06)


def test_a_forest_of_equal_rows_cuts_nothing():
    same = np.ones((40, 3))
    scores = forest.fit(same, np.random.default_rng(0)).scores(same)
    assert np.ptp(scores) == 0


def test_the_autoencoder_learns_a_curve_that_no_plane_holds():
    angle = RNG.uniform(0, np.pi, size=800)
    rows = np.column_stack([np.cos(angle), np.sin(angle), np.sin(2 * angle)]) + 0.02 * RNG.normal(size=(800, 3))
    fitted = autoencoder.fit(rows, np.random.default_rng(0))
    inside = np.array([[0.0, 0.3, 0.0], [0.0, 0.5, 0.8]])  # within the range of each column, and off the curve
    assert fitted.scores(inside).min() > np.quantile(fitted.scores(rows), 0.95)


def test_training_has_the_slopes_that_the_error_has():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 3)).astype(np.float32)
    sizes = (3, 4, 2, 4, 3)
    weights = [rng.normal(size=(a, b)).astype(np.float32) for a, b in itertools.pairwise(sizes)]
    biases = [rng.normal(size=b).astype(np.float32) for b in sizes[1:]]

    def error() -> float:
        lost = autoencoder.Autoencoder(np.zeros(3, np.float32), np.ones(3, np.float32), tuple(weights), tuple(biases))
        return float((lost.lost(rows).astype(np.float64) ** 2).mean())

    for array, slope in zip([*weights, *biases], autoencoder._gradients(rows, weights, biases), strict=True):
        place = np.unravel_index(np.abs(slope).argmax(), slope.shape)
        kept = array[place]
        array[place] = kept + 1e-2
        above = error()
        array[place] = kept - 1e-2
        below = error()
        array[place] = kept
        assert (above - below) / 2e-2 == pytest.approx(float(slope[place]), rel=0.02)


def test_neighbours_bear_stray_rows_in_the_reference():
    spoilt = np.vstack([ROWS[:470], ROWS[:20] + 15])
    fitted = neighbours.fit(spoilt, np.random.default_rng(0))
    stray = fitted.views(ROWS[20:40] + 15)
    ordinary = fitted.views(ROWS[470:])
    assert np.median(stray[3:]) > 4 * np.median(ordinary[3:])


def test_tails_are_the_shares_of_rows_farther_out():
    values = np.arange(1.0, 1000.0)[:, np.newaxis]
    fitted = tails.fit(values, RNG)
    assert fitted.scores(np.array([[991.0]])) == pytest.approx(-np.log(9 / 1000), rel=0.05)
    assert fitted.scores(np.array([[5000.0]])) > fitted.scores(np.array([[2000.0]])) > -np.log(1 / 1000)


def test_normal_scores_are_normal_and_uncorrelated():
    rng = np.random.default_rng(0)
    rows = np.exp(rng.normal(size=(2000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.4]]))
    scores = normal.fit(rows).of_rows(rows)
    assert np.cov(scores.T) == pytest.approx(np.eye(2), abs=0.05)
    assert np.sort(scores[:, 0]) == pytest.approx(norm.ppf((np.arange(2000) + 0.5) / 2000), abs=0.4)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique=True),
    st.lists(st.floats(-2e6, 2e6), min_size=1, max_size=5),
)
def test_between_knots_functions_are_straight(knots, at):
    knots = np.unique(np.round(knots, 3))
    values = np.cumsum(np.abs(knots)) + 1
    curve = piecewise.through([(knots, values), (np.array([0.0]), np.array([5.0]))], np.array([[2.0, 3.0], [0.0, 0.0]]))
    rows = np.column_stack([at, at])
    found = curve.of_rows(rows)
    expected = np.interp(at, knots, values)
    expected += 2.0 * np.minimum(np.array(at) - knots[0], 0) + 3.0 * np.maximum(np.array(at) - knots[-1], 0)
    assert found[:, 0] == pytest.approx(expected, rel=1e-6, abs=1e-3)
    assert (found[:, 1] == 5.0).all()
    assert np.array([curve.of_row(row) for row in rows]) == pytest.approx(found)
