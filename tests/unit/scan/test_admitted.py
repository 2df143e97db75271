from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.spec import Treatment
from modelward.scan.admitted import Asked, obstacles
from modelward.scan.dataset import DataSet, column

QUASI = {"age": "QuasiIdentifier", "city": "QuasiIdentifier"}
STEP = {"age": Treatment("Generalise", step=10.0)}


def data(named: bool = True, **columns: list[str]) -> DataSet:
    return DataSet(tuple(column(name, cells, np.arange(len(cells))) for name, cells in columns.items()), named)


def people(named: bool = True) -> DataSet:
    """Ten in their twenties in Ulm, each of another age, and one in Bonn."""
    return data(named, age=[str(20 + n) for n in range(10)] + ["31"], city=["Ulm"] * 10 + ["Bonn"])


def test_what_breaks_k_is_told_by_size_with_the_cheapest_generalisation() -> None:
    (why,) = obstacles(people(), Asked(3, QUASI, {}))
    assert (
        "11 of 11 rows share age, city with too few others for the policy's k of 3: combinations: 11 of 1 row." in why
    )
    assert "Fix: the least generalisation that gives a k of 3: age to intervals of 4, city to one group; or" in why


def test_data_are_judged_as_the_policy_treats_them() -> None:
    (why,) = obstacles(people(), Asked(3, QUASI, STEP))
    assert "1 of 11 rows share age, city, treated as the policy says," in why
    assert obstacles(people(), Asked(1, QUASI, STEP)) == []
    assert obstacles(people(), Asked(3, QUASI, {**STEP, "city": Treatment("Drop")})) != []
    assert obstacles(people(), Asked(3, {"city": "QuasiIdentifier"}, {"city": Treatment("Drop")})) == []


def test_a_pseudonym_singles_out_as_its_value_does() -> None:
    treatments = {"age": Treatment("Pseudonymise"), "city": Treatment("Drop")}
    assert "11 of 1 row" in obstacles(people(), Asked(2, QUASI, treatments))[0]


def test_without_names_or_quasi_identifiers() -> None:
    assert "columns have no names" in obstacles(people(named=False), Asked(3, QUASI))[0]
    assert obstacles(people(), Asked(3, {"age": "Feature"})) == []
    assert obstacles(people(), Asked(None, QUASI)) == []


def test_fewer_rows_than_k_have_no_generalisation() -> None:
    assert "Fix: give at least 12 rows" in obstacles(people(), Asked(12, QUASI))[0]


@pytest.mark.parametrize(
    ("roles", "cells", "why"),
    [
        ({"x": "Identifier"}, ["1", "2", "3"], "column x: declared an identifier, and no policy treats it. Fix: "),
        ({}, ["4532015112830366"] * 3, "column x: of 3 cells card in 3, and no policy treats it. Fix: "),
    ],
)
def test_columns_that_name_people_are_refused_unless_they_are_treated(
    roles: dict[str, str], cells: list[str], why: str
) -> None:
    (told,) = obstacles(data(x=cells), Asked(None, roles, columns=["x", "absent"]))
    assert why in told
    assert obstacles(data(x=cells), Asked(None, roles, {"x": Treatment("Round", digits=-2)}, columns=["x"])) == []
    assert obstacles(data(x=cells), Asked(None, roles, columns=[])) == []


def test_a_hierarchy_that_lacks_a_value_counts_it_as_suppressed() -> None:
    groups = {"Ulm": "DE", "Bonn": "DE"}
    cities = data(city=["Ulm"] * 3 + ["Bonn"] * 3 + ["Paris"])
    treatments = {"city": Treatment("Generalise", groups=groups)}
    (why,) = obstacles(cities, Asked(2, {"city": "QuasiIdentifier"}, treatments, {"city": "Ulm;DE\nBonn;DE\n"}))
    assert "1 of 7 rows" in why
    assert why.endswith("; give the hierarchy of city a line for the values that it lacks, in 1 rows")


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), min_size=1, max_size=60),
    st.integers(2, 6),
)
def test_rows_below_k_are_counted_exactly_and_no_value_is_told(rows: list[tuple[str, str]], k: int) -> None:
    cells = [(f"person-{first}", f"place-{second}") for first, second in rows]
    found = obstacles(data(age=[one for one, _ in cells], city=[one for _, one in cells]), Asked(k, QUASI))
    below = sum(count for count in Counter(cells).values() if count < k)
    assert [f"{below} of {len(rows)} rows" in one for one in found] == ([True] if below else [])
    assert not any(word in one for one in found for word in ("person-", "place-"))
