"""What is remembered of those who send encrypted requests: their keys, which requests came, how many rows they had.

All of it is bounded, and nobody takes up the room of all others.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

from modelward.encrypted import envelope
from modelward.sidecar.problems import Refusal
from modelward.sidecar.workers import unknown_keys

MAX_AGE: Final = 300  # seconds, in both directions: clocks differ
_MAX_SEEN: Final = 100_000
_SHARE: Final = 8
_MAX_CALLERS: Final = 10_000
_HOUR: Final = 3600
_KEYS_A_CALLER: Final = 2  # those in use, and those that replace them

Clock = Callable[[], float]


class KeyStore:
    """Public keys by digest, each for the caller who sent them, for an hour after their last use.

    Bounded in bytes, and in keys of one caller: nobody pushes out those of all others.
    """

    def __init__(self, most_bytes: int, clock: Clock) -> None:
        self._most = most_bytes
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def resolve(self, digest: str, sent: bytes, owner: str) -> bytes:
        """The keys that a request names: those that came with it, or those that are kept.

        Raises:
            Refusal: 409, there are none; 422, those that came are others.
        """
        self._expire()
        name = (owner, digest)
        if sent:
            if envelope.digest(sent) != digest:
                raise Refusal("encrypted-unfit", "The encrypted request names other keys than came with it.")
            self._drop(name)
            own = [each for each in self._kept if each[0] == owner]
            for oldest in own[: max(len(own) - _KEYS_A_CALLER + 1, 0)]:
                self._drop(oldest)
            if len(sent) <= self._most:
                self._kept[name] = (self._clock() + _HOUR, sent)
                self._bytes += len(sent)
            while self._bytes > self._most:
                self._drop(next(iter(self._kept)))
            return sent
        if name not in self._kept:
            raise unknown_keys()
        _, keys = self._kept.pop(name)
        self._kept[name] = (self._clock() + _HOUR, keys)
        return keys

    def _expire(self) -> None:
        now = self._clock()
        while self._kept and next(iter(self._kept.values()))[0] < now:  # in the order of their last use
            self._drop(next(iter(self._kept)))

    def _drop(self, name: tuple[str, str]) -> None:
        if name in self._kept:
            self._bytes -= len(self._kept.pop(name)[1])


class Seen:
    """The requests of the last minutes: none is scored twice. `most` of all callers, and an eighth of those of one."""

    def __init__(self, clock: Clock, most: int = _MAX_SEEN) -> None:
        self._clock = clock
        self._most = most
        self._until: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._of_owner: Counter[str] = Counter()

    def refuse_again(self, name: str, owner: str) -> None:
        """Raises Refusal for a request that came before, or when more come than can be remembered."""
        now = self._clock()
        while self._until and next(iter(self._until.values()))[0] < now:
            _, (_, whose) = self._until.popitem(last=False)
            self._of_owner[whose] -= 1
            if not self._of_owner[whose]:
                del self._of_owner[whose]
        if name in self._until:
            raise Refusal(
                "encrypted-unfit", "This encrypted request was sent before: encrypt it anew.", reason="replayed"
            )
        if len(self._until) >= self._most or self._of_owner[owner] >= max(self._most // _SHARE, 1):
            raise Refusal("overloaded", "Too many encrypted requests; try again.", reason="queue-full")

    def add(self, name: str, owner: str) -> None:
        """It is being scored from now on."""
        self._until[name] = (self._clock() + 2 * MAX_AGE, owner)
        self._of_owner[owner] += 1

    def forget(self, name: str, owner: str) -> None:
        """It was not scored after all, and may come again."""
        if self._until.pop(name, None) is not None:
            self._of_owner[owner] -= 1
            if not self._of_owner[owner]:
                del self._of_owner[owner]


class Budget:
    """Rows that one caller may have scored in an hour.

    A linear model is given away by as many scores as it has weights, and what cannot be read cannot be screened.
    """

    def __init__(self, rows: int, clock: Clock) -> None:
        self._rows = rows
        self._clock = clock
        self._spent: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def spend(self, owner: str, rows: int) -> None:
        """Raises Refusal (429) when the caller has no rows left."""
        if not self._rows:
            return
        now = self._clock()
        until, spent = self._spent.pop(owner, (now + _HOUR, 0))
        if until < now:
            until, spent = now + _HOUR, 0
        over = spent + rows > self._rows
        self._spent[owner] = (until, spent if over else spent + rows)
        if len(self._spent) > _MAX_CALLERS:
            self._spent.popitem(last=False)
        if over:
            wait = max(int(until - now), 1)
            raise Refusal(
                "rate-limited",
                f"At most {self._rows} encrypted rows are scored for one caller in an hour; try again after"
                " `Retry-After` seconds.",
                reason="encrypted-budget",
                headers=b"retry-after: %d\r\n" % wait,
            )
