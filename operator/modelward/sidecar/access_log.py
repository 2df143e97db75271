"""The access log: records as JSON lines, in a chain (`modelward.logchain`) by which one that is changed or gone shows.

Off the request's path: the event loop appends to a bounded list, and encodes what is there ten times a second; a thread
links and writes. (It does little else: a thread that computes fights the event loop for the interpreter.) A full list
drops and counts: `sent + dropped + failed == requests`. What was dropped or failed is told in the log itself, as a gap.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import msgspec

from modelward.logchain import FORMAT, Linker
from modelward.sidecar.metrics import Counter
from modelward.sidecar.record import Record

SINK = "access-log"
MAX_PENDING = 20_000
_BATCH = 512  # records that wait to be encoded at the most: they take twice the memory of their lines
_CLOSE_SECONDS = 5.0
_ENCODER = msgspec.json.Encoder()


class Target(Protocol):
    """Where the log goes. Used by the thread that writes, but for `enforce` and `close`."""

    def put(self, lines: list[bytes]) -> bool:
        """Write lines; whether all of them were."""

    def enforce(self) -> None:
        """Cut off what takes too long; called some ten times a second."""

    def close(self) -> None:
        """Wait for nothing any more."""

    def finish(self) -> None:
        """The last line was put."""


class FileTarget:
    """A file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._torn = False  # part of a line may have been written

    def put(self, lines: list[bytes]) -> bool:
        """Write lines; after a torn one on a line of their own."""
        content = b"\n".join([*([b""] if self._torn else []), *lines, b""])
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self.descriptor, view) :]
        except OSError:
            self._torn = self._torn or len(view) < len(content)
            return False
        self._torn = False
        return True

    def enforce(self) -> None:
        """Nothing: a pipe that nobody reads may be read again."""

    def close(self) -> None:
        """Nothing to be done."""

    def finish(self) -> None:
        """Nothing: it is not ours to close."""


class AccessLog:
    """Writes to `target`; `count` is `modelward_telemetry_total{sink,outcome}`; `tally` is shown all records.

    `begin` once, before the first record; `flush` is to be called on the event loop, some ten times a second; `close`
    at the end.
    """

    def __init__(self, target: Target, count: Counter, max_pending: int = MAX_PENDING) -> None:
        self.tally: Callable[[Sequence[Record]], None] = _nobody
        self._first = self._target = target
        self._count = count
        self._max_pending = max_pending
        self._records: list[Record] = []
        self._handed = 0  # lines with the thread
        self._dropped = 0  # since the thread was last told
        self._notes: list[bytes] = []
        self._batches: queue.SimpleQueue[_Batch | Target | None] = queue.SimpleQueue()
        self._written: queue.SimpleQueue[tuple[int, bool]] = queue.SimpleQueue()
        self._who: dict[str, str | int] = {}
        self._thread = threading.Thread(target=self._write_batches, name="access-log", daemon=True)
        self._thread.start()

    def begin(self, **who: str | int) -> None:
        """Say whose log this is: the first line of the chain."""
        self._who = who
        self._batches.put(_Batch([], [], 0))

    def redirect(self, target: Target) -> None:
        """From here on, write there: the log ends where it was, and begins anew."""
        self.flush()
        self._target = target
        self._batches.put(target)

    def note(self, what: str, **facts: str | int) -> None:
        """Put in a line that is no record, such as a change of the configuration; not where nothing gets through."""
        if len(self._records) + self._handed >= self._max_pending:
            return
        self._notes.append(_told(what, facts))

    def append(self, record: Record) -> None:
        """Take the record of a finished exchange."""
        if len(self._records) + self._handed >= self._max_pending:
            self._count.add(SINK, "dropped")
            self._dropped += 1
            self.tally((record,))
            return
        self._records.append(record)
        if len(self._records) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand what has gathered to the thread, and count what it has done."""
        self._target.enforce()
        while not self._written.empty():
            lines, written = self._written.get()
            self._handed -= lines
            self._count.add(SINK, "sent" if written else "failed", amount=lines)
        # While the thread stands still, drops alone are not worth a batch: its queue must not grow.
        if self._records or self._notes or (self._dropped and not self._handed):
            self._handed += len(self._records)
            # Many at once cost half of what each would between other work, where the processor has forgotten the code.
            encoded = list(map(_ENCODER.encode, self._records))
            self.tally(self._records)
            self._batches.put(_Batch(self._notes, encoded, self._dropped))
            self._records, self._notes, self._dropped = [], [], 0

    def close(self) -> None:
        """Write what is left, waiting a little for a slow reader; what is still unwritten then has failed."""
        self.flush()
        self._batches.put(_Batch([], [], self._dropped))
        self._batches.put(None)
        self._target.close()
        until = time.monotonic() + _CLOSE_SECONDS
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.05)
            self._target.enforce()
        self.flush()
        self._count.add(SINK, "failed", amount=self._handed)
        self._handed = 0

    def _write_batches(self) -> None:
        writer: _ChainWriter | None = None
        target = self._first
        while (given := self._batches.get()) is not None:
            if writer is None:
                writer = _ChainWriter(target, self._who)
            if isinstance(given, _Batch):
                written = writer.write(given)
                if given.lines:
                    self._written.put((len(given.lines), written))
            else:
                writer.end()
                writer = _ChainWriter(given, self._who)
        if writer is not None:
            writer.end()


class _Batch(NamedTuple):
    """What the thread is handed: lines that are no records, records, and how many were dropped after them."""

    notes: list[bytes]
    lines: list[bytes]
    dropped: int


class _ChainWriter:
    """Links lines and writes them; what cannot be written, or was dropped, is told of by a line of its own."""

    def __init__(self, target: Target, who: dict[str, str | int]) -> None:
        self._target = target
        self._start: dict[str, str | int] = {**who, "random": os.urandom(16).hex(), "format": FORMAT}
        self._linker = Linker()
        self._good: tuple[int, bytes] | None = None  # the last line known to be written; None: not even the first
        self._failed = 0  # records since then
        self._unsure = False  # of what was written since then

    def write(self, batch: _Batch) -> bool:
        """Write a batch; whether all of it was written."""
        linker = self._linker
        linked: list[bytes] = []
        if self._good is None:
            linker = self._linker = Linker()
            linked = linker.link([_told("start", {**self._start, "again": True} if self._unsure else self._start)])
        if self._unsure:
            if self._good is None:
                linked += linker.link([_told("gap", {"failed": self._failed})])
            else:
                after, chain = self._good
                linked += linker.link([_told("gap", {"failed": self._failed, "after": after})], chain)
        linked += linker.link(batch.notes)
        linked += linker.link(batch.lines)
        if batch.dropped:
            linked += linker.link([_told("gap", {"dropped": batch.dropped})])
        if not self._target.put(linked):
            self._failed += len(batch.lines)
            self._unsure = True
            return False
        self._good, self._failed, self._unsure = (linker.seq, linker.chain), 0, False
        return True

    def end(self) -> None:
        """Write the last line."""
        self.write(_Batch([_told("end", {})], [], 0))
        self._target.finish()


def _nobody(records: Sequence[Record]) -> None:
    """Nobody counts them."""


def _told(what: str, facts: dict[str, str | int]) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return _ENCODER.encode({"time": now, what: facts})
