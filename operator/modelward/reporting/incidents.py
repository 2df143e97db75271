"""Incidents of all models over time: by their status and the cluster's Events, or by access logs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from modelward.reporting.document import Incident, Span, Timeline
from modelward.reporting.sources import Object, moment, said, written

_OURS = ("modelward", "modelward-controller", "modelward-admission")
_BAD_NEWS = "Warning"
_SPANS = (3600, 6 * 3600, 86_400, 7 * 86_400, 28 * 86_400)
MAX_BARS = 36
_MAX_COUNT = 10**12


def incidents(models: Iterable[Object], events: Iterable[Object], logged: Iterable[Incident]) -> tuple[Incident, ...]:
    """Return everything that happened, the last first.

    What the status tells of anomalies is not told again by Events or where logs tell it of the same model.
    """
    by_log = list(logged)
    in_logs = {one.model for one in by_log}
    by_status = [one for one in chain.from_iterable(map(_of_status, models)) if one.model not in in_logs]
    told = {one.model for one in (*by_log, *by_status)}
    by_events = [
        one
        for one in map(_of_event, events)
        if one is not None and not (one.kind == "AnomalyDetected" and one.model in told)
    ]
    found = [one for one in (*by_log, *by_status, *by_events) if moment(one.last)]
    return tuple(sorted(found, key=lambda one: (one.last, one.model, one.kind, one.who), reverse=True))


def timeline(found: Sequence[Incident], now: datetime) -> Timeline:
    """Count incidents in at most MAX_BARS spans of equal length up to now, by kind, each at its last time."""
    times = [(one, when) for one in found if (when := moment(one.last)) and when <= now + timedelta(days=1)]
    if not times:
        return Timeline()
    oldest = min(when for _, when in times)
    seconds = next(
        (span for span in _SPANS if (now - oldest).total_seconds() / span < MAX_BARS - 1),
        _SPANS[-1],
    )
    last = int(max(now, *(when for _, when in times)).timestamp()) // seconds
    first = max(int(oldest.timestamp()) // seconds, last - MAX_BARS + 1)
    counts: dict[str, list[int]] = {}
    for one, when in times:
        bar = max(int(when.timestamp()) // seconds - first, 0)
        counts.setdefault(one.kind, [0] * (last - first + 1))[bar] += one.count
    return Timeline(
        begins=written(datetime.fromtimestamp(first * seconds, UTC)),
        seconds=seconds,
        kinds=tuple(Span(kind=kind, counts=tuple(counts[kind])) for kind in sorted(counts)),
        exact=all(one.source == "log" for one, _ in times),
    )


def _of_status(model: Object) -> Iterable[Incident]:
    metadata = model["metadata"]
    for one in ((model.get("status") or {}).get("monitoring") or {}).get("incidents") or ():
        yield Incident(
            kind="AnomalyDetected",
            model=f"{metadata.get('namespace') or 'default'}/{metadata['name']}",
            who=said(one.get("client", "")),
            message=said(f"{one.get('detector', '')}: {one.get('action', '')}"),
            first=said(one.get("first", "")),
            last=said(one.get("last", "")),
            count=_count(one.get("count")),
            source="status",
        )


def _of_event(event: Object) -> Incident | None:
    """A warning of modelward's; None for any other Event."""
    source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
    if event.get("type") != _BAD_NEWS or not (source in _OURS or source.startswith("modelward.io/")):
        return None
    about = event.get("involvedObject") or {}
    place = about.get("namespace") or (event.get("metadata") or {}).get("namespace") or "default"
    name = f"{place}/{about.get('name', '')}"
    last = event.get("lastTimestamp") or event.get("eventTime") or ""
    return Incident(
        kind=said(event.get("reason", "")),
        model=said(name if about.get("kind") == "ModelDeployment" else f"{about.get('kind', '')} {name}"),
        who="",
        message=said(event.get("message", "")),
        first=said(event.get("firstTimestamp") or last),
        last=said(last),
        count=_count(event.get("count")),
        source="event",
    )


def _count(value: object) -> int:
    return min(max(value, 1), _MAX_COUNT) if isinstance(value, int) else 1
