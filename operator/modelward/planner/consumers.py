"""Who got a model's answers: what its sidecars tell, brought together and kept in a ConfigMap of the model's.

Reports are read as hostile, as in `planner.sightings`. Windows are counted once: for each sidecar it is kept up to
which number that was done, and a number that was passed over is a window that nobody here has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from modelward.incidents import Report
from modelward.planner.names import KubeObject, controls, ours, owned
from modelward.planner.sightings import shown, utc
from modelward.windows import MAX_KEPT, Consumer, Served, Window

MAX_CONSUMERS = 1000
MAX_LISTED = 64
RECORD_KEY = "lineage.json"
_MAX_BYTES = 512 << 10  # a ConfigMap holds twice that
_MAX_COUNT = 10**12


class Consumed(msgspec.Struct, frozen=True, rename="camel"):
    """Who got answers, for a purpose, in how many requests; the first and the last time, RFC 3339 in UTC."""

    client: str
    issuer: str
    purpose: str
    first: str
    last: str
    requests: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What consumers are told apart by."""
        return (self.client, self.issuer, self.purpose)


class Mark(msgspec.Struct, frozen=True, rename="camel"):
    """Up to which window those of a sidecar's process were counted, and up to which the receiver of events was told."""

    pod: str
    counted: int = 0
    emitted: int = 0


class Record(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is kept of a model's serving. One by a later version is read as well, as far as this one knows it.

    Attributes:
        consumers: the most recent ones first.
        forgotten: consumers that made room for more recent ones.
        others: answered requests of consumers that a sidecar had no room for.
        marks: by the process of a sidecar.
        last: when the last window ended.
        emitted: windows of which the receiver of lineage events has been told.
        failed: windows that it refused.
        dropped: windows that were lost before they could be counted or emitted.
        deployed: digest of the deployment that the receiver was told of last.
        fit: the fit that it was told of last: digest of its request, number of the attempt, state.
    """

    consumers: tuple[Consumed, ...] = ()
    forgotten: int = 0
    others: int = 0
    marks: dict[str, Mark] = {}
    last: str = ""
    emitted: int = 0
    failed: int = 0
    dropped: int = 0
    deployed: str = ""
    fit: str = ""


class Fresh(NamedTuple):
    """A window that was not seen before, of one process of one pod's sidecar."""

    pod: str
    process: str
    window: Window


def windows_of(told: Mapping[str, Report | str], known: Mapping[str, int]) -> list[Fresh]:
    """Return the windows that the pods told, by their names: pod by pod, in their order, as they may be shown.

    Args:
        told: what the pods told, by their names.
        known: up to which window those of a process need not be looked at again.
    """
    return [
        Fresh(pod, report.served.process, window)
        for pod, report in sorted(told.items())
        if not isinstance(report, str) and report.served.process
        for window in _sound(report.served, known.get(report.served.process, 0))
    ]


def gathered(record: Record, told: Mapping[str, Report | str], windows: list[Fresh], *, emits: bool = False) -> Record:
    """Bring together what is kept and what the pods told.

    A process that ended is forgotten; one whose pod only kept silent is not.

    Args:
        record: what is kept.
        told: what the pods told, by their names.
        windows: those of them that were not counted yet, and maybe others, from `windows_of`.
        emits: whether windows are emitted as well; which of them are lost is then for who emits to say.
    """
    marks = {
        process: mark for process, mark in record.marks.items() if mark.pod in told and _may_be(process, told[mark.pod])
    }
    fresh: list[Fresh] = []
    missed = 0
    for one in windows:
        mark = marks.get(one.process, Mark(one.pod))
        number = one.window.sequence
        if number > mark.counted:
            missed += number - mark.counted - 1
            fresh.append(one)
            marks[one.process] = Mark(mark.pod, number, mark.emitted)
    if not emits:
        marks = {process: Mark(mark.pod, mark.counted, mark.counted) for process, mark in marks.items()}
        record = msgspec.structs.replace(record, dropped=_bounded(record.dropped + missed))
    if marks == record.marks and not fresh:
        return record
    consumers, forgotten = _most_recent(_consumed(record, fresh))
    return msgspec.structs.replace(
        record,
        consumers=consumers,
        forgotten=_bounded(record.forgotten + forgotten),
        others=_bounded(record.others + sum(one.window.others for one in fresh)),
        marks=marks,
        last=max((record.last, *(one.window.end for one in fresh))),
    )


def lineage_status(record: Record) -> dict[str, Any]:
    """Return `status.lineage`, as far as it tells of serving."""
    windows = {"emitted": record.emitted, "failed": record.failed, "dropped": record.dropped}
    return {
        "consumers": [msgspec.to_builtins(one) for one in record.consumers[:MAX_LISTED]],
        "windows": {**({"last": record.last} if record.last else {}), **windows},
    }


def record_name(model: str) -> str:
    """Return the name of the ConfigMap with what is kept of a model's serving."""
    return f"{model}.lineage"


def record_map(raw: KubeObject, record: Record) -> KubeObject:
    """Return that ConfigMap, for a ModelDeployment as the API server has it."""
    text = msgspec.json.encode(record, order="deterministic").decode()
    namespace, model, uid = (raw["metadata"][key] for key in ("namespace", "name", "uid"))
    place = owned(namespace, model, uid, record_name(model))
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place, "data": {RECORD_KEY: text}}


def own_record(raw: KubeObject, item: KubeObject | None) -> Record:
    """Return what the controller keeps of a model; nothing where the ConfigMap is not its own.

    Anybody may make one of that name, and may name the model as its owner. None but the controller may give it the
    labels (`planner.managed_policy`).
    """
    own = item is not None and controls(raw["metadata"]["uid"], item) and ours(item, record_map(raw, Record()))
    return read_record(item) if own else Record()


def read_record(item: KubeObject | None) -> Record:
    """Return what a ConfigMap keeps; nothing where there is none, or what is there is not of this version."""
    try:
        return msgspec.json.decode(((item or {}).get("data") or {})[RECORD_KEY], type=Record)
    except (KeyError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return Record()


def _may_be(process: str, told: Report | str) -> bool:
    """Whether the sidecar that told this, or nothing, may still be that process."""
    return isinstance(told, str) or told.served.process == process


def _sound(served: Served, known: int) -> list[Window]:
    """The windows after one, as they may be shown.

    Left out, and by that missed, are those whose times are none, and the oldest past what a sidecar keeps.
    """
    found: list[Window] = []
    kept = 0
    for window in sorted(served.windows, key=lambda one: one.sequence, reverse=True):
        kept += len(window.consumers)
        if window.sequence <= known or kept > MAX_KEPT:
            break
        start, end = utc(window.start), utc(window.end)
        if start and end:
            consumers = tuple(one for one in map(_shown, window.consumers) if one.client and one.first and one.last)
            found.append(msgspec.structs.replace(window, start=start, end=end, consumers=consumers))
    return found[::-1]


def _shown(one: Consumer) -> Consumer:
    client, issuer, purpose = shown(one.client), shown(one.issuer), shown(one.purpose)
    return Consumer(client, issuer, purpose, one.requests, one.rows, utc(one.first), utc(one.last))


def _consumed(record: Record, fresh: list[Fresh]) -> list[Consumed]:
    found = {one.key: one for one in record.consumers}
    for one in (consumer for each in fresh for consumer in each.window.consumers):
        there = found.get((one.client, one.issuer, one.purpose))
        found[one.client, one.issuer, one.purpose] = Consumed(
            one.client,
            one.issuer,
            one.purpose,
            min(there.first, one.first) if there else one.first,
            max(there.last, one.last) if there else one.last,
            _bounded((there.requests if there else 0) + one.requests),
        )
    return sorted(found.values(), key=lambda one: (one.last, one.key), reverse=True)


def _most_recent(consumers: list[Consumed]) -> tuple[tuple[Consumed, ...], int]:
    """Those that there is room for, and how many are not among them."""
    kept, size = [], 0
    for one in consumers[:MAX_CONSUMERS]:
        size += len(msgspec.json.encode(one))
        if size > _MAX_BYTES:
            break
        kept.append(one)
    return tuple(kept), len(consumers) - len(kept)


def _bounded(count: int) -> int:
    return min(count, _MAX_COUNT)
