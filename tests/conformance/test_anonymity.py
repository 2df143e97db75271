"""k, l and t of the Adult census are pycanon's, as it told them: `make conformance-anonymity` asks it anew."""

from __future__ import annotations

import pytest

from tests.conformance.anonymity import ANSWERS, figures


@pytest.mark.parametrize("question", ANSWERS, ids=lambda one: f"{'-'.join(one[0])}/{one[1]}")
def test_the_figures_are_pycanons(question) -> None:
    k, l, t = figures(*question)  # noqa: E741
    expected = ANSWERS[question]
    assert (k, l) == expected[:2]
    assert t == pytest.approx(expected[2], abs=1e-12)
