from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy import lattice
from modelward.privacy.anonymity import classes
from modelward.privacy.hierarchy import HierarchyError, read_levels
from modelward.privacy.lattice import LatticeError, cheapest, ladder


@st.composite
def ladders(draw):
    """Of a column of up to six values: groups of groups."""
    count = draw(st.integers(1, 6))
    levels, groups = [], np.arange(count)
    for _ in range(draw(st.integers(0, 2))):
        merged = np.array(draw(st.lists(st.integers(0, 2), min_size=6, max_size=6)))
        groups = merged[groups]
        levels.append(groups)
    return ladder(levels, count)


@st.composite
def problems(draw):
    steps = draw(st.lists(ladders(), min_size=1, max_size=3))
    count = draw(st.integers(1, 30))
    columns = [
        np.array(draw(st.lists(st.integers(0, len(each.levels[0]) - 1), min_size=count, max_size=count)))
        for each in steps
    ]
    return columns, steps, draw(st.integers(2, 6)), draw(st.integers(0, 4))


@given(problems())
def test_the_cheapest_of_all_that_there_are(problem):
    columns, steps, k, spare = problem
    count = len(columns[0])
    costs = [
        each.losses(np.bincount(column, minlength=len(each.levels[0])))
        for column, each in zip(columns, steps, strict=True)
    ]
    good = {}
    for node in product(*(range(len(each.levels)) for each in steps)):
        groups = [each.levels[level][column] for each, level, column in zip(steps, node, columns, strict=True)]
        found = classes(groups, count)
        if found.below(k) <= spare and found.below(k) < count:
            good[node] = sum(cost[level] for cost, level in zip(costs, node, strict=True)) / len(steps)
    best = cheapest(columns, steps, k, spare=spare)
    if best is None:
        assert not good
        return
    assert best.cheapest
    assert best.levels in good
    assert best.loss == pytest.approx(min(good.values()), abs=1e-12)
    groups = [each.levels[level][column] for each, level, column in zip(steps, best.levels, columns, strict=True)]
    found = classes(groups, count)
    assert (best.suppressed, best.k >= k) == (found.below(k), True)


def test_loss_is_of_the_values_that_there_are():
    steps = ladder([np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0])], 4)
    assert steps.losses(np.array([1, 1, 1, 0])).tolist() == pytest.approx([0.0, 1 / 3, 1.0])


def test_a_level_that_splits_a_group_is_refused():
    with pytest.raises(LatticeError, match="level 2 splits a group of level 1"):
        ladder([np.array([0, 0, 1]), np.array([0, 1, 1])], 3)


def test_too_large_a_lattice_is_refused_and_a_long_search_is_cut_short(monkeypatch):
    rng = np.random.default_rng(0)
    columns = [rng.integers(16, size=400) for _ in range(5)]
    steps = [ladder([np.arange(16) // 2, np.arange(16) // 4, np.arange(16) // 8], 16) for _ in range(5)]
    whole = cheapest(columns, steps, 5)
    monkeypatch.setattr(lattice, "MAX_TRIED", 10)
    cut = cheapest(columns, steps, 5)
    assert (whole.cheapest, cut.cheapest) == (True, False)
    assert cut.loss >= whole.loss
    assert cut.k >= 5
    with pytest.raises(LatticeError, match="declare fewer"):
        cheapest(columns * 3, steps * 3, 5)


def test_all_levels_of_a_hierarchy():
    assert read_levels("a;x;*\nb;x;*\n\n") == ({"a": "x", "b": "x"}, {"a": "*", "b": "*"})
    for text, told in (("", "empty"), ("a;x\nb\n", "line 2"), ("a\n", "levels 1 to 0")):
        with pytest.raises(HierarchyError, match=told):
            read_levels(text)
