"""Where the controller asks what was found, and says whom to hold or let go: see `modelward.incidents`.

It is on the port that callers use. Without the controller's token there is nothing there: the request goes the way of
any other to an unknown path, and is answered like it. Without a controller (`modelward run`) there is nothing at all.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward import incidents
from modelward.audit.told import Collect, Collected
from modelward.fairness.labels import Labels
from modelward.incidents import Done, Release, Report, Spread
from modelward.sidecar.exchange import Exchange, Response
from modelward.sidecar.problems import Refusal
from modelward.sidecar.quarantine import Quarantines
from modelward.signedtoken import TokenError

_PREFIX = incidents.PREFIX.encode()
_METHODS = {
    incidents.INCIDENTS: "GET",
    incidents.RELEASE: "POST",
    incidents.QUARANTINE: "POST",
    incidents.AGGREGATES: "POST",
    incidents.LABELS: "POST",
}
_JSON = b"content-type: application/json\r\ncache-control: no-store\r\n"


class Order(NamedTuple):
    """A request of the controller's, once its token holds: the path, and the digest that its body must have."""

    path: str
    digest: str


class Control:
    """Answers the controller.

    Args:
        key: the raw 32-byte Ed25519 public key of the controller.
        model: namespace/name.
        quarantines: whom to hold.
        release: lets every client of a name go; how many were held.
        report: what there is to tell.
        collect: what is encrypted for auditors.
        note: told what was done, for the access log.
        labels: takes what other replicas were told of answers of this one; of how many requests it was counted.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        key: bytes,
        model: str,
        quarantines: Quarantines,
        release: Callable[[str], int],
        report: Callable[[], Report],
        collect: Callable[[Collect], Collected],
        note: Callable[..., None],
        labels: Callable[[Labels], int] = lambda _: 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(key)
        self._model = model
        self._quarantines = quarantines
        self._let_go = release
        self._report = report
        self._collect = collect
        self._note = note
        self._labels = labels
        self._clock = clock

    def order(self, exchange: Exchange) -> Order | None:
        """What the controller orders by a request of which the header has come; None: it is not the controller's."""
        if not exchange.target.startswith(_PREFIX):
            return None
        path, method = exchange.target.decode("latin-1"), exchange.method.decode("latin-1")
        scheme, _, shown = exchange.header.get(b"authorization", b"").partition(b" ")
        if _METHODS.get(path) != method or scheme.lower() != b"bearer":
            return None
        try:
            return Order(path, incidents.check(shown, self._key, self._model, method, path, self._clock()))
        except TokenError:
            return None

    def carry_out(self, order: Order, body: bytes) -> Response | None:
        """Do it and answer; None: the token was for another body.

        Raises:
            Refusal: 422, the body is not what belongs to the path.
        """
        if not incidents.is_body(body, order.digest):
            return None
        try:
            match order.path:
                case incidents.RELEASE:
                    return _answer(self._release(msgspec.json.decode(body, type=Release)))
                case incidents.QUARANTINE:
                    return _answer(self._hold(msgspec.json.decode(body, type=Spread)))
                case incidents.AGGREGATES:
                    return _answer(self._collect(msgspec.json.decode(body, type=Collect)))
                case incidents.LABELS:
                    return _answer(Done(self._labels(msgspec.json.decode(body, type=Labels))))
        except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
            raise Refusal("schema-violation", "The body is not what belongs to this path.") from None
        return _answer(self._report())

    def _release(self, asked: Release) -> Done:
        clients = self._let_go(asked.client)
        self._note("released", client=asked.client, clients=clients)
        return Done(clients)

    def _hold(self, asked: Spread) -> Done:
        clients = self._quarantines.spread(asked.quarantined)
        if clients:
            self._note("quarantined", byOtherReplicas=clients)
        return Done(clients)


def _answer(what: Any) -> Response:
    return Response(200, _JSON, msgspec.json.encode(what))
