"""Who asks, and what is remembered of each within bounds."""

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from random import SystemRandom
from typing import Generic, Literal, NamedTuple, TypeVar

Scope = Literal["client", "network", "issuer"]
State = TypeVar("State")

_CHANCE = SystemRandom()
_PREFIX = {4: 24, 6: 48}  # what one party is given, as a rule


class Caller(NamedTuple):
    """Who sent a request: the authenticated subject, who vouched for it, and the network it came from."""

    client: str
    issuer: str
    network: str

    def key(self, scope: Scope) -> str:
        """The name by which it is remembered in a scope; the same subject of two issuers is two clients."""
        match scope:
            case "client":
                return f"{self.issuer}\n{self.client}"
            case "network":
                return self.network
            case "issuer":
                return self.issuer


class Facts(NamedTuple):
    """Who asks, and when (seconds since the epoch); `tests`: it is a security test, from which nothing is learned."""

    caller: Caller
    now: float
    tests: bool = False


def network_of(address: str) -> str:
    """The network of an address, /24 or /48; the text itself where it is no address."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ip_network((parsed, _PREFIX[parsed.version]), strict=False))


def some(count: int, most: int) -> list[int]:
    """Which of `count` rows are looked at, in order, where that is more than `most`: chosen by chance.

    Were it every second one, whoever knows it would hide what they ask in between.
    """
    return list(range(count)) if count <= most else sorted(_CHANCE.sample(range(count), most))


class Remembered(Generic[State]):
    """A state for each key; the one that was used longest ago gives way when there are `most`."""

    def __init__(self, most: int, new: Callable[[], State]) -> None:
        self._states: OrderedDict[str, State] = OrderedDict()
        self._most, self._new = most, new
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._states)

    def of(self, key: str) -> State:
        """The state of `key`, new where there is none."""
        if (state := self._states.get(key)) is not None:
            self._states.move_to_end(key)
            return state
        if len(self._states) >= self._most:
            self._states.popitem(last=False)
            self.forgotten += 1
        state = self._states[key] = self._new()
        return state

    def drop(self, key: str) -> None:
        """Forget one, as when a client is released from quarantine."""
        self._states.pop(key, None)
