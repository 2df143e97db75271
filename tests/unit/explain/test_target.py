"""What is explained of an answer, whatever the model answers."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.detect.answers import AnswerError, Output
from modelward.explain.linear import Linear
from modelward.explain.target import Target, open_outputs

VALUES = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(10**400, 10**401),
    st.text(max_size=3),
    st.booleans(),
    st.none(),
    st.lists(st.integers(), max_size=2),
)


@st.composite
def outputs(draw: st.DrawFn) -> list[Output]:
    made = []
    for _ in range(draw(st.integers(0, 3))):
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        count = draw(st.sampled_from([int(np.prod(shape)), draw(st.integers(0, 9))]))
        data = draw(st.lists(VALUES, min_size=count, max_size=count))
        datatype = draw(st.sampled_from(["FP64", "FP16", "INT64", "BOOL", "BYTES", "odd"]))
        made.append(Output(datatype, shape, data, draw(st.sampled_from(["", "y", "z"]))))
    return made


@given(
    first=outputs(), second=outputs(), rows=st.integers(1, 4), link=st.sampled_from(["identity", "logistic", "softmax"])
)
@settings(deadline=None, max_examples=100)
def test_no_answer_does_harm(first, second, rows, link):
    linear = Linear(np.ones((2 if link == "softmax" else 1, 3)), np.zeros(2 if link == "softmax" else 1), link)
    with suppress(AnswerError):
        linear.agreement(np.ones((rows, 3)), first)
    with suppress(AnswerError):
        target = Target.of(first, rows)
        assert np.isfinite(target.read(first, rows)).all()
        assert target.read(second, rows).shape == (rows,)


def test_scores_come_before_a_lone_number_and_labels_last():
    label = Output("INT64", (3,), [1, 0, 1], "label")
    lone = Output("FP64", (3,), [0.25, 0.5, 0.125], "lone")
    shares = Output("FP32", (3, 2), [0.25, 0.75, 0.5, 0.5, 1.0, 0.0], "shares")
    everything = [label, lone, shares]
    assert Target.of(everything, 3).read(everything, 3).tolist() == [0.75, 0.5, 0.0]
    assert Target.of(everything[:2], 3).read(everything[:2], 3).tolist() == [0.25, 0.5, 0.125]
    assert Target.of(everything[:1], 3).read(everything[:1], 3).tolist() == [1.0, 0.0, 1.0]
    assert open_outputs(everything, {"shares"}, "") == everything[:2]
    assert open_outputs(everything, (), "label") == [label]
    with pytest.raises(AnswerError, match="no output other"):
        open_outputs(everything, (), "other")
    with pytest.raises(AnswerError, match="every output is treated"):
        open_outputs(everything, {"label", "lone", "shares"}, "")


def test_texts_are_labels():
    kinds = Output("BYTES", (3, 1), ["yes", "no", "yes"], "y")
    assert Target.of([kinds], 3).read([kinds], 3).tolist() == [1.0, 0.0, 1.0]
