"""How many Events an hour are written about one object, where it is sidecars that say what they are about.

A sidecar reads strangers' bytes and may be another's by now: it can make clients, detectors and findings up. What is
new may be told so often, and what was told already, whose count rises, as often again: so whoever makes one Event's
count rise at every look leaves room for what is new. The rest is counted.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

NEW: Final = 48
AGAIN: Final = 48
"""Events an hour and object that are made, and those that are told again."""
HOUR: Final = timedelta(hours=1)
BETWEEN: Final = timedelta(minutes=5)
"""Between two Events about what was withheld."""
_MAX_OBJECTS: Final = 4096


class _Hour:
    """One object's last hour: when which Event was made, when any was told again, and what was withheld since."""

    __slots__ = ("again", "made", "owed", "told_at")

    def __init__(self) -> None:
        self.made: deque[tuple[datetime, str]] = deque()
        self.again: deque[datetime] = deque()
        self.owed = 0
        self.told_at: datetime | None = None


class EventBudget:
    """The budgets of all objects. `clock` gives the time in UTC; those longest unseen are forgotten."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._hours: OrderedDict[str, _Hour] = OrderedDict()

    def take(self, about: str, topic: str) -> bool:
        """Return whether an Event of this topic may be written about an object now; otherwise it is counted."""
        now = self._clock()
        hour = self._of(about, now)
        known = any(told == topic for _, told in hour.made)
        if known and len(hour.again) < AGAIN:
            hour.again.append(now)
            return True
        if not known and len(hour.made) < NEW:
            hour.made.append((now, topic))
            return True
        hour.owed += 1
        return False

    def owed(self, about: str) -> int:
        """Return how many were withheld and are to be told of now; they are then no longer owed."""
        hour = self._hours.get(about)
        if hour is None or not hour.owed:
            return 0
        now = self._clock()
        if hour.told_at is not None and _within(BETWEEN, hour.told_at, now):
            return 0
        owed, hour.owed, hour.told_at = hour.owed, 0, now
        return owed

    def _of(self, about: str, now: datetime) -> _Hour:
        hour = self._hours.setdefault(about, _Hour())
        self._hours.move_to_end(about)
        if len(self._hours) > _MAX_OBJECTS:
            self._hours.popitem(last=False)
        while hour.made and not _within(HOUR, hour.made[0][0], now):
            hour.made.popleft()
        while hour.again and not _within(HOUR, hour.again[0], now):
            hour.again.popleft()
        return hour


def _within(span: timedelta, then: datetime, now: datetime) -> bool:
    """Whether it was that lately; what is yet to come was written when a clock was ahead, and is long over."""
    return timedelta(0) <= now - then < span
