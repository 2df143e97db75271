from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.fairness.groups import OTHER, coder, favourable, group_names

edges = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8, unique=True).map(sorted)


@pytest.mark.parametrize(
    ("groups", "edges", "names"),
    [
        (["f", "m"], [], ("f", "m", OTHER)),
        (["other", "m"], [], ("other", "m")),
        (["young", "old"], [40], ("young", "old")),
        ([], [40], ("below 40", "40 and more")),
        ([], [18, 40.5, 65], ("below 18", "18 to 40.5", "40.5 to 65", "65 and more")),
    ],
)
def test_groups_have_names(groups: list[str], edges: list[float], names: tuple[str, ...]) -> None:
    assert group_names(groups, edges) == names


@given(edges, st.floats(allow_nan=False))
def test_a_number_is_in_the_interval_that_begins_at_or_below_it(edges: list[float], value: float) -> None:
    code = coder([], edges)(value)
    assert code == bisect_right(edges, value)
    assert code == 0 or edges[code - 1] <= value
    assert code == len(edges) or value < edges[code]
    assert code < len(group_names([], edges))


@given(
    st.lists(st.text(min_size=1), max_size=64, unique=True),
    st.one_of(st.text(), st.integers(), st.floats(), st.booleans()),
)
def test_every_value_has_a_group(groups: list[str], value: object) -> None:
    names = group_names(groups, [])
    position = coder(groups, [])(value)
    assert 0 <= position < len(names)
    if isinstance(value, str) and value in groups:
        assert names[position] == value


@pytest.mark.parametrize(
    ("groups", "value", "name"),
    [
        (["1", "2"], 1, "1"),
        (["1", "2"], 2.0, "2"),
        (["1.0", "2"], 1, "1.0"),
        (["1", "2"], "2", "2"),
        (["1", "2"], 3, OTHER),
        (["1", "2"], True, OTHER),
        (["true", "false"], False, "false"),
        (["1e400", "nan"], float("inf"), OTHER),
        (["female"], "Female", OTHER),
    ],
)
def test_values_are_found_as_they_are_written(groups: list[str], value: object, name: str) -> None:
    assert group_names(groups, [])[coder(groups, [])(value)] == name


@pytest.mark.parametrize(
    ("equals", "value", "fits"),
    [
        ("1", 1, True),
        ("1", 1.0, True),
        ("1", "1", True),
        ("1", True, True),
        ("1", 0, False),
        ("1", False, False),
        ("0", False, True),
        ("true", True, True),
        ("True", True, True),
        ("granted", "granted", True),
        ("granted", True, False),
        ("granted", 1, False),
        ("-1.5", -1.5, True),
        ("nan", float("nan"), False),
    ],
)
def test_favourable_labels(equals: str, value: object, fits: bool) -> None:
    assert favourable(equals, None)(value) is fits


def test_favourable_scores() -> None:
    fits = favourable(None, 0.5)
    assert [fits(value) for value in (0.5, 0.49, 1, 0, True, False)] == [True, False, True, False, True, False]
    assert (fits(10**400), fits(-(10**400))) == (True, False), "too large for a float, as JSON lets callers write it"
    for none in ("0.9", None):
        with pytest.raises(TypeError):
            fits(none)
