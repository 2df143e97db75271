"""What the sidecars of a model have counted of its groups together, and how far apart these are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from modelward.fairness.counts import AttributeCounts, FairnessReport, GroupCounts
from modelward.fairness.rates import Off, Spread, exact, spread

FEWEST = 5
"""Rows by which two figures of a group that are told one after the other differ at least, or not at all."""


class Part(NamedTuple):
    """What one process of one pod told last, and when (seconds since the epoch)."""

    pod: str
    last: float
    report: FairnessReport


@dataclass(frozen=True)
class Counted:
    """What the sidecars of a model have counted together, since `since` (RFC 3339).

    `minimum` is the group size from which on rates count. `uncounted`: rows whose group or outcome could not be told.
    `parts` are what it was added up from, while the manifest was of `generation`. `off`: how far counts with noise are
    from what was counted.
    """

    since: str
    attributes: tuple[AttributeCounts, ...]
    minimum: int
    uncounted: int = 0
    parts: tuple[Part, ...] = field(default=(), compare=False)
    generation: int = field(default=0, compare=False)
    off: Off = field(default=exact, compare=False)

    @property
    def rows(self) -> int:
        """Rows that were counted, by any field."""
        return max((sum(group.rows for group in one.groups) for one in self.attributes), default=0)

    @property
    def differences(self) -> Iterator[tuple[str, str, float]]:
        """Each difference that can be told: its field, what the rates are of, and how large it is."""
        for one in apart(self):
            for name, found in one.each:
                yield one.field, name, found.difference


def held(before: Counted | None, now: Counted) -> Counted:
    """Return `now`, but for groups of which it would tell too much: these stay as they were told before.

    Of two rates, of 50 rows and of 51, anybody computes how the one person was answered who came between.
    """
    told = {(one.field, group.name): group for one in (before.attributes if before else ()) for group in one.groups}

    def shown(attribute: str, group: GroupCounts) -> GroupCounts:
        was = told.get((attribute, group.name))
        return was if was is not None and _tells_of_few(was, group, now.minimum) else group

    return replace(
        now,
        attributes=tuple(
            AttributeCounts(one.field, tuple(shown(one.field, group) for group in one.groups)) for one in now.attributes
        ),
    )


def _tells_of_few(was: GroupCounts, group: GroupCounts, minimum: int) -> bool:
    """Whether any rate that was told is of a few rows more now, or less."""
    counts = ((was.rows, group.rows), (was.positives, group.positives), (was.negatives, group.negatives))
    return any(old >= minimum and 0 < abs(new - old) < FEWEST for old, new in counts)


class Apart(NamedTuple):
    """How far apart the groups by one field are: in selection, true and false positives; None: it cannot be told."""

    field: str
    selection: Spread | None
    true_positive: Spread | None
    false_positive: Spread | None

    @property
    def each(self) -> Iterator[tuple[str, Spread]]:
        """Those that can be told, in words."""
        names = ("favourable answers", "true positives", "false positives")
        for name, found in zip(names, (self.selection, self.true_positive, self.false_positive), strict=True):
            if found is not None:
                yield name, found

    @property
    def equalized_odds(self) -> float | None:
        """The larger difference of true and of false positive rates; None where one of them cannot be told."""
        if self.true_positive is None or self.false_positive is None:
            return None
        return max(self.true_positive.difference, self.false_positive.difference)


def apart(seen: Counted) -> list[Apart]:
    """Return how far apart the groups by each field are."""
    labelled = any(group.labelled for one in seen.attributes for group in one.groups)
    compared = len(seen.attributes) * (3 if labelled else 1)
    return [
        Apart(
            one.field,
            spread({group.name: group.selection for group in one.groups}, seen.minimum, compared, seen.off),
            spread({group.name: group.true_positive for group in one.groups}, seen.minimum, compared, seen.off),
            spread({group.name: group.false_positive for group in one.groups}, seen.minimum, compared, seen.off),
        )
        for one in seen.attributes
    ]
