"""Sends lineage events off the controller's loop: a bounded queue a receiver, in order, tried again until it is there.

Events are built when their turn has come, so that what waits is small. `sent + failed` is what left the queue; what
found no room in it is not lost yet: a window stays with its sidecar for a while, and is offered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Literal

from modelward.controller.receivers import Made, Receiver, UndeliveredError

if TYPE_CHECKING:
    from modelward.lineage.events import Event

MAX_QUEUED = 1000
FIRST_WAIT_SECONDS, LAST_WAIT_SECONDS = 1.0, 60.0
_SUSPECT = 3  # tries of the same events

log = logging.getLogger("modelward.controller")


class _Item:
    """Events that belong together. Those that were taken are not sent again when a later one was not."""

    def __init__(self, make: Callable[[], Sequence[Event]], done: Callable[[bool], None], about: str) -> None:
        self._make = make
        self.about = about
        self.tries = 0
        self.done = done
        self._left: list[Event] | None = None

    def send(self, receiver: Receiver) -> None:
        if self._left is None:
            self._left = list(self._make())
        while self._left:
            receiver.deliver(self._left[0])
            self._left.pop(0)


class Emitter:
    """Sends to one receiver. `name` is what it is called in the log; `counts` is added to: sent, failed."""

    def __init__(
        self,
        name: str,
        make: Made,
        executor: Executor,
        counts: Counter[str],
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self._name = name
        self._make = make
        self._executor = executor
        self._counts = counts
        self._max_queued = max_queued
        self._queue: deque[_Item] = deque()
        self._task: asyncio.Task[None] | None = None
        self._receiver: Receiver | None = None
        self._why = ""  # why nothing is taken, once it was told

    @property
    def pending(self) -> int:
        """How many wait for their turn."""
        return len(self._queue)

    @property
    def room(self) -> int:
        """For how many more there is room."""
        return self._max_queued - len(self._queue)

    def offer(self, make: Callable[[], Sequence[Event]], done: Callable[[bool], None], about: str = "") -> bool:
        """Have the events that `make` gives sent; `done` is told on the loop whether they were. False: no room.

        `about` is the model: events about one stay in their order.
        """
        if len(self._queue) >= self._max_queued:
            return False
        self._queue.append(_Item(make, done, about))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return True

    async def close(self) -> None:
        """Send no more; what is left is not told of."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.let_go()

    def let_go(self) -> None:
        """Close the receiver, while nothing is being sent; what is sent next opens another."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    async def _work(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while self._queue:
            item = self._queue[0]
            outcome = await self._try(item)
            if outcome == "again" and item.tries >= _SUSPECT and await self._takes_another(item):
                outcome = await self._try(item)  # it may just have come back
                outcome = "failed" if outcome == "again" else outcome
            if outcome == "again":
                self.let_go()  # the next try is made with the settings of then
                await asyncio.sleep(wait)
                wait = min(wait * 2, LAST_WAIT_SECONDS)
                continue
            wait = FIRST_WAIT_SECONDS
            self._settle(item, sent=outcome == "sent")

    async def _try(self, item: _Item) -> Literal["sent", "failed", "again"]:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._send, item)
        except UndeliveredError as error:
            self._tell(str(error))
            item.tries += 1
            return "again" if error.again else "failed"
        except Exception as error:  # noqa: BLE001 - the others must go on, and this one be counted
            self._tell(f"{type(error).__name__}: {error}")
            return "failed"
        self._tell("")
        return "sent"

    async def _takes_another(self, suspect: _Item) -> bool:
        """Whether the receiver takes the next of another model: what it does not take then is itself at fault.

        Owners write names into events, and a receiver that falls over one of them must not keep all others waiting.
        """
        other = next((one for one in self._queue if one.about != suspect.about), None)
        if other is None:
            return False
        outcome = await self._try(other)
        if outcome != "again":
            self._settle(other, sent=outcome == "sent")
        return outcome == "sent"

    def _settle(self, item: _Item, *, sent: bool) -> None:
        self._queue.remove(item)
        self._counts["sent" if sent else "failed"] += 1
        item.done(sent)

    def _send(self, item: _Item) -> None:
        if self._receiver is None:
            self._receiver = self._made()
        item.send(self._receiver)

    def _made(self) -> Receiver:
        """A receiver; settings that none can be made of are at fault, and may be mended: no event is lost for them."""
        try:
            return self._make()
        except UndeliveredError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may have what a Secret has
            raise UndeliveredError(f"its settings cannot be used ({type(error).__name__})", again=True) from None

    def _tell(self, why: str) -> None:
        if why != self._why:
            if why:
                log.warning("lineage events are not taken by %s: %s", self._name, why)
            else:
                log.info("lineage events are taken by %s again", self._name)
        self._why = why
