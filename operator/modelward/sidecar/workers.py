"""Processes that score encrypted requests, beside the event loop: bounded in number, memory, time, and in what waits.

A process that takes too long or dies is replaced, and its job is refused; others do not notice. How it ended tells
whose fault it was: a process that died of a job's bytes, or of its own limits, had a fault or an error of memory; one
that somebody stopped, or that the kernel took because the pod as a whole had no memory left, had a signal from outside.
"""

import asyncio
import contextlib
import signal
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from modelward.encrypted import worker
from modelward.encrypted.model import MAX_OUTPUTS
from modelward.encrypted.worker import Settings
from modelward.sidecar import log
from modelward.sidecar.problems import Refusal
from modelward.sidecar.processes import environment

_START_SECONDS = 20.0
_PAUSE_SECONDS = 1.0  # after a process that did not get ready
_QUEUE_A_WORKER = 8
_EXIT_SECONDS = 1.0  # in which a process is gone that has closed its pipes
_AGAIN_SECONDS = 3  # until another one is ready, told to the client
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

Done = Callable[[bytes | Refusal], None]


class Limits(NamedTuple):
    """Of the processes: how many, their address space in bytes, and seconds for one job."""

    workers: int = 1
    memory: int = 1 << 30
    seconds: float = 10.0


class _Job:
    __slots__ = ("deadline", "done", "keys", "request")

    def __init__(self, request: bytes, keys: bytes, done: Done, deadline: float) -> None:
        self.request = request
        self.keys = keys
        self.done: Done | None = done
        self.deadline = deadline

    def finish(self, outcome: bytes | Refusal) -> None:
        """Tell what came of it, once."""
        done, self.done = self.done, None
        if done is not None:
            done(outcome)


class _FailedError(Exception):
    """The process is of no more use; the message says why."""


class Workers:
    """The processes for one model's weights. `start` on the event loop; `close` ends them."""

    def __init__(self, settings: Settings, weights: bytes, limits: Limits) -> None:
        self.settings = settings
        self._weights = weights
        self._limits = limits
        self._waiting: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ready = 0
        self.restarts = 0

    @property
    def ready(self) -> bool:
        """Whether a process can take a job."""
        return self._ready > 0

    def start(self) -> None:
        """Start the processes, and keep them running."""
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self._limits.workers)]

    def call(self, request: bytes, keys: bytes, done: Done) -> Callable[[], None]:
        """Have a request scored; `done` gets the answer's envelope or the refusal. Returns how to abandon it.

        Raises:
            Refusal: 503, too many wait already.
        """
        self.refuse_if_full()
        job = _Job(request, keys, done, asyncio.get_running_loop().time() + self._limits.seconds)
        self._waiting.append(job)
        self._wake.set()
        return partial(self._abandon, job)

    def refuse_if_full(self) -> None:
        """Raise Refusal (503) when too many wait already."""
        if len(self._waiting) >= _QUEUE_A_WORKER * self._limits.workers:
            raise Refusal(
                "overloaded",
                "Encrypted requests wait already; try again.",
                reason="queue-full",
                headers=b"retry-after: 1\r\n",
            )

    def _abandon(self, job: _Job) -> None:
        job.done = None
        with contextlib.suppress(ValueError):  # it is under way
            self._waiting.remove(job)

    async def close(self) -> None:
        """End the processes; what waits is refused."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._waiting:
            self._waiting.popleft().finish(_draining())

    async def _keep(self) -> None:
        """One process after the other."""
        while True:
            try:
                await self._live()
            except _FailedError as error:
                log.event("error", "a process that scores encrypted requests ended", why=str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, there must be another one
                log.fault("a process that scores encrypted requests was lost", error)
            self.restarts += 1
            await asyncio.sleep(_PAUSE_SECONDS)
            self._expire()

    def _expire(self) -> None:
        """Tell those who have waited too long, lest they wait for a process that does not come."""
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0].deadline < now:
            self._waiting.popleft().finish(_late())

    async def _live(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "modelward.encrypted.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment(),
        )
        assert process.stdin is not None  # noqa: S101 - both are pipes
        assert process.stdout is not None  # noqa: S101
        pipes = (process.stdout, process.stdin)
        gone = asyncio.create_task(process.wait())
        gone.add_done_callback(lambda _: self._wake.set())
        try:
            await self._begin(*pipes)
            self._ready += 1
            try:
                while (job := await self._next(gone)) is not None:
                    await self._serve(job, gone, *pipes)
            finally:
                self._ready -= 1
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await gone
        raise _FailedError(f"it died while it had nothing to do{_by_signal(gone.result())}")

    async def _begin(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        settings = msgspec.json.encode(self.settings)
        status, content = await _ask(source, sink, settings, self._weights, _START_SECONDS)
        if status != worker.READY:
            raise _FailedError(content.decode("utf-8", "replace")[:500])

    async def _serve(
        self, job: _Job, gone: asyncio.Task[int], source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        seconds = job.deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            job.finish(_late())
            return
        try:
            # First without the keys, which are large: this process may know them.
            status, content = await _ask(source, sink, job.request, b"", seconds)
            if status == worker.UNKNOWN_KEYS:
                if not job.keys:
                    job.finish(unknown_keys())
                    return
                status, content = await _ask(source, sink, job.request, job.keys, seconds)
            job.finish(_outcome(status, content))
        except TimeoutError as error:
            job.finish(_late())
            raise _FailedError("a request took too long") from error
        except asyncio.CancelledError:
            job.finish(_draining())
            raise
        except _FailedError as error:
            await asyncio.wait((gone,), timeout=_EXIT_SECONDS)
            code = gone.result() if gone.done() else 0
            if -code in _FROM_OUTSIDE:
                job.finish(_interrupted())
            raise _FailedError(f"{error}{_by_signal(code)}") from error
        finally:  # whatever came between: nobody waits for ever
            job.finish(Refusal("encrypted-unfit", "The encrypted request could not be scored.", reason="worker-died"))

    async def _next(self, gone: asyncio.Task[int]) -> _Job | None:
        """The next job whose client has not gone; None when the process has."""
        while not gone.done():
            while self._waiting:
                job = self._waiting.popleft()
                if job.done is not None:
                    return job
            self._wake.clear()
            await self._wake.wait()
        return None


def _outcome(status: bytes, content: bytes) -> bytes | Refusal:
    if status == worker.ANSWERED:
        return content
    if status == worker.REFUSED:
        told = content.decode("utf-8", "replace")[:500]
        return Refusal("encrypted-unfit", f"The encrypted request cannot be scored: {told}.")
    log.event("error", "an encrypted request met a fault in its process", error=content.decode("ascii", "replace")[:64])
    return Refusal("encrypted-unfit", "The encrypted request could not be scored.", reason="worker-fault")


def unknown_keys() -> Refusal:
    """The client must send its keys along."""
    return Refusal("unknown-keys", "The keys that the request names are not known here (any more): send them along.")


def _by_signal(code: int) -> str:
    """How a process ended, by its exit code, where a signal ended it."""
    return f" ({signal.Signals(-code).name})" if -code in set(signal.Signals) else ""


def _interrupted() -> Refusal:
    return Refusal(
        "interrupted",
        "The process that scored the encrypted request was ended from outside: send the same request again.",
        reason="worker-killed",
        headers=b"retry-after: %d\r\n" % _AGAIN_SECONDS,
    )


def _draining() -> Refusal:
    return Refusal(
        "overloaded", "This replica is shutting down; try again.", reason="draining", headers=b"retry-after: 1\r\n"
    )


def _late() -> Refusal:
    return Refusal("overloaded", "Scoring the encrypted request took too long.", reason="timeout")


async def _ask(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, first: bytes, second: bytes, seconds: float
) -> tuple[bytes, bytes]:
    """One frame there and one back. Raises TimeoutError, _FailedError."""
    try:
        async with asyncio.timeout(seconds):
            sink.write(worker.FRAME.pack(len(first), len(second)) + first + second)
            await sink.drain()
            lengths = worker.FRAME.unpack(await source.readexactly(worker.FRAME.size))
            if sum(lengths) > _most(first):  # it reads strangers' bytes, and may be another's by now
                raise _FailedError("it answered with more than there can be")
            return await source.readexactly(lengths[0]), await source.readexactly(lengths[1])
    except TimeoutError:
        raise
    except (OSError, EOFError, RuntimeError) as error:  # IncompleteReadError, and uvloop's way to say «closed»
        raise _FailedError("it died, of a fault or of its limits") from error


def _most(job: bytes) -> int:
    """Bytes that an answer can have: for each ciphertext of a job as many as a model has outputs, and a header."""
    return min(MAX_OUTPUTS * len(job) + (64 << 10), worker.MAX_FRAME)
