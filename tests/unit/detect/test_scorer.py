from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from modelward.detect import fitting, verdict
from modelward.detect.baseline import BaselineError

ROWS = np.random.default_rng(0).normal(size=(400, 3)) * [1, 10, 100] + [0, 50, -300]
FITTED = fitting.fit(ROWS, ["a", "b", "c"], false_positive_rate=0.02)
ALL = FITTED.scorer([(name, None) for name in FITTED.types])
FINITE = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3)


def test_real_data_are_told_from_impossible_ones():
    data = load_breast_cancer()
    held_back = np.arange(len(data.data)) % 5 == 0
    fitted = fitting.fit(data.data[~held_back], data.feature_names, false_positive_rate=0.01)
    ordinary = verdict.score_rows(fitted, data.data[held_back])
    assert np.mean([score.anomalous for score in ordinary]) <= 0.05
    impossible = data.data[held_back].copy()
    impossible[:, 0], impossible[:, 3] = 1.0, 4000.0  # a tiny radius with a huge area
    assert all(score.anomalous for score in verdict.score_rows(fitted, impossible))


def test_one_row_scores_as_among_others():
    rows = ROWS[:40] * 1.7
    together = ALL.scores(rows)
    for index, row in enumerate(rows):
        assert ALL.one(row) == pytest.approx(together[:, index].tolist(), rel=1e-3, abs=1e-6)


def test_a_detector_scores_alike_alone_and_beside_others():
    for index, name in enumerate(FITTED.types):
        assert FITTED.scorer([(name, None)]).scores(ROWS)[0] == pytest.approx(ALL.scores(ROWS)[index])


def test_the_fast_path_is_the_same_detector():
    matrix, offset = FITTED.mahalanobis(0.05)
    expected = FITTED.scorer([("Mahalanobis", 0.05)]).scores(ROWS)[0]
    assert np.linalg.norm(ROWS @ matrix - offset, axis=1) == pytest.approx(expected)
    reduced = fitting.fit(np.random.default_rng(0).normal(size=(60, 300)))
    with pytest.raises(BaselineError, match="one matrix"):
        reduced.mahalanobis()


@given(FINITE)
def test_any_finite_row_has_finite_scores_and_reasons(row):
    scores = ALL.one(np.array(row))
    assert np.isfinite(scores).all()
    assert min(scores) >= 0
    assert 1 <= len(ALL.explain(np.array(row))) <= 3


@given(FINITE)
def test_what_is_projected_is_ordinary_and_ordinary_rows_stay(row):
    projected = ALL.project(np.array([row]))
    assert max(ALL.one(projected[0])) <= 1.0
    if max(ALL.one(np.array(row))) <= 1.0:
        assert projected[0].tolist() == row


def test_what_is_no_number_does_not_pass_and_is_projected():
    row = np.array([np.nan, 50.0, np.inf])
    assert not max(ALL.one(row)) <= 1.0
    assert max(ALL.scores(ALL.project(row[np.newaxis]))[:, 0]) <= 1.0
    assert ALL.explain(row) == ("a is missing or not finite", "c is missing or not finite")


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 4)),
        np.zeros((2, 2)),
        np.zeros(3),
        np.array([["a", "b", "c"]]),
        np.array([[None, 1, 2]]),
        np.zeros(()),
    ],
)
def test_rows_that_are_none_of_the_baselines_have_a_named_error(rows):
    with pytest.raises(BaselineError, match="the baseline has 3 numbers a row"):
        ALL.scores(rows)
    with pytest.raises(BaselineError, match="the baseline has 3 numbers a row"):
        ALL.one(rows.ravel()[:2])


def test_no_rows_have_no_scores():
    assert ALL.scores(np.empty((0, 3))).shape == (len(FITTED.types), 0)
    assert ALL.project(np.empty((0, 3))).shape == (0, 3)


@given(st.lists(st.floats(), min_size=3, max_size=3))
def test_whatever_numbers_a_row_holds_it_passes_only_when_all_are_ordinary(row):
    scores = ALL.one(np.array(row))
    if not np.isfinite(row).all():
        assert not max(scores) <= 1.0 or np.isnan(scores).any()
    else:
        assert np.isfinite(scores).all()


def test_reasons_are_in_words_and_name_the_column():
    row = ROWS[:1].copy()
    row[0, 1] = 500
    (score,) = verdict.score_rows(FITTED, row)
    assert score.anomalous
    assert score.score is not None
    assert score.score > 1
    assert score.reasons[0].startswith("b is ")
    assert "deviations above its usual value" in score.reasons[0]
    row[0, 1] = -1e300
    (score,) = verdict.score_rows(FITTED, row)
    assert "more than 1000000 deviations below" in score.reasons[0]
    (missing,) = verdict.score_rows(FITTED, np.array([[0, np.nan, 0]]))
    assert (missing.score, missing.anomalous, missing.reasons) == (None, True, ("b is missing or not finite",))
    (ordinary,) = verdict.score_rows(FITTED, np.array([[0.0, 50.0, -300.0]]))
    assert (ordinary.anomalous, ordinary.reasons) == (False, ())


def test_a_combination_that_does_not_occur_is_told_as_such():
    rng = np.random.default_rng(1)
    first = rng.normal(size=500)
    fitted = fitting.fit(np.column_stack([first, first + 0.05 * rng.normal(size=500)]), ["in", "out"])
    (score,) = verdict.score_rows(fitted, np.array([[1.0, -1.0]]))
    assert score.anomalous
    assert "than the other columns suggest" in score.reasons[0]
