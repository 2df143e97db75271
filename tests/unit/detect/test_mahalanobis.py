from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect import mahalanobis


def correlated(count: int, seed: int = 0, width: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width) * 10


def test_it_is_the_distance_in_deviations():
    rows = np.random.default_rng(0).normal(loc=5, scale=2, size=(5000, 1))
    detector = mahalanobis.fit(rows)
    assert detector.centre == pytest.approx([5], abs=0.1)
    near, far = detector.scores(np.array([[5.0], [25.0]]))
    assert near < 0.1
    # The trimmed tenth leaves the scale a little short of the whole sample's.
    assert 10 <= far <= 15


def test_correlation_counts_not_only_each_column():
    rng = np.random.default_rng(0)
    first = rng.normal(size=2000)
    rows = np.column_stack([first, first + 0.1 * rng.normal(size=2000)])
    detector = mahalanobis.fit(rows)
    along, across = detector.scores(np.array([[2.0, 2.0], [2.0, -2.0]]))
    assert across > 5 * along
    alone, given_others = detector.deviations(np.array([2.0, -2.0]))
    assert np.abs(alone).max() < 3 < np.abs(given_others).min()


@given(st.integers(0, 1000))
def test_units_do_not_matter(seed):
    rows = correlated(200, seed)
    units = np.array([1e-3, 1.0, 60.0, 1e4])
    one, other = mahalanobis.fit(rows), mahalanobis.fit(rows * units)
    assert other.scores(rows * units) == pytest.approx(one.scores(rows), rel=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.08])
def test_a_few_stray_rows_do_not_bend_the_picture(share):
    clean = correlated(1000)
    spoilt = clean.copy()
    spoilt[: int(1000 * share)] += 100
    honest, robust = mahalanobis.fit(clean), mahalanobis.fit(spoilt)
    probe = clean[500:] + np.array([8, -8, 8, -8])
    assert np.median(robust.scores(probe)) > 0.7 * np.median(honest.scores(probe))
    assert robust.scores(spoilt[: int(1000 * share)]).min() > 3 * robust.scores(clean[200:]).max()


def test_the_same_rows_give_the_same_detector():
    one, other = mahalanobis.fit(correlated(300)), mahalanobis.fit(correlated(300))
    assert np.array_equal(one.precision, other.precision)
    assert np.array_equal(one.centre, other.centre)


def test_repeated_and_constant_columns_are_borne():
    rows = correlated(300)
    rows = np.column_stack([rows, rows[:, 0], np.full(300, 7.0)])
    detector = mahalanobis.fit(rows)
    assert np.isfinite(detector.scores(rows)).all()
    changed = rows[:1].copy()
    changed[0, 5] = 7.1
    assert detector.scores(changed)[0] > 100 * detector.scores(rows).max()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4))
def test_any_finite_row_has_a_finite_distance(row):
    assert np.isfinite(DETECTOR.scores(np.array([row]))).all()
    assert np.isfinite(DETECTOR.deviations(np.array(row))).all()


DETECTOR = mahalanobis.fit(correlated(300))


def test_shrinkage_helps_where_rows_are_few():
    rng = np.random.default_rng(0)
    truth = np.diag(np.arange(1.0, 21.0))
    few = rng.normal(size=(25, 20)) * np.sqrt(np.diag(truth))
    few -= few.mean(axis=0)
    sample = few.T @ few / len(few)
    shrunk = mahalanobis.shrunk_covariance(few)
    assert np.linalg.norm(shrunk - truth) < np.linalg.norm(sample - truth)
    assert np.linalg.cond(shrunk) < np.linalg.cond(sample)


def test_shrinkage_agrees_with_an_independent_implementation():
    covariance = pytest.importorskip("sklearn.covariance")
    rows = correlated(80, 3, width=6)
    rows -= rows.mean(axis=0)
    assert mahalanobis.shrunk_covariance(rows) == pytest.approx(
        covariance.ledoit_wolf(rows, assume_centered=True)[0], rel=1e-6
    )
