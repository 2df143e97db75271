"""ARX's hierarchies of the Adult census: each value of the data has a group at every level, and the last is one."""

from __future__ import annotations

import csv

import pytest

from modelward.privacy.coarsen import Step
from modelward.privacy.hierarchy import SUPPRESSED, Hierarchy, read_hierarchy
from tests.conformance.corpora import DATA, files


def column(name: str) -> set[str]:
    with (DATA / "adult" / "adult.csv").open(encoding="utf-8", newline="") as file:
        return {row[name] for row in csv.DictReader(file, delimiter=";")}


@pytest.mark.parametrize("path", files("adult", "adult_hierarchy_*.csv"), ids=lambda path: path.stem[16:])
def test_every_value_has_a_group_at_every_level(path) -> None:
    text = path.read_text(encoding="utf-8")
    values = column(path.stem.removeprefix("adult_hierarchy_"))
    levels = text.splitlines()[0].count(";")
    groups: list[set[str]] = []
    for level in range(1, levels + 1):
        hierarchy = Hierarchy(read_hierarchy(text, level))
        groups.append({hierarchy.text(value) for value in values})
        assert {hierarchy.text(group) for group in groups[-1]} == groups[-1]
    assert groups[-1] == {SUPPRESSED}
    assert all(SUPPRESSED not in found for found in groups[:-1])
    assert [len(found) for found in groups] == sorted((len(found) for found in groups), reverse=True)


def test_steps_give_the_groups_of_the_hierarchy_of_ages() -> None:
    hierarchy = Hierarchy(read_hierarchy((DATA / "adult" / "adult_hierarchy_age.csv").read_text(encoding="utf-8"), 1))
    for age in column("age"):
        assert hierarchy.text(age).partition("-")[0] == str(Step(5).number(int(age) - 1))  # ARX counts from 1
