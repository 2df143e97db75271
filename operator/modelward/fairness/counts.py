"""What is counted of each group, and how it is told: a section of `modelward.incidents.Report`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from modelward.fairness.labels import MAX_KEPT, Told
from modelward.fairness.rates import Share

MAX_ATTRIBUTES = 16
MAX_GROUPS = 65  # those named, and `other`

Count = Annotated[int, Meta(ge=0, le=1 << 53)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]

CELLS = ("rows", "selected", "positives", "true_positives", "negatives", "false_positives")
"""What is counted of a group, in the order of every vector of counts."""


class GroupCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of one group: answered, and of them `selected` (answered favourably).

    Of rows whose truth was told later: `positives` should have been selected and `true_positives` of them were;
    `negatives` should not have been, and `false_positives` of them were.
    """

    name: Name
    rows: Count = 0
    selected: Count = 0
    positives: Count = 0
    true_positives: Count = 0
    negatives: Count = 0
    false_positives: Count = 0

    @property
    def selection(self) -> Share:
        """Its selection rate."""
        return Share(self.selected, self.rows)

    @property
    def true_positive(self) -> Share:
        """Its true positive rate."""
        return Share(self.true_positives, self.positives)

    @property
    def false_positive(self) -> Share:
        """Its false positive rate."""
        return Share(self.false_positives, self.negatives)

    @property
    def labelled(self) -> int:
        """Rows whose truth is known."""
        return self.positives + self.negatives

    @property
    def sound(self) -> bool:
        """Whether these can be counts: no part is more than its whole."""
        parts = (self.selection, self.true_positive, self.false_positive)
        return all(share.hits <= share.rows for share in parts)

    @property
    def vector(self) -> tuple[int, ...]:
        """The counts in the order of `CELLS`."""
        return tuple(getattr(self, cell) for cell in CELLS)


class AttributeCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The groups by one protected field."""

    field: Name
    groups: Annotated[tuple[GroupCounts, ...], Meta(max_length=MAX_GROUPS)]


class FairnessReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one sidecar has counted since `since` (RFC 3339), at most the last 30 days of it.

    `uncounted`: rows whose group or outcome could not be told. `run` is what the ids of its requests begin with, and
    `elsewhere` are labels of answers that others gave.
    """

    since: Annotated[str, Meta(max_length=64)]
    attributes: Annotated[tuple[AttributeCounts, ...], Meta(max_length=MAX_ATTRIBUTES)]
    uncounted: Count = 0
    run: Annotated[str, Meta(max_length=40)] = ""
    elsewhere: Annotated[tuple[Told, ...], Meta(max_length=MAX_KEPT)] = ()


def from_vector(field: str, groups: Sequence[str], counts: Sequence[int]) -> AttributeCounts:
    """The counts of one attribute out of a vector: for each group in order, its cells in the order of `CELLS`."""
    width = len(CELLS)
    starts = range(0, len(groups) * width, width)
    told = (GroupCounts(name, *counts[at : at + width]) for name, at in zip(groups, starts, strict=True))
    return AttributeCounts(field, tuple(told))


def added(several: Iterable[AttributeCounts], field: str, groups: Sequence[str]) -> AttributeCounts:
    """The sum of several counts of `field`, of its `groups` alone: whatever else somebody makes up is left out."""
    sums = {name: [0] * len(CELLS) for name in groups}
    for one in several:
        for group in one.groups if one.field == field else ():
            if group.name in sums and group.sound:
                sums[group.name] = [a + b for a, b in zip(sums[group.name], group.vector, strict=True)]
    return AttributeCounts(field, tuple(GroupCounts(name, *sums[name]) for name in groups))
