from __future__ import annotations

import numpy as np
import pytest

from modelward.detect import fitting
from modelward.detect.baseline import BaselineError
from modelward.detect.encoding import Column

FAST = ("Mahalanobis", "NearestNeighbours", "Tails")
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(400, 3)) * [1, 10, 100] + [0, 50, -300]


def test_the_same_data_and_seed_give_the_same_bytes():
    one, same, other = (fitting.fit(ROWS, ["a", "b", "c"], data=b"x", seed=seed).to_bytes() for seed in (0, 0, 1))
    assert one == same
    assert one != other


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_the_rate_of_false_alarms_is_kept(rate):
    """On rows that the fit has not seen, over many fits: the mean within three standard errors."""
    alarms = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        rows, fresh = rng.standard_t(5, size=(400, 4)), rng.standard_t(5, size=(2000, 4))
        fitted = fitting.fit(rows, detectors=FAST, false_positive_rate=rate, seed=seed)
        scores = fitted.scorer([(name, None) for name in fitted.types]).scores(fresh)
        alarms.append((scores > 1).mean(axis=1))
    spread = np.std(alarms, axis=0) / np.sqrt(len(alarms))
    assert (np.abs(np.mean(alarms, axis=0) - rate) < 3 * spread + 0.1 * rate).all()


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        (ROWS[:29], None, "at least 30 rows"),
        (np.ones((100, 2)), None, "nearly the same"),
        (np.column_stack([ROWS, np.full(400, np.nan)]), None, "no row has a number in x3"),
        (np.where(RNG.random(ROWS.shape) < 0.9, np.nan, ROWS), None, "without missing values"),
        (ROWS, ["a", "b"], "2 columns are named"),
        (ROWS, ["a", "a", "b"], "different names"),
        (ROWS[:, :0], None, "1 to 2048 columns"),
    ],
)
def test_data_that_tell_too_little_are_refused(rows, columns, told):
    with pytest.raises(BaselineError, match=told):
        fitting.fit(rows, columns)


def test_a_rate_that_the_rows_cannot_tell_is_refused():
    with pytest.raises(BaselineError, match="at least 9999 rows"):
        fitting.fit(ROWS, false_positive_rate=0.0001)


def test_few_rows_tell_the_rate_that_they_can():
    fitted = fitting.fit(ROWS[:30])
    assert fitted.false_positive_rate == pytest.approx(1 / 31)
    assert "30 rows tell no false positive rate below 3.2%; 1% takes 99 rows" in fitted.origin.gave_up


def test_rows_with_missing_values_are_left_out_and_counted():
    rows = ROWS.copy()
    rows[:7, 1] = np.nan
    rows[7, 0] = np.inf
    fitted = fitting.fit(rows)
    assert (fitted.origin.rows, fitted.origin.rows_dropped) == (400, 8)


def test_wide_data_are_reduced_and_said_to_be():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 600)) + 0.1 * rng.normal(size=(60, 600))
    fitted = fitting.fit(rows)
    assert any("600 values a row: reduced to 15 principal components" in each for each in fitted.origin.gave_up)
    assert any("60 rows for 600 columns" in each for each in fitted.origin.gave_up)
    off = rows[:20].copy()
    off[:, :300] *= -1
    assert (fitted.scorer().scores(off) > 1).mean() > 0.9


def test_a_category_that_was_never_seen_is_strange():
    rng = np.random.default_rng(3)
    rows = np.column_stack([rng.normal(size=500), rng.choice(3, size=500, p=[0.6, 0.39, 0.01])])
    fitted = fitting.fit(rows, [Column("age"), Column("colour", ("red", "green", "blue"))])
    scorer = fitted.scorer()
    ordinary, unseen = scorer.scores(np.array([[0.0, 0], [0.0, -1]]))[0]
    assert ordinary < 1 < unseen
    assert scorer.explain(np.array([0.0, -1])) == ("colour has a value that the reference data does not have",)
    assert scorer.project(np.array([[0.0, -1]]))[0].tolist()[1] == 0
