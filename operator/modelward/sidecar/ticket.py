"""A request whose rate limit is being counted elsewhere, and what waits for that."""

from collections.abc import Callable

from modelward.sidecar.exchange import Reply
from modelward.sidecar.problems import Refusal

Ask = Callable[[], Callable[[], None] | None]
"""Goes on with a request, as `exchange.Application.respond` does; raises Refusal."""


class Ticket:
    """Settled once, with a refusal or without one."""

    __slots__ = ("_refusal", "_settled", "_then")

    def __init__(self) -> None:
        self._settled = False
        self._refusal: Refusal | None = None
        self._then: Callable[[Refusal | None], None] | None = None

    def settle(self, refusal: Refusal | None) -> None:
        """The count is known."""
        self._settled, self._refusal = True, refusal
        if self._then is not None:
            self._then(refusal)

    def then(self, call: Callable[[Refusal | None], None]) -> None:
        """Call with what came of it, now or when it is known."""
        if self._settled:
            call(self._refusal)
        else:
            self._then = call


class Held:
    """A complete request that waits for its ticket, and then for the model."""

    __slots__ = ("_abandon", "_ask", "_left", "_reply")

    def __init__(self, ticket: Ticket, ask: Ask, reply: Reply) -> None:
        self._ask = ask
        self._reply = reply
        self._left = False
        self._abandon: Callable[[], None] | None = None
        ticket.then(self._settled)

    def _settled(self, refusal: Refusal | None) -> None:
        if self._left:
            return
        if refusal is not None:
            self._reply(refusal)
            return
        try:
            self._abandon = self._ask()
        except Refusal as error:
            self._reply(error)

    def abandon(self) -> None:
        """The client has gone, in whichever wait."""
        self._left = True
        if self._abandon is not None:
            self._abandon()
