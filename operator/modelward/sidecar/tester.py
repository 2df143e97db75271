"""The security test as a caller: let in by the controller's token for one run, and told apart from all other callers.

It is a caller like any other to access rules, rate limits, detectors and quarantine, for these are what is tested. Its
name is another each run, so no run finds what the last one left, and nobody else has it. It is no caller where callers
are counted: who consumed what, how groups are treated, what has drifted, whom Events accuse.
"""

import ipaddress
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from modelward import securitytest
from modelward.securitytest import PURPOSE, STRANGER, SUBJECT
from modelward.sidecar.caller import Caller
from modelward.sidecar.exchange import Exchange
from modelward.signedtoken import HEADER, TokenError

ISSUER = "modelward"
_BEGINS = b"Bearer " + HEADER + b"."


class Testers:
    """Knows the tester by its token.

    Args:
        key: the raw 32-byte Ed25519 public key of the controller.
        model: namespace/name.
        clock: seconds since the epoch.
    """

    def __init__(self, key: bytes, model: str, clock: Callable[[], float] = time.time) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(key)
        self._model = model
        self._clock = clock
        self._last: tuple[bytes, str, Caller] | None = None  # a test asks thousands of times

    def caller(self, exchange: Exchange) -> Caller | None:
        """The tester, where its token holds for this model and for where the request comes from; None: it is not it."""
        shown = exchange.header.get(b"authorization", b"")
        if not shown.startswith(_BEGINS):
            return None
        if self._last is not None and self._last[:2] == (shown, exchange.address):
            caller = self._last[2]
            return caller if self._clock() < caller.expires else None
        try:
            named = securitytest.check(
                shown[len(b"Bearer ") :], self._key, self._model, plain(exchange.address), self._clock()
            )
        except TokenError:
            return None
        subjects = frozenset[str]() if named.number == STRANGER else frozenset((SUBJECT,))
        name = f"{SUBJECT}/{named.run}/{named.number}"
        caller = Caller(name, ISSUER, subjects, purpose=PURPOSE, expires=named.expires, tests=True)
        self._last = (shown, exchange.address, caller)
        return caller


def plain(address: str) -> str:
    """An address as Kubernetes tells a pod's: one of IPv4 may come as one of IPv6, or with a zone."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
