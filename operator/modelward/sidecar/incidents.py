"""Anomalies, gathered for the controller: one row for each client, network, detector and action. Memory is bounded."""

import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from modelward.incidents import MAX_INCIDENTS, Incident

_KEPT_SECONDS = 86_400.0
_REFERENCE = 64


class Key(NamedTuple):
    """What anomalies are counted by. `client` is the caller's name, `issuer` who vouches for it."""

    client: str
    issuer: str
    network: str
    detector: str
    action: str


class _Row:
    __slots__ = ("count", "first", "last", "reference")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.first = now
        self.last = now
        self.reference = ""


class Incidents:
    """The table. Rows that nothing was added to for a day are forgotten; a full table drops the one longest unchanged.

    `dropped` counts the anomalies of rows that were dropped because the table was full.
    """

    def __init__(self, clock: Callable[[], float] = time.time, max_rows: int = MAX_INCIDENTS) -> None:
        self._clock = clock
        self._max_rows = max_rows
        self._rows: OrderedDict[Key, _Row] = OrderedDict()
        self.since = clock()
        self.dropped = 0

    def add(self, key: Key, reference: str) -> None:
        """Count an anomaly; `reference` is the request's id."""
        now = self._clock()
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = _Row(now)
            if len(self._rows) > self._max_rows:
                _, oldest = self._rows.popitem(last=False)
                self.dropped += oldest.count
        else:
            self._rows.move_to_end(key)
        row.count += 1
        row.last = now
        row.reference = reference[:_REFERENCE]

    def told(self) -> tuple[Incident, ...]:
        """The rows, as the controller gets them; the one changed last comes first."""
        past = self._clock() - _KEPT_SECONDS
        while self._rows and next(iter(self._rows.values())).last < past:
            self._rows.popitem(last=False)
        return tuple(
            Incident(*key, row.count, rfc3339(row.first), rfc3339(row.last), row.reference)
            for key, row in reversed(self._rows.items())
        )


def rfc3339(seconds: float) -> str:
    """A time as it is told, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
