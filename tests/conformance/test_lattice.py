"""The cheapest generalisation of the Adult census by its own hierarchies, with all eight quasi-identifiers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from modelward.privacy.anonymity import classes
from modelward.privacy.hierarchy import read_levels
from modelward.privacy.lattice import cheapest, ladder
from tests.conformance.anonymity import ADULT, adult

NAMES = ("sex", "age", "race", "marital-status", "education")
EVERYTHING = (*NAMES, "native-country", "workclass", "occupation")


def ladders(names):
    found = []
    for name in names:
        text = (ADULT.parent / f"adult_hierarchy_{name}.csv").read_text(encoding="utf-8")
        values = adult().column(name).values
        levels = [[groups[value] for value in values] for groups in read_levels(text)]
        found.append(ladder([np.unique(level, return_inverse=True)[1] for level in levels], len(values)))
    return found


@pytest.mark.parametrize(("k", "share"), [(2, 0.0), (5, 0.0), (5, 0.01)])
def test_it_is_the_cheapest_of_all_240(k, share) -> None:
    data, steps = adult(), ladders(NAMES)
    columns = [data.column(name).codes for name in NAMES]
    spare = int(share * data.rows)
    costs = [each.losses(data.column(name).counts) for name, each in zip(NAMES, steps, strict=True)]
    good = []
    for node in product(*(range(len(each.levels)) for each in steps)):
        groups = [each.levels[level][column] for each, level, column in zip(steps, node, columns, strict=True)]
        if classes(groups, data.rows).below(k) <= spare:
            good.append(sum(cost[level] for cost, level in zip(costs, node, strict=True)) / len(NAMES))
    found = cheapest(columns, steps, k, spare=spare)
    assert found is not None
    assert found.loss == pytest.approx(min(good), abs=1e-12)


def test_eight_quasi_identifiers() -> None:
    columns = [adult().column(name).codes for name in EVERYTHING]
    found = cheapest(columns, ladders(EVERYTHING), 5)
    assert found is not None
    assert (found.cheapest, found.k, found.suppressed) == (True, 16, 0)
    assert found.levels == (0, 4, 0, 2, 3, 2, 2, 1)
