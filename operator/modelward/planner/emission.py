"""Which windows of serving are yet to be emitted as lineage events, and what is kept of those that were.

A sidecar keeps its last windows: what was not emitted when a controller ended is read there again by the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from modelward.lineage.subject import FitState
from modelward.planner.consumers import Fresh, Mark, Record

Queued = Mapping[str, int]
"""Up to which window those of a process were taken up by this controller, to be emitted."""
_MAX_COUNT = 10**12


class Outcome(NamedTuple):
    """What became of a window that was to be emitted; `missed` before it could not be taken up in time."""

    process: str
    sequence: int
    sent: bool
    missed: int


def unsent(record: Record, windows: Sequence[Fresh], queued: Queued) -> list[Fresh]:
    """Return the windows that are yet to be taken up, in their order."""
    return [one for one in windows if one.window.sequence > taken(record, one.process, queued)]


def taken(record: Record, process: str, queued: Queued) -> int:
    """Return up to which window those of a process are emitted, or about to be."""
    mark = record.marks.get(process)
    return max(queued.get(process, 0), mark.emitted if mark else 0)


def under_way(before: Record, after: Record, queued: Queued) -> tuple[Record, int]:
    """Keep account of processes that ended: return the record with those whose windows are still being emitted.

    Also, how many windows of theirs were counted and never taken up.
    """
    marks, lost = dict(after.marks), 0
    for process, mark in before.marks.items():
        if process not in after.marks:
            upto = taken(before, process, queued)
            lost += max(mark.counted - upto, 0)
            if upto > mark.emitted:
                marks[process] = Mark(mark.pod, upto, mark.emitted)
    return (msgspec.structs.replace(after, marks=marks) if marks != after.marks else after), lost


def settled(record: Record, outcomes: Sequence[Outcome], lost: int) -> Record:
    """Return the record once it is known what became of some windows; `lost` are those of processes that ended."""
    if not outcomes and not lost:
        return record
    marks = dict(record.marks)
    for one in outcomes:
        mark = marks.get(one.process)
        if mark:
            marks[one.process] = Mark(mark.pod, mark.counted, max(mark.emitted, one.sequence))
    sent = sum(one.sent for one in outcomes)
    return msgspec.structs.replace(
        record,
        marks=marks,
        emitted=min(record.emitted + sent, _MAX_COUNT),
        failed=min(record.failed + len(outcomes) - sent, _MAX_COUNT),
        dropped=min(record.dropped + lost + sum(one.missed for one in outcomes), _MAX_COUNT),
    )


def fit_news(told: str, request: str, state: FitState) -> tuple[str, tuple[tuple[str, FitState], ...]]:
    """Return what is kept of a fit, and what of it is news: the names of runs, and what became of them.

    A fit that is tried again is another run; each has one beginning and one end.

    Args:
        told: what was kept.
        request: digest of what is fitted.
        state: how far it is.
    """
    before, attempt, last = told.split() if told else ("", "0", "")
    if before != request:
        last = ""
    if state == last:
        return told, ()
    steps: tuple[FitState, ...] = (state,)
    if last != "START":
        attempt = str(int(attempt) + 1)
        steps = ("START", state) if state != "START" else ("START",)
    return f"{request} {attempt} {state}", tuple((f"{request}/{attempt}", step) for step in steps)
