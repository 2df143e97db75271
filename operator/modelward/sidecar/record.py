"""The access log: one JSON line for each request: who, when, from where, why, what was asked, and what came of it.

Field names are logged, and only declared ones; values never. Nothing a caller sends is logged verbatim but what a
verified token says of them and the stated purpose, both as JSON strings, so a line cannot be forged.

Off the request's path: the event loop appends to a bounded list, a thread encodes and writes. A full list drops and
counts: `sent + dropped + failed == requests`.
"""

import os
import queue
import threading
from datetime import UTC, datetime
from typing import Any

import msgspec

from modelward.sidecar.exchange import Exchange
from modelward.sidecar.metrics import Counter

SINK = "access-log"
MAX_PENDING = 20_000
_CLOSE_SECONDS = 5.0

_Line = tuple[Any, ...]
_FIELDS = ("time", "request", "subject", "issuer", "address", "purpose", "method", "operation", "model", "fields",
           "rows", "verdict", "reason", "status", "bytes_in", "bytes_out", "upstream_us", "overhead_us")  # fmt: skip


class AccessLog:
    """Writes to the file descriptor `target`; `count` is `modelward_telemetry_total{sink,outcome}`.

    `flush` is to be called on the event loop, some ten times a second; `close` at the end.
    """

    def __init__(self, target: int, count: Counter, max_pending: int = MAX_PENDING) -> None:
        self._target = target
        self._count = count
        self._max_pending = max_pending
        self._lines: list[_Line] = []
        self._handed = 0  # lines with the thread
        self._batches: queue.SimpleQueue[list[_Line] | None] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_batches, name="access-log", daemon=True)
        self._thread.start()

    def append(self, exchange: Exchange, now: float, upstream_us: int, overhead_us: int) -> None:
        """Record a finished exchange at `now`, seconds since the epoch."""
        if len(self._lines) + self._handed >= self._max_pending:
            self._count.add(SINK, "dropped")
            return
        caller = exchange.caller
        self._lines.append(
            (
                now,
                exchange.id,
                caller and caller.name,
                caller and caller.issuer,
                exchange.address,
                exchange.purpose,
                exchange.method,
                exchange.operation,
                exchange.model,
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
        )

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
            self._written.put((len(batch), self._write(b"".join(map(_encode, batch)))))

    def _write(self, content: bytes) -> bool:
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._target, view) :]
        except OSError:
            return False
        return True


def _encode(line: _Line) -> bytes:
    record = dict(zip(_FIELDS, line, strict=True))
    record["time"] = datetime.fromtimestamp(line[0], UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record["method"] = record["method"].decode("latin-1")
    return _ENCODER.encode({name: value for name, value in record.items() if value not in (None, "", ())}) + b"\n"


_ENCODER = msgspec.json.Encoder()
