from __future__ import annotations

import numpy as np
import pytest

from modelward.detect.answers import Output
from modelward.detect.backdoor import Backdoor
from modelward.detect.probing import ProbeError
from modelward.detect.surroundings import Surroundings
from tests.unit.detect.asked import Clusters, Images, asked, labels, learnt, scores


@pytest.mark.parametrize("answer", [scores, labels])
def test_a_trigger_is_found_and_ordinary_images_are_not(answer):
    model = Images(trigger=True, answer=answer)
    rows, _ = model.rows(300)
    detector = learnt(Backdoor(Surroundings.of(rows, image=model.image)), rows, model, rate=0.05)
    fresh, _ = model.rows(600, seed=1)
    assert (asked(detector, fresh, model) > 1).mean() <= 0.08
    assert (asked(detector, model.triggered(fresh), model) > 1).all()


def test_without_a_backdoor_the_same_patch_is_nothing():
    model = Images(trigger=False)
    rows, _ = model.rows(300)
    detector = learnt(Backdoor(Surroundings.of(rows, image=model.image)), rows, model, rate=0.05)
    assert (asked(detector, model.triggered(model.rows(300, seed=1)[0]), model) > 1).mean() <= 0.08


def test_columns_are_mixed_with_those_of_ordinary_rows():
    model = Clusters()
    rows, _ = model.rows(50)
    probe = Backdoor(Surroundings.of(rows), extra=16)
    row = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    probes = probe.probes(row, np.random.default_rng(0))
    assert probes.shape == (16, 5)
    theirs = np.isin(probes, rows)
    assert ((probes == row) | theirs).all()
    assert (theirs.sum(axis=0) > 0).all()
    assert (theirs.sum(axis=0) < 16).all()


@pytest.mark.parametrize("extra", [1, 65])
def test_the_budget_is_bounded(extra):
    with pytest.raises(ProbeError, match="2 to 64 rows"):
        Backdoor(Surroundings.of(np.zeros((3, 2))), extra)


def test_a_regression_has_no_backdoor_to_look_for():
    rows, _ = Clusters().rows(50)

    def model(asked):
        return [Output("FP64", [len(asked)], asked.sum(axis=1))]

    with pytest.raises(ProbeError, match="classes"):
        learnt(Backdoor(Surroundings.of(rows)), rows, model)


def test_a_model_with_one_answer_to_all_is_no_use():
    rows, _ = Clusters().rows(120)

    def model(asked):
        return [Output("INT64", [len(asked)], [1] * len(asked))]

    with pytest.raises(ProbeError, match="leave it out"):
        learnt(Backdoor(Surroundings.of(rows)), rows, model)
