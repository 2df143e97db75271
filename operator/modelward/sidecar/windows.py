"""Serving windows: counts of who got answers, kept for the controller. Memory is bounded.

Records are counted in batches, where the access log encodes them: a look into a table each, off the requests' path.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from math import ceil

from modelward.securitytest import SUBJECT
from modelward.sidecar.record import Record
from modelward.windows import ASKING, MAX_CONSUMERS, MAX_KEPT, MAX_WINDOWS, SECONDS, Consumer, Served, Window, answered

_MINUTE = 16  # so many characters of a record's time
_GRACE_SECONDS = 1.0  # records of the window's last moment may not have been counted yet
_MAX_NAME = 512


class _Row:
    __slots__ = ("first", "last", "requests", "rows")

    def __init__(self, first: str) -> None:
        self.requests = 0
        self.rows = 0
        self.first = first
        self.last = first


class _Open:
    """The window that records are counted in."""

    __slots__ = ("answered", "consumers", "minute", "others", "requests", "rows")

    def __init__(self, minute: str) -> None:
        self.minute = minute
        self.requests = 0
        self.answered = 0
        self.rows = 0
        self.others = 0
        self.consumers: dict[tuple[str, str, str], _Row] = {}

    @property
    def start(self) -> datetime:
        return datetime.fromisoformat(self.minute).replace(tzinfo=UTC)

    def closed(self, sequence: int, now: float) -> Window:
        """What was counted; its end is now where that comes before the minute's, for nothing ends in the future."""
        end = min(self.start + timedelta(seconds=SECONDS), max(self.start, datetime.fromtimestamp(ceil(now), UTC)))
        told = tuple(
            Consumer(
                client[:_MAX_NAME], issuer[:_MAX_NAME], purpose[:_MAX_NAME], row.requests, row.rows, row.first, row.last
            )
            for (client, issuer, purpose), row in self.consumers.items()
        )
        return Window(
            sequence,
            f"{self.minute}:00Z",
            f"{end:%Y-%m-%dT%H:%M:%SZ}",
            self.requests,
            self.answered,
            self.rows,
            told,
            self.others,
        )


class Windows:
    """The last windows, and the one that is open. Windows in which nobody asked are not kept."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._process = os.urandom(16).hex()
        self._open: _Open | None = None
        self._closed: deque[Window] = deque()
        self._kept = 0  # consumers in them
        self._sequence = 0
        self._told = 0  # up to which window, whether that arrived or not

    def count(self, records: Iterable[Record]) -> None:
        """Count finished requests, in the order in which they finished."""
        window = self._open
        for record in records:
            if record.operation not in ASKING or record.subject.startswith(SUBJECT):  # a test consumes nothing
                continue
            minute = record.time[:_MINUTE]
            if window is None or window.minute != minute:
                self._close()
                window = self._open = _Open(minute)
            window.requests += 1
            if not answered(record.status, record.bytes_out, refused=bool(record.reason)):
                continue
            window.answered += 1
            window.rows += record.rows
            who = (record.subject, record.issuer, record.purpose)
            row = window.consumers.get(who)
            if row is None:
                if len(window.consumers) == MAX_CONSUMERS:
                    window.others += 1
                    continue
                row = window.consumers[who] = _Row(record.time)
            row.requests += 1
            row.rows += record.rows
            row.last = record.time

    def told(self) -> Served:
        """The windows that are over, as the controller gets them."""
        window = self._open
        if window is not None and self._clock() >= window.start.timestamp() + SECONDS + _GRACE_SECONDS:
            self._close()
        self._told = self._sequence
        return Served(self._process, tuple(self._closed))

    def finish(self) -> int:
        """End the open window now, whatever is left of its minute; how many answered requests nobody was told of."""
        self._close()
        return sum(one.answered for one in self._closed if one.sequence > self._told)

    def _close(self) -> None:
        if self._open is None:
            return
        self._sequence += 1
        window = self._open.closed(self._sequence, self._clock())
        self._open = None
        self._closed.append(window)
        self._kept += len(window.consumers)
        while len(self._closed) > MAX_WINDOWS or self._kept > MAX_KEPT:
            self._kept -= len(self._closed.popleft().consumers)
