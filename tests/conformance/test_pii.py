"""What the recognisers find of Presidio's labelled sentences; `make conformance-pii` prints figures and misses."""

from __future__ import annotations

import pytest

from tests.conformance.pii import GOALS, HALVES, measure, sentences


@pytest.mark.parametrize("half", HALVES)
def test_every_kind_is_found_as_often_as_is_asked_and_rarely_for_nothing(half: str) -> None:
    figures = measure(sentences(half))
    assert not [
        (kind, figures.recall(kind), figures.precision(kind), figures.told[kind])
        for kind in GOALS
        if not figures.meets(kind)
    ]


def test_a_finder_that_finds_nothing_meets_no_goal() -> None:
    figures = measure(sentences(), lambda _: [])
    assert not any(figures.meets(kind) for kind in GOALS)
