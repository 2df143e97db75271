"""Spans and metrics on their way to an OpenTelemetry collector, off the requests' path.

The event loop appends to a bounded list; a thread encodes and sends. Whatever the collector does (nothing, slowly,
refusals, a reset), a request never waits for it and memory stays bounded: what does not fit is dropped and counted, and
what cannot be delivered has failed. `sent + dropped + failed == requests`.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from modelward.sidecar import log
from modelward.sidecar.config import Telemetry
from modelward.sidecar.metrics import Counter, Sample

if TYPE_CHECKING:
    from modelward.sidecar.record import Record
    from modelward.sidecar.tracing import Trace

TRACES, METRICS = "otlp-traces", "otlp-metrics"
MAX_PENDING = 8_192
_BATCH = 512
_EVERY_SECONDS = 1.0
_METRICS_SECONDS = 15.0
_RETRY_SECONDS = (0.5, 1.0, 2.0)
_CLOSE_SECONDS = 3.0
_TURN_SECONDS = 0.0005


class Finished(NamedTuple):
    """An exchange that is over; the time in nanoseconds since the epoch."""

    trace: "Trace"
    record: "Record"
    ended_ns: int


class Courier:
    """Posts to the collector from whatever thread calls it, trying again for a while where that may help."""

    def __init__(self, settings: Telemetry, who: dict[str, str | int]) -> None:
        # What follows costs memory, and is for those who have a collector.
        from modelward.sidecar.collector import Collector  # noqa: PLC0415
        from modelward.sidecar.otlp import Encoder  # noqa: PLC0415

        # Encoding holds the interpreter: the event loop must not wait for it the 5 ms that threads take turns in.
        sys.setswitchinterval(_TURN_SECONDS)
        self.collector: Collector = Collector(settings)
        self.encoder: Encoder = Encoder(who)
        self._closing = threading.Event()
        self._given_up = False  # at the end, once is enough
        self._silent = ""  # why nothing is delivered, once it was told

    def deliver(self, signal: str, body: bytes) -> bool:
        """Whether the collector took it."""
        from modelward.sidecar.collector import UndeliveredError  # noqa: PLC0415

        if self._given_up:
            return False
        # A collector that did not answer the last time is tried once, not waited for again and again.
        waits = () if self._silent or self._closing.is_set() else _RETRY_SECONDS
        for wait in (*waits, None):
            try:
                self.collector.post(signal, body)
            except UndeliveredError as error:
                why = str(error)
                if wait is None or not error.again or self._closing.wait(wait):
                    break
            else:
                if self._silent:
                    log.event("info", "the collector takes telemetry again")
                self._silent = ""
                return True
        if why != self._silent:
            log.event("error", "the collector does not take telemetry", why=why)
        self._silent = why
        self._given_up = self._closing.is_set()
        return False

    def close(self) -> None:
        """Wait no longer than a moment any more."""
        self._closing.set()
        self.collector.hurry()


class Tracing:
    """Spans and metrics to one collector. `count` is `modelward_telemetry_total`, `samples` gives the metrics.

    `flush` is to be called on the event loop, some ten times a second. `retire` lets it end in its own time, `close`
    sees to it that it does.
    """

    def __init__(self, courier: Courier, count: Counter, samples: Callable[[], Sequence[Sample]]) -> None:
        self._courier = courier
        self._count = count
        self._samples = samples
        self._pending: list[Finished] = []
        self._handed = 0
        self._flushed = self._measured = time.monotonic()
        self._measuring = False
        self._jobs: queue.SimpleQueue[list[Finished] | Sequence[Sample] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, int, bool]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        self._thread.start()

    def append(self, finished: Finished) -> None:
        """Take an exchange that is over."""
        if len(self._pending) + self._handed >= MAX_PENDING:
            self._count.add(TRACES, "dropped")
            return
        self._pending.append(finished)

    def flush(self) -> None:
        """Hand over what has gathered, count what was done, and cut off what takes too long."""
        self._courier.collector.enforce()
        while not self._done.empty():
            sink, amount, sent = self._done.get()
            self._count.add(sink, "sent" if sent else "failed", amount=amount)
            if sink == TRACES:
                self._handed -= amount
            else:
                self._measuring = False
        now = time.monotonic()
        if self._pending and (len(self._pending) >= _BATCH or now - self._flushed >= _EVERY_SECONDS):
            self._hand_over(now)
        if now - self._measured >= _METRICS_SECONDS:
            self._measure(now)

    def _hand_over(self, now: float) -> None:
        self._flushed = now
        self._handed += len(self._pending)
        self._jobs.put(self._pending)
        self._pending = []

    def _measure(self, now: float) -> None:
        self._measured = now
        if self._measuring:  # the last ones are still under way
            self._count.add(METRICS, "dropped")
            return
        self._measuring = True
        self._jobs.put(self._samples())

    def hurry(self) -> None:
        """The end is near: wait no longer than a moment for the collector."""
        self._courier.close()

    def retire(self) -> None:
        """Send what is left, and end."""
        self._hand_over(time.monotonic())
        self._jobs.put(None)

    @property
    def ended(self) -> bool:
        """Everything has been sent and counted."""
        return not self._thread.is_alive() and self._done.empty()

    def close(self) -> None:
        """Send what is left, within a short time; what is still unsent then has failed."""
        self._measure(time.monotonic())
        self.hurry()
        self.retire()
        until = time.monotonic() + _CLOSE_SECONDS
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.05)
        self._courier.collector.abort()
        self._thread.join(0.2)
        self.flush()
        self._count.add(TRACES, "failed", amount=self._handed)
        self._count.add(METRICS, "failed", amount=int(self._measuring))
        self._handed, self._measuring = 0, False

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job and isinstance(job[0], Sample):
                self._done.put((METRICS, 1, self._send("metrics", self._courier.encoder.metrics, job)))
                continue
            for index in range(0, len(job), _BATCH):
                batch = job[index : index + _BATCH]
                self._done.put((TRACES, len(batch), self._send("traces", self._courier.encoder.traces, batch)))
        self._courier.collector.close()

    def _send(self, signal: str, encode: Callable[..., bytes], batch: Sequence[object]) -> bool:
        try:
            return self._courier.deliver(signal, encode(batch))
        except Exception as error:  # noqa: BLE001 - the thread must go on, and what it holds be counted
            log.fault("telemetry met a fault in the sidecar", error)
            return False


class CollectorTarget:
    """The collector as the access log's target."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier

    def put(self, lines: list[bytes]) -> bool:
        """Send the lines; whether all were taken."""
        courier = self._courier
        chunks = [lines[index : index + _BATCH] for index in range(0, len(lines), _BATCH)]
        return all(courier.deliver("logs", courier.encoder.logs(chunk)) for chunk in chunks)

    def enforce(self) -> None:
        """Cut off what takes too long."""
        self._courier.collector.enforce()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._courier.close()

    def finish(self) -> None:
        """End the connection."""
        self._courier.collector.close()
