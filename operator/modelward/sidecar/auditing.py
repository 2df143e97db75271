"""Counters for auditors: counted in windows, encrypted to their keys, kept until the controller collects them.

What was counted leaves the process in ciphertexts alone. A window that is not over when the sidecar ends is lost, and
so are those that nobody collects in time: `dropped` counts these.
"""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from modelward.audit.job import Done, Job
from modelward.audit.settings import Audit
from modelward.audit.told import MAX_KEPT, Collect, Collected, Encrypted, Window
from modelward.sidecar import log
from modelward.sidecar.config import TensorDeclaration
from modelward.sidecar.processes import environment
from modelward.sidecar.tally import Tally
from modelward.sidecar.tensors import TensorSpec

_SECONDS = 60.0  # for one process; it takes less than one
_AGAIN_SECONDS = 10.0


class Auditing:
    """The counters of one configuration. `start` on the event loop, `tick` about every second, `close` at the end.

    Raises:
        ConfigError: a field is not among the inputs.
    """

    def __init__(
        self,
        settings: Audit,
        keys: Sequence[bytes],
        inputs: Sequence[TensorDeclaration] | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.keys = tuple(keys)
        self.inputs = inputs
        self.tally = Tally(settings, {one.name: TensorSpec(one) for one in inputs or ()})
        self.period = max(one.period_seconds for one in settings.auditors)
        self.ready = False
        self._layout = self.tally.layout.digest()
        self._clock = clock
        self._start = self._window()
        self._waiting: dict[str, deque[Window]] = {one.keys: deque() for one in settings.auditors}
        self._dropped = 0
        self._trying: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # a process at a time: its memory is the sidecar's, and windows stay in order

    def inherit(self, previous: "Auditing") -> None:
        """Go on where the configuration before this one stopped: what waits, and the window, if it counts the same."""
        same = (previous._layout, previous.settings.seconds) == (self._layout, self.settings.seconds)  # noqa: SLF001
        if not same or previous.inputs != self.inputs:
            return
        self.tally, self._start = previous.tally, previous._start  # noqa: SLF001
        for keys, waiting in previous._waiting.items():  # noqa: SLF001
            if keys in self._waiting:
                self._waiting[keys] = waiting  # and what is being encrypted will be in it
            else:
                self._dropped += len(waiting)
        self._tasks, previous._tasks = previous._tasks, set()  # noqa: SLF001
        self._turn = previous._turn  # noqa: SLF001
        self._dropped += previous._dropped  # noqa: SLF001

    def start(self) -> None:
        """Try the keys: whoever cannot encrypt is not ready."""
        self._trying = asyncio.get_running_loop().create_task(self._try())

    def tick(self) -> None:
        """Encrypt what was counted, once its window is over."""
        start = self._window()
        if start <= self._start:
            return
        if self.tally.missed:
            log.event("warning", "rows are not counted: a window holds no more", rows=self.tally.missed)
            self.tally.missed = 0
        if self.tally.rows or self.tally.learned:
            self._encrypt_soon(self.tally.taken(), self._start)
        self._start = start

    def told(self) -> Encrypted:
        """What the controller is told."""
        return Encrypted(sum(map(len, self._waiting.values())), self._dropped)

    def collect(self, asked: Collect) -> Collected:
        """Forget what the controller has written down; give it what waits."""
        for keys, start in asked.through.items():
            waiting = self._waiting.get(keys, deque())
            while waiting and waiting[0].start <= start:
                waiting.popleft()
        return Collected(tuple(window for waiting in self._waiting.values() for window in waiting))

    async def close(self) -> None:
        """End what is under way."""
        ending = [*self._tasks, *([self._trying] if self._trying else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _window(self) -> int:
        return int(self._clock() // self.settings.seconds) * self.settings.seconds

    def _encrypt_soon(self, counts: list[int], start: int) -> None:
        if len(self._tasks) >= MAX_KEPT:
            self._drop("windows come faster than they can be encrypted")
            return
        task = asyncio.get_running_loop().create_task(self._encrypt(counts, start))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _try(self) -> None:
        while not self.ready:
            async with self._turn:
                done = await _encrypted([0], self.keys)
            self.ready = not done.why
            if done.why:
                log.event("error", "counters cannot be encrypted", why=done.why)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _encrypt(self, counts: list[int], start: int) -> None:
        async with self._turn:
            done = await _encrypted(counts, self.keys)
        if done.why:
            self._drop(done.why)
            return
        for auditor, ciphertext in zip(self.settings.auditors, done.ciphertexts, strict=True):
            waiting = self._waiting[auditor.keys]
            waiting.append(Window(auditor.keys, self._layout, start, ciphertext))
            if len(waiting) > MAX_KEPT:
                waiting.popleft()
                self._dropped += 1

    def _drop(self, why: str) -> None:
        self._dropped += len(self.keys)
        log.event("error", "a window of counters could not be encrypted", why=why)


async def _encrypted(counts: list[int], keys: Sequence[bytes]) -> Done:
    """Have a process of its own encrypt; it ends with the job."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "modelward.audit.encrypt",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(),
        )
    except OSError as error:
        return Done(why=f"no process could be started: {error.strerror}")
    try:
        async with asyncio.timeout(_SECONDS):
            answer, _ = await process.communicate(msgspec.json.encode(Job(counts, list(keys))))
        done = msgspec.json.decode(answer, type=Done)
    except TimeoutError:
        return Done(why=f"the process took longer than {_SECONDS:.0f} s")
    except (msgspec.MsgspecError, OSError):
        return Done(why="the process ended without an answer, of a fault or of its limits")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not done.why and len(done.ciphertexts) != len(keys):
        return Done(why="the process answered something else")
    return done
