"""Which windows of serving are yet to be emitted as lineage events, and what is kept of those that were.

A sidecar keeps its last windows: what was not emitted when a controller ended is read there again by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from modelward.planner.consumers import Fresh, Mark, Record

Queued = Mapping[tuple[str, str], int]
"""Up to which window those of a pod's process were taken up by this controller, to be emitted."""
_MAX_COUNT = 10**12


class Outcome(NamedTuple):
    """What became of a window that was to be emitted."""

    pod: str
    process: str
    sequence: int
    sent: bool


def unsent(record: Record, windows: Sequence[Fresh], queued: Queued) -> list[Fresh]:
    """Return the windows that are yet to be taken up, in their order."""
    return [one for one in windows if one.window.sequence > taken(record, one.pod, one.process, queued)]


def taken(record: Record, pod: str, process: str, queued: Queued) -> int:
    """Return up to which window those of a pod's process are emitted, or about to be."""
    mark = record.marks.get(pod)
    emitted = mark.emitted if mark and mark.process == process else 0
    return max(queued.get((pod, process), 0), emitted)


def settled(record: Record, outcomes: Sequence[Outcome], lost: int) -> Record:
    """Return the record once it is known what became of some windows; `lost` could not be taken up in time."""
    if not outcomes and not lost:
        return record
    marks = dict(record.marks)
    for one in outcomes:
        mark = marks.get(one.pod)
        if mark and mark.process == one.process:
            marks[one.pod] = Mark(mark.process, mark.counted, max(mark.emitted, one.sequence))
    sent = sum(one.sent for one in outcomes)
    return msgspec.structs.replace(
        record,
        marks=marks,
        emitted=min(record.emitted + sent, _MAX_COUNT),
        failed=min(record.failed + len(outcomes) - sent, _MAX_COUNT),
        dropped=min(record.dropped + lost, _MAX_COUNT),
    )


def left_behind(before: Record, after: Record, queued: Queued) -> int:
    """Return how many windows were counted and never taken up, of pods (or their processes) that are gone since."""
    return sum(
        max(mark.counted - taken(before, pod, mark.process, queued), 0)
        for pod, mark in before.marks.items()
        if pod not in after.marks or after.marks[pod].process != mark.process
    )
