from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.planner.emission import fit_news


def news(*states: tuple[str, str]) -> list[tuple[str, ...]]:
    """What is told of a fit whose states are seen one after another."""
    kept, told = "", []
    for request, state in states:
        kept, steps = fit_news(kept, request, state)  # type: ignore[arg-type]
        told += steps
    return told


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["START", "START", "COMPLETE", "COMPLETE"], [("a/1", "START"), ("a/1", "COMPLETE")]),
        (["COMPLETE"], [("a/1", "START"), ("a/1", "COMPLETE")]),  # fitted before anybody asked for events
        (
            ["START", "FAIL", "START", "COMPLETE"],
            [("a/1", "START"), ("a/1", "FAIL"), ("a/2", "START"), ("a/2", "COMPLETE")],
        ),
        (["FAIL", "COMPLETE"], [("a/1", "START"), ("a/1", "FAIL"), ("a/2", "START"), ("a/2", "COMPLETE")]),
    ],
)
def test_a_fit_that_is_tried_again_is_another_run(states: list[str], told: list[tuple[str, str]]) -> None:
    assert news(*(("a", state) for state in states)) == told


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["START", "COMPLETE", "FAIL"]))))
def test_every_run_begins_once_and_ends_at_most_once(states: list[tuple[str, str]]) -> None:
    told = news(*states)
    assert len(set(told)) == len(told)
    for run in {run for run, _ in told}:
        steps = [step for each, step in told if each == run]
        assert steps[0] == "START"
        assert len(steps) <= 2
