"""LinearSHAP: what it adds up to, what it gave beside the package shap, and whose weights it believes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect.answers import AnswerError
from modelward.explain.linear import Linear
from modelward.explain.methods import ByWeights, UnfaithfulError
from modelward.explain.weights import WeightsError, fitted_to, linear_model
from tests.unit.explain.asked import held, output

SAMPLE = np.random.default_rng(4).normal(loc=[0, 10, -5], size=(100, 3))
NONE = np.zeros(3, dtype=bool)


def linear(link: str = "identity", outputs: int = 1, seed: int = 0) -> Linear:
    rng = np.random.default_rng(seed)
    return Linear(rng.normal(size=(outputs, 3)), rng.normal(size=outputs), link)


def sigmoid(margins: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-margins))


@given(seed=st.integers(0, 1000), outputs=st.integers(1, 4))
def test_contributions_and_base_are_the_margin(seed, outputs):
    of, row = linear(outputs=outputs, seed=seed), np.random.default_rng(seed + 1).normal(size=3) * 100
    mean = SAMPLE.mean(axis=0)
    for index in range(outputs):
        total = of.margins(mean)[index] + of.contributions(row, mean, index).sum()
        assert total == pytest.approx(of.margins(row)[index], abs=1e-9)


def test_a_regression_is_explained_in_its_own_unit():
    of = linear()
    found, asked = held(
        ByWeights(of, SAMPLE, NONE).explain(np.array([1.0, 2.0, 3.0])), lambda rows: of.margins(rows)[:, 0]
    )
    assert (found.agreement, found.of_class, asked) == ("values", False, 64)
    assert found.base + found.contributions.sum() == pytest.approx(found.value)


@pytest.mark.parametrize("high", [True, False])
@pytest.mark.parametrize("form", ["labels", "texts", "probability", "probabilities"])
def test_a_classifier_is_told_by_probabilities_or_by_its_classes(form, high):
    of = Linear(np.array([[2.0, 0.0, 0.0]]), np.array([0.1]), "logistic")
    forms = {
        "labels": lambda rows: (of.margins(rows)[:, 0] > 0).astype(int),
        "texts": lambda rows: np.where(of.margins(rows)[:, 0] > 0, "no", "yes"),
        "probability": lambda rows: sigmoid(of.margins(rows)[:, 0]).astype(np.float32).astype(float),
        "probabilities": lambda rows: np.hstack([1 - sigmoid(of.margins(rows)), sigmoid(of.margins(rows))]),
    }  # fmt: skip
    row = np.array([3.0 if high else -3.0, 10, -5])
    found, _ = held(ByWeights(of, SAMPLE, NONE).explain(row), forms[form])
    assert found.agreement == ("classes" if form in ("labels", "texts") else "probabilities")
    assert found.what == "the log-odds of the second of the model's two classes"
    assert (found.contributions[0] > 0) == high
    assert found.towards[0] > 0, "it speaks for the answer, whichever it is"


def test_of_several_classes_the_chosen_one_is_explained():
    of = linear("softmax", 3)
    raised = lambda rows: np.exp(of.margins(rows)) / np.exp(of.margins(rows)).sum(axis=1, keepdims=True)  # noqa: E731
    row = SAMPLE[3]
    found, _ = held(ByWeights(of, SAMPLE, NONE).explain(row), raised)
    chosen = int(of.margins(row).argmax())
    assert found.agreement == "probabilities"
    assert found.value == of.margins(row)[chosen]
    assert f"of class {chosen}, counted from 0" in found.what
    found, _ = held(ByWeights(of, SAMPLE, NONE).explain(row), lambda rows: of.margins(rows).argmax(axis=1))
    assert found.agreement == "classes"


@pytest.mark.parametrize(
    "model",
    [
        lambda rows: rows[:, 0] * 2.02 + 0.1,
        lambda rows: (rows[:, 0] + rows[:, 1] > 10).astype(int),
        lambda rows: sigmoid(rows[:, 0] * 2.0 + 0.9),
        lambda rows: np.stack([sigmoid(rows[:, 0]), 1 - sigmoid(rows[:, 0])], axis=1),
        lambda rows: (rows[:, 0] * 4).astype(int),
    ],
)
@pytest.mark.parametrize("link", ["identity", "logistic"])
def test_weights_of_another_model_are_not_believed(model, link):
    of = Linear(np.array([[2.0, 0.0, 0.0]]), np.array([0.1]), link)
    with pytest.raises(UnfaithfulError):
        held(ByWeights(of, SAMPLE, NONE).explain(SAMPLE[0]), model)


def test_what_is_dropped_is_the_rows_own_for_reference_and_has_no_part():
    of = linear()
    row = np.array([1.0, 0.0, 3.0])
    method = ByWeights(of, SAMPLE, np.array([False, True, False]))
    asked = next(method.explain(row))
    assert set(asked[:, 1]) == {0.0}
    found, _ = held(method.explain(row), lambda rows: of.margins(rows)[:, 0])
    assert found.contributions[1] == 0
    assert found.base + found.contributions.sum() == pytest.approx(found.value)


def test_an_answer_with_nothing_in_it_is_no_answer():
    conversation = ByWeights(linear(), SAMPLE, NONE).explain(SAMPLE[0])
    next(conversation)
    with pytest.raises(AnswerError):
        conversation.send([output(np.zeros(3))])


def test_frozen_values():
    """What the package shap (0.51, its LinearExplainer) gives for these weights, row and mean."""
    of = Linear(np.array([[0.5, -1.25, 2.0]]), np.array([0.75]), "identity")
    row, mean = np.array([1.5, 9.0, -4.0]), np.array([0.25, 10.5, -5.125])
    assert of.contributions(row, mean).tolist() == [0.625, 1.875, 2.25]
    assert of.margins(mean).tolist() == [-22.5]


def test_values_beyond_all_measure_are_refused():
    conversation = ByWeights(Linear(np.full((1, 3), 10.0), np.zeros(1), "identity"), SAMPLE, NONE)
    with pytest.raises(AnswerError, match="too large"):
        held(conversation.explain(np.array([1.7e308, 0, 0])), lambda rows: rows[:, 1])


# --- the weights' file


def weights(**changes) -> bytes:
    return json.dumps({"coef": [1.0, 2.0, 3.0], "intercept": 0.5} | changes).encode()


def test_named_weights_are_put_into_the_baselines_order():
    named = fitted_to(linear_model(weights(columns=["c", "a", "b"])), ["a", "b", "c"], ["b", "c", "a"])
    assert named.weights.tolist() == [[2.0, 3.0, 1.0]]
    taken = fitted_to(linear_model(weights()), ["a", "b", "c"], ["b", "c", "a"])
    assert taken.weights.tolist() == [[3.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "cannot be read"),
        (weights(coef=[1.0, 2.0]), "the weights are for 2 columns, and the baseline has 3"),
        (weights(columns=["a", "b", "x"]), "different columns: x, c"),
        (weights(columns=["a", "b", "b"]), "different columns: c"),
        (
            json.dumps(
                {"layers": [{"weights": [[1.0, 1, 1]], "bias": [0.0]}, {"weights": [[1.0]], "bias": [0]}]}
            ).encode(),
            "a network of 2 layers is not linear",
        ),
    ],
)
def test_weights_that_do_not_fit_say_so(content, why):
    with pytest.raises(WeightsError, match=why):
        fitted_to(linear_model(content), ["a", "b", "c"], ["a", "b", "c"])
