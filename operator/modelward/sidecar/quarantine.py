"""Clients that are refused altogether, for a while, after anomalies that were too many.

A client is an authenticated caller with its issuer: it cannot be made up, and nobody can bring another one into
quarantine. Each of the policies' rules counts by itself. All is bounded: a full table forgets whom it has held, or
counted, longest.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from modelward.incidents import MAX_QUARANTINED, Quarantined
from modelward.securitytest import SUBJECT
from modelward.sidecar.caller import Caller
from modelward.sidecar.config import Quarantine
from modelward.sidecar.incidents import rfc3339
from modelward.sidecar.problems import Refusal

MAX_COUNTED = 10_000
QUARANTINED = "quarantined"  # the reason that the record and the metrics tell
_LONGEST = 2_592_000.0  # seconds; no policy may ask for more

_Who = tuple[str, str]  # issuer, name


class _Held(NamedTuple):
    since: float
    until: float
    reason: str


class Quarantines:
    """Who is in quarantine, and how many anomalies those have who are not."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._rules: tuple[Quarantine, ...] = ()
        self._held: OrderedDict[_Who, _Held] = OrderedDict()
        self._counted: OrderedDict[_Who, deque[float]] = OrderedDict()
        self._released: OrderedDict[str, float] = OrderedDict()

    def take_rules(self, rules: Sequence[Quarantine]) -> None:
        """Hold by these from now on; without any, nobody is held."""
        self._rules = tuple(rules)
        if not rules:
            self._held.clear()
            self._counted.clear()

    def refuse(self, caller: Caller) -> None:
        """Raise Refusal (403) when `caller` is in quarantine."""
        if not self._held:
            return
        who = (caller.issuer, caller.name)
        held = self._held.get(who)
        if held is None:
            return
        if held.until <= self._clock():
            del self._held[who]
            return
        raise Refusal(
            "forbidden",
            "Your requests are not taken at present. Tell the model's owner the `instance`.",
            reason=QUARANTINED,
        )

    def count(self, caller: Caller, reason: str) -> Quarantined | None:
        """Count an anomaly of `caller`, found by the detector `reason`; the quarantine that it leads to."""
        if not self._rules:
            return None
        who, now = (caller.issuer, caller.name), self._clock()
        times = self._counted.get(who)
        if times is None:
            times = self._counted[who] = deque(maxlen=max(rule.anomalies for rule in self._rules))
            if len(self._counted) > MAX_COUNTED:
                self._counted.popitem(last=False)
        else:
            self._counted.move_to_end(who)
        times.append(now)
        broken = [rule.duration_seconds for rule in self._rules if _within(times, now - rule.seconds) >= rule.anomalies]
        if not broken:
            return None
        del self._counted[who]
        return self._hold(who, _Held(now, now + max(broken), reason))

    def release(self, name: str) -> int:
        """Let every client of this name go, and forget its anomalies; how many were held."""
        self._released[name] = self._clock()
        self._released.move_to_end(name)
        if len(self._released) > MAX_COUNTED:
            self._released.popitem(last=False)
        for who in [each for each in self._counted if each[1] == name]:
            del self._counted[who]
        held = [each for each in self._held if each[1] == name]
        for who in held:
            del self._held[who]
        return len(held)

    def spread(self, told: Sequence[Quarantined]) -> int:
        """Hold whom other replicas hold, unless released here since then; how many are new.

        Raises:
            ValueError: a time is none.
        """
        read = [(each, _seconds(each.since), _seconds(each.until)) for each in told]
        now, new = self._clock(), 0
        for each, since, until in read if self._rules else ():
            who = (each.issuer, each.client)
            if until <= now or since <= self._released.get(each.client, 0.0) or who in self._held:
                continue
            self._hold(who, _Held(since, min(until, now + _LONGEST), each.reason))
            new += 1
        return new

    def told(self) -> tuple[Quarantined, ...]:
        """All that are held now, but for a security test: it is held here alone, and nobody is to be told of it."""
        now = self._clock()
        for who in [who for who, held in self._held.items() if held.until <= now]:
            del self._held[who]
        return tuple(_told(who, held) for who, held in self._held.items() if not who[1].startswith(SUBJECT))

    def __len__(self) -> int:
        return len(self.told())

    def _hold(self, who: _Who, held: _Held) -> Quarantined:
        self._held[who] = held
        if len(self._held) > MAX_QUARANTINED:
            self._held.popitem(last=False)
        return _told(who, held)


def _within(times: deque[float], since: float) -> int:
    return sum(each > since for each in times)


def _told(who: _Who, held: _Held) -> Quarantined:
    issuer, name = who
    return Quarantined(name, issuer, rfc3339(held.since), rfc3339(held.until), held.reason)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
