"""What access logs tell: incidents as they happened, and who got answers for what.

A log is as long as it is: it is read line by line, and what is kept of it is bounded and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelward.lineage.build import Consumed
from modelward.lineage.graph import Use
from modelward.reporting.document import Incident
from modelward.reporting.sources import moment, said, written

MAX_KEPT = 20_000
_HOUR = 3600

_KINDS = {"anomalous": "AnomalyDetected", "sanitised": "AnomalyDetected", "unscreened": "DetectorFailed"}
_ANSWERS = ("Infer", "Explain")


@dataclass
class LogReader:
    """Gathers what lines tell. `model` is what they are of where the log has no first line of a sidecar's."""

    model: str = "unknown/unknown"
    left_out: int = 0
    _incidents: dict[tuple[str, str, str, str, int], Incident] = field(default_factory=dict)
    _uses: dict[tuple[str, str, str, str], Use] = field(default_factory=dict)

    def watch(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Pass lines on, reading them."""
        for line in lines:
            self._read(line)
            yield line

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What happened, by the hour, in the order of time."""
        return tuple(sorted(self._incidents.values(), key=lambda one: (one.last, one.model, one.kind, one.who)))

    @property
    def consumed(self) -> tuple[Consumed, ...]:
        """Who got answers."""
        return tuple(Consumed(model, who, issuer, use) for (model, who, issuer, _), use in self._uses.items())

    def _read(self, line: bytes) -> None:
        try:
            document = msgspec.json.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return  # the chain's business
        if not isinstance(document, dict):
            return
        start = document.get("start")
        if isinstance(start, dict):
            self.model = said(f"{start.get('namespace') or 'unknown'}/{start.get('model') or 'unknown'}")
        elif isinstance(document.get("request"), str):
            self._take(document)

    def _take(self, record: dict[str, Any]) -> None:
        when = moment(record.get("time"))
        if when is None:
            return
        who, issuer, at = said(record.get("subject", "")), said(record.get("issuer", "")), written(when)
        reason = said(record.get("reason", ""))
        if reason or record.get("verdict") in _KINDS:
            kind = _KINDS.get(record.get("verdict", "")) or _refusal(record.get("status"))
            hour = int(when.timestamp()) // _HOUR
            message = said(record.get("detector", "")) or reason
            key = (self.model, kind, who, message, hour)
            known = self._incidents.get(key)
            if known is None and len(self._incidents) >= MAX_KEPT:
                self.left_out += 1
                return
            self._incidents[key] = Incident(
                kind=kind,
                model=self.model,
                who=who or "unknown",
                message=message,
                first=min(known.first, at) if known else at,
                last=max(known.last, at) if known else at,
                count=known.count + 1 if known else 1,
                source="log",
            )
        if not reason and record.get("operation") in _ANSWERS:
            self._answered(who, issuer, said(record.get("purpose", "")), at)

    def _answered(self, who: str, issuer: str, purpose: str, at: str) -> None:
        key = (self.model, who, issuer, purpose)
        use = self._uses.get(key)
        if use is None and len(self._uses) >= MAX_KEPT:
            self.left_out += 1
            return
        use = use or Use(purpose, at, at)
        self._uses[key] = Use(purpose, min(use.first, at), max(use.last, at), use.requests + 1)


def _refusal(status: Any) -> str:
    if status in (401, 403, 429):
        return "AccessDenied"
    return "RequestFailed" if isinstance(status, int) and status >= 500 else "RequestRefused"
