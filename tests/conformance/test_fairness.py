"""The Adult census is as unequal as Fairlearn says, as it told it: `make conformance-fairness` asks it anew."""

from __future__ import annotations

import pytest

from tests.conformance.fairness import ANSWERS, figures, seen


@pytest.mark.parametrize("field", ANSWERS)
def test_the_figures_are_fairlearns(field: str) -> None:
    assert figures(field) == pytest.approx(ANSWERS[field], abs=1e-12)


def test_every_row_is_counted_once() -> None:
    assert [sum(group.rows for group in one.groups) for one in seen().attributes] == [30_162] * len(ANSWERS)
    assert [sum(group.labelled for group in one.groups) for one in seen().attributes] == [30_162] * len(ANSWERS)
    assert seen().uncounted == 0
