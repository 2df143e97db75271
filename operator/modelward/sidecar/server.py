"""What the connections of a listener share, and what they are to it."""

from collections.abc import Callable
from typing import Protocol

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Application
from modelward.sidecar.heads import Heads
from modelward.sidecar.reader import RequestHead


class Client(Protocol):
    """A client's connection, by HTTP/1.1 or by gRPC, as its server sees it."""

    deadline: float

    def expire(self) -> None:
        """Its deadline is over."""

    def drain(self) -> None:
        """It is to end soon, with nothing lost."""

    def abort(self) -> None:
        """It is to end now."""


class Server:
    """What the connections of one listener share."""

    def __init__(self, application: Application, limits: Limits, clock: Callable[[], float]) -> None:
        self.application = application
        self.limits = limits
        self.clock = clock  # the event loop's
        self.connections: set[Client] = set()
        self.buffered = 0  # bytes of request bodies held, over all connections
        self.draining = False
        self.heads: Heads[RequestHead] = Heads()

    def sweep(self) -> None:
        """End the waits whose time is up; to be called about once a second."""
        now = self.clock()
        self.heads.sweep(now)
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.expire()

    def drain(self) -> None:
        """From now on a connection ends with the next answer; an idle or a slow one ends soon.

        Not at once: what looks idle here may have a request on its way, and that must not be lost.
        """
        self.draining = True
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        """End every connection now."""
        for connection in list(self.connections):
            connection.abort()
