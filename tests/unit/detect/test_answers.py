from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelward.detect.answers import AnswerError, Form, Output, from_v1, joined


def of(datatype, shape, data):
    return Output(datatype, shape, data)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (of("INT64", [3], [0, 1, 2]), "Labels"),
        (of("INT64", [3, 1], [0, 1, 2]), "Labels"),
        (of("BYTES", [3], ["cat", "dog", "cat"]), "Labels"),
        (of("FP32", [3], [0.0, 1.0, 2.0]), "Labels"),
        (of("FP32", [3, 1], [0.1, 0.9, 1.0]), "Probability"),
        (of("FP64", [3], [-1.5, 0.2, 7.25]), "Values"),
        (of("FP64", [3, 2], [0.1, 0.9, 1.0, 0.0, 0.5, 0.5]), "Probabilities"),
        (of("FP64", [3, 2], [-4.0, 0.9, 1.0, 0.0, 0.5, 0.5]), "Logits"),
    ],
)
def test_the_form_of_an_answer(output, kind):
    form = Form.of([output], 3)
    assert form.kind == kind
    assert len(form.read([output], 3)) == 3


def test_scores_are_taken_before_labels_wherever_they_stand():
    answer = [of("INT64", [2], [0, 1]), of("FP64", [2, 2], [0.9, 0.1, 0.2, 0.8])]
    assert Form.of(answer, 2).read(answer, 2).labels.tolist() == [0, 1]
    assert Form.of(answer, 2).index == 1


def test_a_form_is_held_to():
    form = Form.of([of("FP64", [2, 2], [0.9, 0.1, 0.2, 0.8])], 2)
    for other in (
        [],
        [of("FP64", [2, 3], [0.0] * 6)],
        [of("FP64", [1, 2], [0.0] * 2)],
        [of("BYTES", [2, 2], ["x"] * 4)],
    ):
        with pytest.raises(AnswerError, match="form"):
            form.read(other, 2)
    with pytest.raises(AnswerError, match="finite"):
        form.read([of("FP64", [2, 2], [0.9, 0.1, math.nan, 0.8])], 2)


@pytest.mark.parametrize(
    "output", [of("FP64", [], [1.0]), of("FP64", [3], [1.0]), of("FP64", [2, 9999], [0.0] * 19998)]
)
def test_an_answer_without_something_for_each_row_has_no_form(output):
    with pytest.raises(AnswerError, match="for each row"):
        Form.of([output], 2)


@pytest.mark.parametrize("label", [{"a": 1}, None, 10**70])
def test_what_is_no_label_is_none(label):
    with pytest.raises(AnswerError, match="labels"):
        Form("Labels", 0, 1).read([of("INT64", [2], [label, 1])], 2)


def test_answers_of_v1():
    assert Form.of(from_v1([[0.1, 0.9], [0.5, 0.5]]), 2).kind == "Probabilities"
    assert Form.of(from_v1(["a", "b"]), 2).kind == "Labels"
    assert Form.of(from_v1([{"label": 1, "p": [0.2, 0.8]}] * 2), 2) == Form("Probabilities", 1, 2)
    for wrong in ([[1.0], [1.0, 2.0]], [{"a": 1}, {"b": 1}], [None, None], [{"a": 1}, 3]):
        with pytest.raises(AnswerError):
            from_v1(wrong)


def test_labels_differ_or_do_not():
    form = Form("Labels", 0, 1)
    one, others = form.read([of("BYTES", [2], ["a", "b"])], 2), form.read([of("BYTES", [4], ["a", "b", "b", "b"])], 4)
    assert one.distances(others).tolist() == [[0, 1], [0, 0]]
    several = Form("Labels", 0, 2).read([of("INT64", [2, 2], [1, 2, 12, 0])], 2)
    assert several.labels[0] != several.labels[1]


@given(arrays.arrays(np.float64, (6, 3), elements=st.floats(-1e300, 1e300)))
def test_distances_are_within_what_the_form_allows(numbers):
    output = [of("FP64", [6, 3], numbers.reshape(-1))]
    form = Form.of(output, 6)
    answers = form.read(output, 6)
    distances = answers.at(np.array([0, 1])).distances(answers.at(np.array([2, 3, 4, 5])))
    assert distances.shape == (2, 2)
    assert (distances >= 0).all()
    assert (distances <= form.farthest + 1e-9).all()
    assert len(joined([answers, answers])) == 12


def test_one_long_text_does_not_make_all_others_as_long() -> None:
    """As numpy has texts, 2,000 rows of which one has 100,000 characters take 800 MB."""
    texts = ["x" * 100_000, *(f"y{index}" for index in range(1999))]
    tracemalloc.start()
    try:
        for output in (of("BYTES", [2000], texts), *from_v1(texts), *from_v1([{"t": text} for text in texts])):
            answers = Form.of([output], 2000).read([output], 2000)
            assert answers.labels is not None
            assert answers.labels.tolist() == texts
        nested = from_v1([[text, "z"] for text in texts])[0]
        assert (nested.datatype, list(nested.shape), nested.data[:2]) == ("BYTES", [2000, 2], [texts[0], "z"])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("wrong", [["a", None], ["a", ["b"]], [["a"], ["b", "c"]]])
def test_texts_that_differ_in_their_form_are_refused(wrong: list[object]) -> None:
    with pytest.raises(AnswerError):
        from_v1(wrong)
