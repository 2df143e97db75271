from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy import anonymity


@st.composite
def tables(draw):
    """Quasi-identifiers of any number, and a sensitive column; few values, so that there are groups."""
    count = draw(st.integers(1, 40))
    column = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    return np.array(draw(st.lists(column, min_size=1, max_size=4))), np.array(draw(column))


def groups(columns, sensitive):
    found = defaultdict(list)
    for row, value in zip(columns.T.tolist(), sensitive.tolist(), strict=True):
        found[tuple(row)].append(value)
    return list(found.values())


def by_definition(columns, sensitive, *, ordered):
    """t as Li, Li and Venkatasubramanian write it, value by value."""
    values = sorted(set(sensitive.tolist()))
    whole = [sensitive.tolist().count(value) / len(sensitive) for value in values]
    worst = 0.0
    for group in groups(columns, sensitive):
        apart = [group.count(value) / len(group) - share for value, share in zip(values, whole, strict=True)]
        if ordered:
            far = sum(abs(sum(apart[: end + 1])) for end in range(len(values))) / max(len(values) - 1, 1)
        else:
            far = sum(map(abs, apart)) / 2
        worst = max(worst, far)
    return worst


@given(tables())
def test_the_figures_are_those_of_the_definitions(table):
    columns, sensitive = table
    found = anonymity.classes(columns, columns.shape[1])
    sizes = [len(group) for group in groups(columns, sensitive)]
    assert found.k == min(sizes)
    assert sorted(found.sizes.tolist()) == sorted(sizes)
    assert found.unique == sizes.count(1)
    assert found.below(3) == sum(size for size in sizes if size < 3) == len(found.rows_below(3))
    assert anonymity.diversity(found, sensitive) == min(len(set(group)) for group in groups(columns, sensitive))
    for ordered in (False, True):
        told = anonymity.closeness(found, sensitive, ordered=ordered)
        assert told == pytest.approx(by_definition(columns, sensitive, ordered=ordered), abs=1e-12)


def test_more_combinations_than_a_number_holds():
    rng = np.random.default_rng(0)
    columns = [rng.integers(1 << 20, size=300) for _ in range(5)]
    columns = [np.concatenate([column, column[:7]]) for column in columns]
    found = anonymity.classes(columns, 307)
    assert Counter(found.sizes.tolist()) == {1: 293, 2: 7}


def test_without_columns_or_rows():
    assert anonymity.classes([], 5).k == 5
    nobody = anonymity.classes([np.array([], dtype=np.int64)], 0)
    none = np.array([], dtype=np.int64)
    assert (nobody.k, nobody.unique, anonymity.diversity(nobody, none)) == (0, 0, 0)
    assert anonymity.closeness(nobody, none, ordered=True) == 0.0
