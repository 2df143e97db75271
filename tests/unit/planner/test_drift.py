from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.planner.drift import DIGEST_ANNOTATION, covers, stamped

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_what_is_wanted_covers_itself(value: Any) -> None:
    assert covers(copy.deepcopy(value), value)


@given(st.dictionaries(st.text(max_size=3), JSON), st.dictionaries(st.text(max_size=3), JSON))
def test_fields_that_others_add_do_not_matter(wanted: dict[str, Any], added: dict[str, Any]) -> None:
    assert covers({**added, **wanted}, wanted)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ({"a": 1}, {"a": 2}),
        ({}, {"a": 1}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}),
        ({"a": 1}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": [1]}),
    ],
)
def test_what_differs_is_seen(there: Any, wanted: Any) -> None:
    assert not covers(there, wanted)


def test_an_empty_object_is_there_when_it_was_left_out() -> None:
    assert covers({}, {"resources": {}})
    assert covers({"emptyDir": {"medium": ""}}, {"emptyDir": {}})


def test_what_was_taken_out_is_seen_by_the_digest() -> None:
    before = stamped({"metadata": {"name": "x"}, "spec": {"command": ["sh"], "replicas": 1}})
    after = stamped({"metadata": {"name": "x"}, "spec": {"replicas": 1}})
    assert not covers(before, after)
    assert before["metadata"]["annotations"][DIGEST_ANNOTATION] != after["metadata"]["annotations"][DIGEST_ANNOTATION]
