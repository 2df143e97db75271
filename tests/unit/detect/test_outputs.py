from __future__ import annotations

import contextlib
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.clients import Caller
from modelward.detect.outputs import MAX_LABELS, Ordinary, Outputs


def caller(client: int = 0) -> Caller:
    return Caller(f"user:{client}", "i", "n")


def probabilities(count: int, seed: int, sharpness: float = 4.0) -> list[list[float]]:
    rng = np.random.default_rng(seed)
    powers = np.exp(sharpness * rng.normal(size=(count, 4)))
    return (powers / powers.sum(axis=1, keepdims=True)).tolist()


def fed(outputs: Outputs, answers, clients: int = 1) -> set:
    return {
        (finding.test, finding.scope)
        for index, answer in enumerate(answers)
        for finding in outputs.add(caller(index % clients), answer)
    }


@pytest.mark.parametrize("clients", [1, 7])
def test_ordinary_answers_raise_nothing(clients):
    rng = np.random.default_rng(0)
    reference = Ordinary.of("probabilities", probabilities(1000, 1))
    assert fed(Outputs("probabilities", reference), probabilities(5000, 2), clients) == set()
    labels = rng.choice(["a", "b", "c"], size=8000, p=[0.7, 0.2, 0.1]).tolist()
    assert fed(Outputs("labels", Ordinary.of("labels", labels[:1000])), labels[1000:], clients) == set()


def test_the_range_of_scores_is_left_as_often_as_asked():
    scores = np.random.default_rng(3).gumbel(size=30_000).tolist()
    outputs = Outputs("values", Ordinary.of("values", scores[:4000], rate=0.01))
    found = [finding.test for score in scores[4000:] for finding in outputs.add(caller(), score)]
    assert set(found) == {"range"}
    assert 0.006 < len(found) / 26_000 < 0.015


def test_confidence_that_collapses_is_found_of_one_client_and_of_all():
    reference = Ordinary.of("probabilities", probabilities(1000, 1))
    assert fed(Outputs("probabilities", reference), [[0.25] * 4] * 10) == set()
    assert fed(Outputs("probabilities", reference), [[0.26, 0.25, 0.25, 0.24]] * 13) >= {
        ("collapse", "client"),
        ("collapse", "overall"),
    }
    spread = fed(Outputs("probabilities", reference), probabilities(200, 4, sharpness=0.3), clients=100)
    assert ("collapse", "overall") in spread
    assert ("collapse", "client") not in spread


@pytest.mark.parametrize(
    ("kind", "ordinary", "flood"),
    [
        ("labels", ["a", "b", "c", "d"] * 50, "b"),
        ("labels", [0, 1, 2, 3] * 50, 1.0),
        ("labels", ["a", "b"] * 50, "never seen"),
        ("probabilities", np.eye(4)[np.arange(200) % 4].tolist(), [0, 1, 0, 0]),
        ("values", np.linspace(0, 1, 500).tolist(), 0.55),
    ],
)
def test_a_flood_of_one_label_is_found(kind, ordinary, flood):
    outputs = Outputs(kind, Ordinary.of(kind, ordinary))
    found = [finding for _ in range(150) for finding in outputs.add(caller(), flood)]
    assert {(finding.test, finding.scope) for finding in found} == {("flood", "client"), ("flood", "overall")}
    assert len({finding.label for finding in found}) == 1
    assert fed(outputs, ordinary[20:21]) == set()


def test_it_learns_from_the_first_answers_and_from_no_client_alone():
    outputs = Outputs("labels", learn=100)
    for _ in range(50):
        outputs.add(caller(0), "flood")
    for index in range(90):
        assert outputs.reference is None
        outputs.add(caller(1 + index % 9), "ab"[index % 2])
    assert outputs.reference is not None
    assert dict(zip(outputs.reference.labels, outputs.reference.shares, strict=False))["flood"] < 0.12


def test_answers_that_cannot_be_learnt_from_are_not_kept():
    outputs = Outputs("labels", learn=20)
    with mock.patch.object(Ordinary, "_of_names", side_effect=TypeError):
        for number in range(1, 401):
            with pytest.raises(TypeError) if number % 20 == 0 else contextlib.nullcontext():
                outputs.add(caller(number), "a")
    assert outputs._names == []


def test_a_model_with_one_client_learns_in_the_end():
    outputs = Outputs("labels", learn=20)
    fed(outputs, ["a", "b"] * 200)
    assert outputs.reference is not None


def test_many_labels_are_counted_together():
    reference = Ordinary.of("labels", list(range(2000)))
    assert len(reference.labels) == MAX_LABELS - 1
    assert len(reference.shares) == MAX_LABELS
    assert reference.shares.sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_too_few_answers_are_told(kind):
    with pytest.raises(ValueError, match="at least 20"):
        Ordinary.of(kind, [1.0] * 19)


SCORES = Outputs("values", Ordinary.of("values", np.linspace(-1, 1, 100).tolist()))
CLASSES = Outputs("probabilities", Ordinary.of("probabilities", probabilities(100, 0)))


@given(st.floats(), st.lists(st.floats(), min_size=1, max_size=300))
def test_no_answer_breaks_it(score, classes):
    found, usual = SCORES.add(caller(), score), SCORES.reference
    assert usual is not None
    within = abs(score - usual.middle) / usual.reach <= 1.0  # and not where it is none
    assert within == (not any(finding.test == "range" for finding in found))
    assert all(finding.score > 1 for finding in CLASSES.add(caller(), classes))
