"""Incidents by the access log, as they happened: read line by line, and what is kept of them bounded and counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from modelward.logchain import watched
from modelward.reporting.document import Incident
from modelward.reporting.sources import moment, said, written

MAX_KEPT = 20_000
_HOUR = 3600

_KINDS = {"anomalous": "AnomalyDetected", "sanitised": "AnomalyDetected", "unscreened": "DetectorFailed"}


@dataclass
class Happened:
    """Reads a log. `model` is whose lines they are where the log does not begin with a sidecar's first line."""

    model: str = "unknown/unknown"
    left_out: int = 0
    _incidents: dict[tuple[str, str, str, str, int], Incident] = field(default_factory=dict)

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Pass lines on, reading them."""
        return watched(lines, self._read)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What happened, by the hour, in the order of time."""
        return tuple(sorted(self._incidents.values(), key=lambda one: (one.last, one.model, one.kind, one.who)))

    def _read(self, document: dict[str, Any]) -> None:
        start = document.get("start")
        if isinstance(start, dict):
            self.model = said(f"{start.get('namespace') or 'unknown'}/{start.get('model') or 'unknown'}")
        elif isinstance(document.get("request"), str):
            self._take(document)

    def _take(self, record: dict[str, Any]) -> None:
        when = moment(record.get("time"))
        if when is None:
            return
        verdict, reason = said(record.get("verdict", "")), said(record.get("reason", ""))
        if not reason and verdict not in _KINDS:
            return
        kind = _KINDS.get(verdict) or _refusal(record.get("status"))
        who, at = said(record.get("subject", "")) or "unknown", written(when)
        message = said(record.get("detector", "")) or reason
        key = (self.model, kind, who, message, int(when.timestamp()) // _HOUR)
        known = self._incidents.get(key)
        if known is None and len(self._incidents) >= MAX_KEPT:
            self.left_out += 1
            return
        self._incidents[key] = Incident(
            kind=kind,
            model=self.model,
            who=who,
            message=message,
            first=min(known.first, at) if known else at,
            last=max(known.last, at) if known else at,
            count=known.count + 1 if known else 1,
            source="log",
        )


def _refusal(status: Any) -> str:
    if status in (401, 403, 429):
        return "AccessDenied"
    return "RequestFailed" if isinstance(status, int) and status >= 500 else "RequestRefused"
