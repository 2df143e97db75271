"""Lineage events of a sidecar that runs on this machine: those that the controller would send of it in a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from modelward.lineage.subject import Subject

if TYPE_CHECKING:
    from modelward.controller.receivers import Receiver
    from modelward.lineage.events import Event
    from modelward.sidecar.record import Record

NAMESPACE = "modelward"
REPLICA = "localhost"
_EVERY_SECONDS = 1.0
_LAST_WAIT_SECONDS = 60.0
_CLOSE_SECONDS = 10.0


class Teller:
    """Counts records and tells a receiver of each window, from a thread. `say` is told of trouble, in a sentence."""

    def __init__(self, about: Subject, receiver: Receiver, say: Callable[[str], None]) -> None:
        from modelward.sidecar.windows import Windows  # noqa: PLC0415 - slow to import

        self._about = about
        self._receiver = receiver
        self._say = say
        self._windows = Windows()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._told = 0  # up to which window
        self._trouble = ""
        self.sent = self.failed = self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="lineage", daemon=True)
        self._thread.start()

    def add(self, record: Record) -> None:
        """Count a finished request."""
        with self._lock:
            self._windows.count((record,))

    def close(self) -> None:
        """Tell of what is left, once, within a short time."""
        self._ending.set()
        self._thread.join(_CLOSE_SECONDS)
        self._receiver.close()

    def _work(self) -> None:
        from modelward.lineage.events import deployment  # noqa: PLC0415 - slow to import

        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        begun = list(deployment(self._about, NAMESPACE, now, "CREATE"))
        wait = _EVERY_SECONDS
        while not self._ending.wait(wait):
            well = (not begun or self._deliver(begun)) and self._tell()
            wait = _EVERY_SECONDS if well else min(wait * 2, _LAST_WAIT_SECONDS)
        with self._lock:
            self._windows.finish()
        if (not begun or self._deliver(begun)) and self._tell():
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._deliver(list(deployment(self._about, NAMESPACE, now, "DROP")))

    def _tell(self) -> bool:
        """Tell of the windows that are new; whether all are told."""
        from modelward.lineage.events import serving  # noqa: PLC0415

        with self._lock:
            served = self._windows.told()
        for window in served.windows:
            if window.sequence <= self._told:
                continue
            before = self.failed
            if not self._deliver(list(serving(self._about, NAMESPACE, REPLICA, served.process, window))):
                return False
            self.dropped += window.sequence - self._told - 1
            self.sent += self.failed == before
            self._told = window.sequence
        return True

    def _deliver(self, events: list[Event]) -> bool:
        """Deliver events, and take those away that need not come again; whether none is left."""
        from modelward.controller.receivers import UndeliveredError  # noqa: PLC0415

        while events:
            try:
                self._receiver.deliver(events[0])
            except UndeliveredError as error:
                if str(error) != self._trouble:
                    self._say(f"lineage: {error}")
                self._trouble = str(error)
                if error.again:
                    return False
                self.failed += 1
            else:
                self._trouble = ""
            events.pop(0)
        return True


@contextlib.contextmanager
def told(about: Subject, where: str) -> Iterator[Callable[[Record], None] | None]:
    """Have events sent to an address, or into a file, while the context lasts; gives who is to see each record."""
    if not where:
        yield None
        return
    from modelward.controller.receivers import receiver_at  # noqa: PLC0415 - the client costs memory

    teller = Teller(about, receiver_at(where), lambda why: click.echo(f"modelward: {why}", err=True))
    try:
        yield teller.add
    finally:
        teller.close()
        click.echo(f"lineage    {teller.sent} windows sent, {teller.failed} failed, {teller.dropped} dropped", err=True)


def together(watchers: Sequence[Callable[[Record], None] | None]) -> Callable[[Record], None] | None:
    """Return who shows each record to all of them."""
    there = [one for one in watchers if one is not None]
    if len(there) < 2:
        return there[0] if there else None

    def show(record: Record) -> None:
        for one in there:
            one(record)

    return show
