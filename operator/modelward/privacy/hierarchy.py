"""Generalisation by a hierarchy: a value becomes the group that it belongs to, as ARX's hierarchies write it."""

from collections.abc import Mapping
from typing import Any

from modelward.privacy.values import TreatmentError

SUPPRESSED = "*"
MAX_HIERARCHY_ROWS = 10_000
MAX_LEVELS = 16


class Hierarchy:
    """Values by the group that they belong to at one level; what no group has becomes `*` (suppression)."""

    def __init__(self, groups: Mapping[str, str]) -> None:
        # A group's own name stays what it is, unless it is also the name of a value of another group.
        self._groups = {group: group for group in groups.values()} | dict(groups)

    def text(self, value: Any) -> str:
        """The group of `value`, `*` where it has none. Raises TreatmentError where it is no text."""
        if not isinstance(value, str):
            raise TreatmentError("needs text")
        return self._groups.get(value.strip(), SUPPRESSED)


class HierarchyError(ValueError):
    """A hierarchy that cannot be used: what is wrong, and where."""


def read_hierarchy(text: str, level: int) -> dict[str, str]:
    """The groups at `level` (1 is the finest) of a hierarchy: a value and its groups a line, separated by `;`.

    Raises:
        HierarchyError: lines of different length, a value twice, or no such level.
    """
    groups: dict[str, str] = {}
    width = 0
    for count, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(";")]
        width = width or len(cells)
        if len(cells) != width or width > MAX_LEVELS + 1:
            raise HierarchyError(
                f"line {count} has {len(cells)} cells, the first has {width} (at most {MAX_LEVELS + 1})"
            )
        if not level < width:
            raise HierarchyError(f"the hierarchy has the levels 1 to {width - 1}, not {level}")
        if groups.setdefault(cells[0], cells[level]) != cells[level]:
            raise HierarchyError(f"line {count} gives a value another group than a line before")
        if len(groups) > MAX_HIERARCHY_ROWS:
            raise HierarchyError(f"the hierarchy has more than {MAX_HIERARCHY_ROWS} values")
    if not groups:
        raise HierarchyError("the hierarchy is empty: write a value and its groups on each line, separated by `;`")
    return groups


def read_levels(text: str) -> tuple[dict[str, str], ...]:
    """The groups at each level, the finest first.

    Raises:
        HierarchyError: as `read_hierarchy`, or it has no level at all.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    return tuple(read_hierarchy(text, level) for level in range(1, max(first.count(";"), 1) + 1))
