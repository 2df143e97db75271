"""What a model's sidecars tell of anomalies, brought together: one line for a client and a detector, over all replicas.

Reports are read as hostile: what clients call themselves is shown as printable text of bounded length, and no more
lines are kept than a person would read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from math import ceil, isfinite
from typing import Any

import msgspec

from modelward.api.printable import printable
from modelward.incidents import Drifted, Incident, Quarantined, Rate, Report
from modelward.planner.group_counts import Counted
from modelward.planner.reidentification import Combined, combined
from modelward.reidentification.told import Judged

MAX_TOLD = 20
"""Clients and detectors of a model that have an Event of their own: the ones with most anomalies."""
MAX_LISTED = 32
MAX_SPREAD = 1000
_MAX_SPREAD_BYTES = 512 << 10
_MAX_TEXT = 253
_MAX_COUNT = 10**12
_FIRST_YEAR = 1970  # years of fewer digits would not be read again
_MIN_ROWS = 1000  # fewer tell nothing of a rate


@dataclass(frozen=True)
class Sighting:
    """Anomalies of one client that one detector found, over all replicas. Times are RFC 3339 in UTC."""

    client: str
    issuer: str
    detector: str
    actions: tuple[str, ...]
    networks: tuple[str, ...]
    count: int
    first: str
    last: str
    reference: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What sightings are told apart by."""
        return (self.client, self.issuer, self.detector)

    @property
    def sentence(self) -> str:
        """What is told of it."""
        times = f"{self.count} anomalies" if self.count != 1 else "an anomaly"
        where = f" from {len(self.networks)} networks" if len(self.networks) > 1 else ""
        return (
            f"{self.client} (issuer {self.issuer or 'none'}): {times} found by {self.detector}{where},"
            f" {' and '.join(self.actions)}; the last at {self.last}, request {self.reference}"
        )


@dataclass(frozen=True)
class Seen:
    """What a look at a model's sidecars gave.

    Attributes:
        asked: pods that were asked.
        silent: those that did not tell, a sentence each.
        sightings: the one with most anomalies first.
        quarantined: clients that any replica holds.
        off: detectors whose observed rate is not the one that was asked for.
        drifted: features that are no longer like the baseline.
        dropped: anomalies that sidecars had no room for.
        released: the client whose release was carried out, and when that was asked for; None: nothing was.
        fairness: what was counted of protected groups; None: nothing was told of any.
        combined: how identifying the rows in requests are; None: nothing was told of it.
        kept: counts of groups are for auditors alone: whatever is told of them is left out.
        judged: what sidecars then say of their own rows.
        unasked: ready pods beyond those that were asked: what they counted nobody here knows.
    """

    asked: int = 0
    silent: tuple[str, ...] = ()
    sightings: tuple[Sighting, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    off: tuple[Rate, ...] = ()
    drifted: tuple[Drifted, ...] = ()
    dropped: int = 0
    released: tuple[str, str] | None = field(default=None)
    fairness: Counted | None = None
    combined: Combined | None = None
    kept: bool = False
    judged: tuple[Judged, ...] = ()
    unasked: int = 0

    @property
    def anomalies(self) -> int:
        """All that were counted."""
        return sum(one.count for one in self.sightings)

    def recent(self, now: datetime, seconds: float) -> tuple[Sighting, ...]:
        """Return the sightings whose last anomaly is not older than this."""
        return tuple(one for one in self.sightings if (now - _moment(one.last)).total_seconds() <= seconds)


def gathered(told: Mapping[str, Report | str], *, kept: bool = False) -> Seen:
    """Bring together what the pods told, by their names; a text says why a pod told nothing.

    Args:
        told: by each pod.
        kept: by the policies counts of groups are for auditors alone, though pods that have not heard of it tell them.
    """
    reports = [one for one in told.values() if isinstance(one, Report)]
    kept = kept or any(report.kept for report in reports)
    return Seen(
        asked=len(told),
        silent=tuple(f"{pod}: {why}" for pod, why in sorted(told.items()) if isinstance(why, str)),
        sightings=_sightings(incident for report in reports for incident in report.incidents),
        quarantined=_held(one for report in reports for one in report.quarantined),
        off=_worst_rates(rate for report in reports for rate in report.rates),
        drifted=_worst_drift((one for report in reports for one in report.drift), whole=kept),
        dropped=sum(report.dropped for report in reports),
        combined=None if kept else combined(report.combinations for report in reports),
        kept=kept,
        judged=tuple(report.judged for report in reports if report.judged is not None) if kept else (),
    )


def to_spread(told: Mapping[str, Report | str]) -> dict[str, tuple[Quarantined, ...]]:
    """Return, for each pod that lacks any, the clients that other replicas of the model hold in quarantine."""
    reports = {pod: one for pod, one in told.items() if isinstance(one, Report)}
    everywhere = {
        (one.issuer, one.client): one
        for report in reports.values()
        for one in report.quarantined
        if utc(one.since) and utc(one.until)  # one that is none would have the others refused with it
    }
    lacking = {}
    for pod, report in reports.items():
        has = {(one.issuer, one.client) for one in report.quarantined}
        lacks = _fitting(one for who, one in everywhere.items() if who not in has)
        if lacks:
            lacking[pod] = lacks
    return lacking


def without(told: Mapping[str, Report | str], client: str) -> dict[str, Report | str]:
    """Return what the pods told as if a client that was let go just now were in no quarantine."""
    return {pod: _without(one, client) if isinstance(one, Report) else one for pod, one in told.items()}


def news(seen: Seen, before: Mapping[str, Any]) -> tuple[list[Sighting], list[Quarantined]]:
    """Return the sightings and quarantines that a model's status does not tell of yet.

    Args:
        seen: what was seen now.
        before: `status.monitoring`, which outlives the controller.
    """
    told = {(one["client"], one["issuer"], one["detector"]): one["last"] for one in before.get("incidents", ())}
    held = {(one["client"], one["issuer"], one["until"]) for one in before.get("quarantined", ())}
    return (
        [one for one in seen.sightings[:MAX_TOLD] if told.get(one.key, "") < one.last],
        [one for one in seen.quarantined[:MAX_TOLD] if (one.client, one.issuer, one.until) not in held],
    )


def monitoring_status(seen: Seen) -> dict[str, Any]:
    """Return `status.monitoring`: what outlives Events and the controller."""
    incidents = [
        {
            "client": one.client,
            "issuer": one.issuer,
            "detector": one.detector,
            "action": one.actions[0],
            "count": one.count,
            "first": one.first,
            "last": one.last,
            "reference": one.reference,
        }
        for one in seen.sightings[:MAX_LISTED]
    ]
    held = [
        {"client": one.client, "issuer": one.issuer, "until": one.until, "reason": one.reason}
        for one in seen.quarantined[:MAX_LISTED]
    ]
    out: dict[str, Any] = {"anomalies": min(seen.anomalies, _MAX_COUNT), "incidents": incidents, "quarantined": held}
    if seen.drifted:
        out["drift"] = [
            {"feature": shown(one.feature), "test": shown(one.test), "score": round(min(one.score, _MAX_COUNT), 2)}
            for one in seen.drifted[:MAX_LISTED]
        ]
    if seen.released:
        out["released"] = {"client": seen.released[0], "at": seen.released[1]}
    return out


def shown(text: str) -> str:
    """Return a text of others as it may be shown."""
    return printable(" ".join(text.split()))[:_MAX_TEXT]


def utc(text: str) -> str:
    """Return a time of others in one way of writing, so that times compare as texts; nothing where it is none."""
    try:
        moment = _moment(text).astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last day of the calendar, in another zone
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= _FIRST_YEAR else ""


def _sightings(incidents: Iterable[Incident]) -> tuple[Sighting, ...]:
    found: dict[tuple[str, str, str], list[Sighting]] = {}
    for one in incidents:
        first, last = utc(one.first), utc(one.last)
        if not first or not last:
            continue
        new = Sighting(
            shown(one.client),
            shown(one.issuer),
            shown(one.detector),
            (shown(one.action),),
            (one.network,),
            min(max(one.count, 1), _MAX_COUNT),
            first,
            last,
            shown(one.reference),
        )
        found.setdefault(new.key, []).append(new)
    return tuple(sorted(map(_joined, found.values()), key=lambda one: (-one.count, one.key)))


def _joined(parts: Sequence[Sighting]) -> Sighting:
    """One sighting of all with the same key: at once, for two by two would take the square of what a pod may tell."""
    return replace(
        max(parts, key=lambda each: each.last),
        actions=tuple(sorted({action for each in parts for action in each.actions})),
        networks=tuple(sorted({network for each in parts for network in each.networks})),
        count=min(sum(each.count for each in parts), _MAX_COUNT),
        first=min(each.first for each in parts),
    )


def _fitting(lacks: Iterable[Quarantined]) -> tuple[Quarantined, ...]:
    """Those that go into one request; the rest have their turn at the next look."""
    chosen, size = [], 0
    for one in islice(lacks, MAX_SPREAD):
        size += len(msgspec.json.encode(one))
        if size > _MAX_SPREAD_BYTES:
            break
        chosen.append(one)
    return tuple(chosen)


def _held(quarantined: Iterable[Quarantined]) -> tuple[Quarantined, ...]:
    """One for each client: the one that holds it longest."""
    found: dict[tuple[str, str], Quarantined] = {}
    for one in quarantined:
        since, until = utc(one.since), utc(one.until)
        if since and until:
            new = Quarantined(shown(one.client), shown(one.issuer), since, until, shown(one.reason))
            there = found.get((new.issuer, new.client))
            if there is None or there.until < new.until:
                found[new.issuer, new.client] = new
    return tuple(sorted(found.values(), key=lambda one: (one.client, one.issuer)))


def _worst_rates(rates: Iterable[Rate]) -> tuple[Rate, ...]:
    """Of each detector the rate that is farthest from what was asked, where the interval leaves no doubt."""
    found: dict[str, Rate] = {}
    for one in rates:
        if one.rows >= _MIN_ROWS and not one.low <= one.asked <= one.high:
            there = found.get(shown(one.detector))
            if there is None or abs(there.observed - there.asked) < abs(one.observed - one.asked):
                found[shown(one.detector)] = one
    return tuple(found[name] for name in sorted(found))


def _worst_drift(drift: Iterable[Drifted], *, whole: bool) -> tuple[Drifted, ...]:
    """Of each feature the greatest score, where it is over its threshold; the worst first.

    `whole`: rounded up, as sidecars do that keep counts; an exact one tells the shares of a feature's values.
    """
    found: dict[str, Drifted] = {}
    for each in drift:
        one = msgspec.structs.replace(each, score=float(ceil(each.score))) if whole and isfinite(each.score) else each
        there = found.get(one.feature)
        if one.score > 1.0 and (there is None or there.score < one.score):
            found[one.feature] = one
    return tuple(sorted(found.values(), key=lambda one: (-one.score, one.feature)))


def _without(report: Report, client: str) -> Report:
    kept = tuple(one for one in report.quarantined if one.client != client)
    return msgspec.structs.replace(report, quarantined=kept)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
