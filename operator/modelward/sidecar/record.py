"""The access log: one JSON line for each request: who, when, from where, why, what was asked, and what came of it.

Field names are logged, and only declared ones; values never. Nothing a caller sends is logged verbatim but what a
verified token says of them and the stated purpose, both as JSON strings, so a line cannot be forged.

Off the request's path: the event loop encodes a line and appends it to a bounded list, a thread writes. (It writes and
does nothing else: a thread that computes would fight the event loop for the interpreter.) A full list drops and counts:
`sent + dropped + failed == requests`.
"""

import os
import queue
import threading
from datetime import UTC, datetime

import msgspec

from modelward.sidecar.exchange import Exchange
from modelward.sidecar.metrics import Counter

SINK = "access-log"
MAX_PENDING = 20_000
_CLOSE_SECONDS = 5.0


class _Line(msgspec.Struct, omit_defaults=True):
    time: str
    request: str
    subject: str = ""
    issuer: str = ""
    address: str = ""
    purpose: str = ""
    method: str = ""
    operation: str = ""
    model: str = ""
    fields: tuple[str, ...] = ()
    rows: int = 0
    verdict: str = ""
    reason: str = ""
    status: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_us: int = 0
    overhead_us: int = 0


class AccessLog:
    """Writes to the file descriptor `target`; `count` is `modelward_telemetry_total{sink,outcome}`.

    `flush` is to be called on the event loop, some ten times a second; `close` at the end.
    """

    def __init__(self, target: int, count: Counter, max_pending: int = MAX_PENDING) -> None:
        self._target = target
        self._count = count
        self._max_pending = max_pending
        self._lines: list[bytes] = []
        self._handed = 0  # lines with the thread
        self._clock = _Clock()
        self._batches: queue.SimpleQueue[list[bytes] | None] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="access-log", daemon=True)
        self._thread.start()

    def append(self, exchange: Exchange, now: float, upstream_us: int, overhead_us: int) -> None:
        """Record a finished exchange at `now`, seconds since the epoch."""
        if len(self._lines) + self._handed >= self._max_pending:
            self._count.add(SINK, "dropped")
            return
        caller = exchange.caller
        line = _Line(
            self._clock.text(now),
            exchange.id,
            caller.name if caller else "",
            caller.issuer if caller else "",
            exchange.address,
            exchange.purpose or "",
            exchange.method.decode("latin-1"),
            exchange.operation,
            exchange.model or "",
            exchange.fields,
            exchange.rows,
            exchange.verdict,
            exchange.reason,
            exchange.status,
            exchange.received,
            exchange.sent,
            upstream_us,
            overhead_us,
        )
        self._lines.append(_ENCODER.encode(line))

    def flush(self) -> None:
        """Hand what has gathered to the thread, and count what it has done."""
        while not self._written.empty():
            lines, written = self._written.get()
            self._handed -= lines
            self._count.add(SINK, "sent" if written else "failed", amount=lines)
        if self._lines:
            self._handed += len(self._lines)
            self._batches.put(self._lines)
            self._lines = []

    def close(self) -> None:
        """Write what is left, waiting a little for a slow reader; what is still unwritten then has failed."""
        self.flush()
        self._batches.put(None)
        self._thread.join(_CLOSE_SECONDS)
        self.flush()
        self._count.add(SINK, "failed", amount=self._handed)
        self._handed = 0

    def _write_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            batch.append(b"")  # so that the last line ends as well
            self._written.put((len(batch) - 1, self._write(b"\n".join(batch))))

    def _write(self, content: bytes) -> bool:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._target, view) :]
        except OSError:
            return False
        return True


class _Clock:
    """Writes times as RFC 3339 in milliseconds; the part down to the second is kept for as long as it lasts."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._text}.{int((now - second) * 1000):03}Z"


_ENCODER = msgspec.json.Encoder()
