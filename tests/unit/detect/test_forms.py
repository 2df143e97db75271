"""Each form of a model's answers is learned by itself, whatever else comes meanwhile."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.detect.answers import AnswerError, Form, Output
from modelward.detect.clients import Caller
from modelward.detect.forms import FORM_ROWS, MAX_FORMS, MAX_WATCHED, Forms, Key

SCORES = Key("p", "numbers", 2)


def caller(client: object) -> Caller:
    return Caller(f"user:{client}", "i", "n")


def scores(first: float = 0.9, name: str = "p") -> Output:
    return Output("FP64", [1, 2], [first, 1 - first], name)


def label(value: int = 1, name: str = "y") -> Output:
    return Output("INT64", [1], [value], name)


def odd(width: int, name: str = "p") -> Output:
    return Output("FP64", [1, width], [1 / width] * width, name)


def fed(forms: Forms, outputs: Sequence[Output], client: object = 0, rows: int = 1) -> object:
    try:
        return forms.add(caller(client), outputs, rows)
    except AnswerError:
        return AnswerError


def ordinary(forms: Forms, count: int, clients: int = 12, seed: int = 0) -> list[object]:
    values = np.random.default_rng(seed).uniform(0.6, 1.0, size=count).tolist()
    return [fed(forms, [scores(value)], f"clerk{index % clients}") for index, value in enumerate(values)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), st.integers(1, 3), st.integers(1, 30))
def test_whatever_a_few_others_mix_in_what_is_ordinary_is_learnt(seed: int, others: int, each: int) -> None:
    chance, forms = random.Random(seed), Forms(learn=100)
    values = np.random.default_rng(seed).uniform(0.6, 1.0, size=500).tolist()
    for index, value in enumerate(values):
        for _ in range(chance.randrange(each)):
            width, name = chance.randrange(3, 60), chance.choice("pqrs")
            fed(forms, [odd(width, name)], f"mallory{chance.randrange(others)}")
        assert fed(forms, [scores(value)], f"clerk{index % 12}") != AnswerError
        assert len(forms) <= MAX_FORMS
    assert forms.learnt[SCORES] == Form("Probabilities", 0, 2)
    assert forms._forms[SCORES].rows == len(values)  # it never began anew


def test_one_who_comes_first_with_as_many_forms_as_there_may_be_makes_room_for_others() -> None:
    forms = Forms(learn=100)
    for width in range(3, 200):
        fed(forms, [odd(width)], "mallory")
    assert len(forms) == MAX_FORMS
    ordinary(forms, 300)
    assert SCORES in forms.learnt


def test_until_anything_is_learnt_nothing_is_odd_and_then_what_is_not_learnt_is() -> None:
    forms = Forms(learn=100)
    assert fed(forms, [odd(5)], "mallory") == ()
    assert set(ordinary(forms, 300)) == {()}
    assert fed(forms, [odd(5)], "mallory") is None
    assert fed(forms, [scores()], "clerk1") == ()
    assert fed(forms, [odd(5), scores()], "mallory") == ()  # by what of it is known


def test_of_several_outputs_the_one_that_tells_most_is_judged_and_the_others_where_it_is_not_asked_for() -> None:
    forms = Forms(learn=100)
    for index in range(400):
        value = (index * 7 % 40) / 100 + 0.6
        fed(forms, [label(index % 2), scores(value)], f"clerk{index % 12}")
    assert {key.name for key in forms.learnt} == {"p", "y"}
    both = [fed(forms, [label(index % 2), scores(0.5)], "mallory") for index in range(60)]
    assert any("collapse" in {one.test for one in found} for found in both if isinstance(found, tuple))
    alone = [fed(forms, [label(1)], "trudy") for _ in range(300)]
    assert any("flood" in {one.test for one in found} for found in alone if isinstance(found, tuple))


def test_a_score_of_one_that_is_written_as_a_whole_number_is_a_score() -> None:
    forms = Forms(learn=100)
    for index in range(400):
        whole = index % 10 == 9
        fed(forms, [Output("INT64" if whole else "FP64", [1], [1 if whole else 0.5 + index % 9 / 20])], index % 12)
    assert [(key.of, form.kind) for key, form in forms.learnt.items()] == [("numbers", "Probability")]
    assert fed(forms, [Output("INT64", [1], [1])], "clerk") == ()


def test_nobody_alone_says_what_the_numbers_are() -> None:
    """Measured values are taken for probabilities where the first of them lie between 0 and 1."""
    forms = Forms(learn=100)
    for _ in range(100):
        fed(forms, [Output("FP64", [1], [0.25])], "mallory")
    for index in range(400):
        fed(forms, [Output("FP64", [1], [20.5 + index % 7])], f"clerk{index % 12}")
    assert [form.kind for form in forms.learnt.values()] == ["Values"]


def test_one_client_alone_is_learnt_from_in_the_end() -> None:
    forms = Forms(learn=20)
    for index in range(12 * FORM_ROWS + 20 * 12):
        fed(forms, [scores(0.6 + index % 40 / 100)], "alone")
    assert SCORES in forms.learnt


def test_what_cannot_be_read_teaches_nothing_and_what_is_not_judged_may_be_anything() -> None:
    forms = Forms(learn=100)
    bad = Output("FP64", [1, 2], [float("nan"), 0.5], "p")
    assert fed(forms, [bad]) is AnswerError
    assert fed(forms, [Output("FP64", [2, 2], [0.5] * 4, "p")]) is AnswerError  # of another number of rows
    assert fed(forms, []) is AnswerError
    ordinary(forms, 300)
    assert fed(forms, [bad]) is AnswerError
    other = Output("FP64", [1, 3], [float("inf")] * 3, "variance")
    assert fed(forms, [other, scores()]) == ()


def test_outputs_of_one_answer_and_texts_are_bounded() -> None:
    forms = Forms(learn=100)
    assert fed(forms, [odd(3, f"o{number}") for number in range(100)]) == ()
    assert len(forms) == MAX_WATCHED
    texts = Forms(learn=100)
    for index in range(200):
        fed(texts, [Output("BYTES", [1], ["x" * 100_000 + str(index % 3)], "t")], index % 12)
    (learner,) = texts._forms.values()
    reference = learner._outputs.reference if learner._outputs else None
    assert reference is not None
    assert max(map(sys.getsizeof, reference.labels)) < 1000


@pytest.mark.parametrize("kind", ["Logits", "Labels"])
def test_numbers_are_what_many_of_them_are(kind: str) -> None:
    forms = Forms(learn=100)
    for index in range(400):
        output = Output("FP32", [1, 2], [3.5 + index % 5, -2.0], "z") if kind == "Logits" else label(index % 3)
        fed(forms, [output], index % 12)
    assert [form.kind for form in forms.learnt.values()] == [kind]


def test_nobody_hides_what_is_learnt_behind_other_outputs() -> None:
    """Who asks says in which order the outputs come."""
    forms = Forms(learn=100)
    ordinary(forms, 400)
    others = [odd(5, f"o{number}") for number in range(MAX_WATCHED)]
    found = [fed(forms, [*others, scores(0.5)], "mallory") for _ in range(60)]
    assert any("collapse" in {one.test for one in each} for each in found if isinstance(each, tuple))


def test_of_a_security_tests_attacks_nothing_is_learned_and_nobody_else_is_suspected() -> None:
    forms = Forms(learn=100)
    for number in range(400):  # before any caller: a gate may be closed until the test has passed
        assert forms.add(caller(f"test/{number % 12}"), [scores(0.5)], 1, tests=True) == ()
    assert not len(forms)
    ordinary(forms, 400)
    (reference,) = (one._outputs.reference for one in forms._forms.values() if one._outputs)
    assert reference is not None
    assert reference.unsure > 0.6
    found = [forms.add(caller("test/1"), [scores(0.5)], 1, tests=True) or () for _ in range(60)]
    assert {one.scope for each in found for one in each} == {"client"}
    assert forms.add(caller("test/1"), [odd(5)], 1, tests=True) is None
    assert fed(forms, [scores(0.55)], "clerk1") == ()
