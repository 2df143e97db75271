from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.answers import AnswerError, Output
from modelward.detect.evasion import Evasion
from modelward.detect.probing import Learning, ProbeError
from modelward.detect.surroundings import Surroundings
from tests.unit.detect.asked import SIDE, SIZE, Clusters, Images, asked, labels, learnt, scores


@pytest.fixture(scope="module", params=[scores, labels], ids=["scores", "labels"])
def tabular(request):
    model = Clusters(request.param)
    rows, _ = model.rows(400)
    return model, learnt(Evasion(Surroundings.of(rows)), rows, model)


def evasive(model, count=60):
    """Rows of one kind, moved just over the model's border along one column that the model overrates."""
    rows, kinds = model.rows(400, seed=5)
    rows = rows[kinds == 0][:count]
    rows[:, 0] += 10.05 - (rows / model.units).sum(axis=1)
    return rows


def test_ordinary_rows_are_flagged_as_often_as_was_asked(tabular):
    model, detector = tabular
    rows, _ = model.rows(1500, seed=2)
    assert (asked(detector, rows, model) > 1).mean() <= 0.075


def test_rows_moved_over_the_border_are_found(tabular):
    model, detector = tabular
    assert (asked(detector, evasive(model), model) > 1).mean() >= 0.8


def test_the_reasons_name_what_is_strange(tabular):
    model, detector = tabular
    row = evasive(model)[:1]
    measures = detector.measures(row, model(row), model(detector.probes(row)))
    told = detector.explain(measures[0])
    assert told
    assert all("answer" in reason and reason.endswith("ordinary rows or fewer)") for reason in told)


def test_a_binary_model_that_gives_one_probability():
    whole = Clusters()

    def model(rows):
        return [Output("FP32", [len(rows), 1], whole(rows)[0].data[1::2])]

    rows, _ = whole.rows(400)
    detector = learnt(Evasion(Surroundings.of(rows)), rows, model)
    assert (asked(detector, evasive(whole), model) > 1).mean() >= 0.8


def test_a_regression_is_compared_by_its_values():
    def model(rows):
        values = (rows / Clusters.units).sum(axis=1) * 1e6 + np.where(rows[:, 0] == 3.25, 1e8, 0)
        return [Output("FP64", [len(rows)], values)]

    rows, _ = Clusters().rows(400)
    detector = learnt(Evasion(Surroundings.of(rows)), rows, model)
    assert detector.form.kind == "Values"
    odd = Clusters().rows(20, seed=3)[0]
    assert (asked(detector, odd, model) > 1).mean() <= 0.3
    odd[:, 0] = 3.25  # a needle in the model
    assert (asked(detector, odd, model) > 1).all()


def test_images_are_squeezed_and_smoothed():
    model = Images()
    rows, _ = model.rows(200)
    probe = Evasion(Surroundings.of(rows, image=model.image), extra=4)
    lone = np.zeros((1, SIZE))
    lone[0, 2 * SIDE + 2] = 13
    rounded, smoothed, *around = probe.probes(lone, np.random.default_rng(0))
    assert set(rounded.tolist()) <= {rows.min(), rows.max()}
    assert not smoothed.any()
    assert len(around) == 2
    assert all((one == np.rint(one)).all() for one in around)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5), st.integers(0, 99))
def test_any_row_has_probes_like_ordinary_rows(row, seed):
    sample = FEW.rows(200)[0]
    sample[:, 3] = np.rint(sample[:, 3])
    around = Surroundings.of(sample, fixed=[1])
    probes = Evasion(around, 6).probes(np.array([row]), np.random.default_rng(seed))
    assert probes.shape == (6, 5)
    assert (probes[:, 1] == row[1]).all()  # a code is never changed
    free = [0, 2, 3, 4]
    assert (probes[:, free] >= around.lower[free]).all()
    assert (probes[:, free] <= around.upper[free]).all()
    assert (probes[:, 3] == np.rint(probes[:, 3])).all()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=5, max_size=5))
def test_any_row_has_a_score(row):
    rows = np.array([row])
    score = LEARNT.scores(rows, FEW(np.clip(rows, -1e9, 1e9)), FEW(LEARNT.probes(rows)))
    assert np.isfinite(score).all()
    assert (score >= 0).all()


FEW = Clusters()
LEARNT = learnt(Evasion(Surroundings.of(FEW.rows(120)[0])), FEW.rows(120)[0], FEW)


def test_random_probes_are_drawn_anew():
    row = FEW.rows(1)[0]
    assert not np.array_equal(LEARNT.probes(row), LEARNT.probes(row))


def test_columns_that_never_vary_are_borne():
    rows = np.column_stack([FEW.rows(120)[0], np.full(120, 1e9)])

    def model(asked):
        return FEW(asked[:, :5])

    detector = learnt(Evasion(Surroundings.of(rows)), rows, model)
    assert np.isfinite(asked(detector, rows + 1, model)).all()


@pytest.mark.parametrize("extra", [1, 65])
def test_the_budget_is_bounded(extra):
    with pytest.raises(ProbeError, match="2 to 64 rows"):
        Evasion(Surroundings.of(np.zeros((3, 2))), extra)


def test_too_many_rows_at_once_are_refused():
    with pytest.raises(ProbeError, match="too many"):
        LEARNT.probes(np.zeros((200_000, 5)))


def test_too_few_reference_rows_are_told():
    rows = FEW.rows(50)[0]
    with pytest.raises(ProbeError, match="at least 99 reference rows, and there are 50"):
        learnt(Evasion(Surroundings.of(rows)), rows, FEW, rate=0.01)
    with pytest.raises(ProbeError, match="no reference rows"):
        Learning(Evasion(Surroundings.of(rows)), 0.01).detector()


def test_no_more_is_held_than_is_needed():
    learning = Learning(Evasion(Surroundings.of(FEW.rows(50)[0])), 0.01)
    for seed in range(20):
        rows = FEW.rows(64, seed)[0]
        learning.add(rows, FEW(rows), FEW(learning.probes(rows)))
        assert learning.full == (seed >= 7)
    assert learning.learnt == 512


def test_a_model_whose_answers_never_agree_is_no_use():
    def model(rows):
        return [Output("BYTES", [len(rows)], [repr(row) for row in np.random.default_rng().random(len(rows))])]

    rows = FEW.rows(120)[0]
    with pytest.raises(ProbeError, match="leave it out"):
        learnt(Evasion(Surroundings.of(rows)), rows, model)


def test_an_answer_that_does_not_fit_is_an_error():
    rows = FEW.rows(2)[0]
    with pytest.raises(AnswerError):
        LEARNT.scores(rows, FEW(rows), FEW(rows))


@pytest.mark.parametrize("wrong", [np.zeros((0, 4)), np.full((3, 4), np.nan), np.full((3, 4), 1e200)])
def test_a_sample_that_is_none_is_refused(wrong):
    with pytest.raises(ProbeError, match="reference rows"):
        Surroundings.of(wrong)


def test_the_image_must_be_the_rows():
    with pytest.raises(ProbeError, match="9 pixels, a reference row 4"):
        Surroundings.of(np.zeros((3, 4)), image=(3, 3, 1))
