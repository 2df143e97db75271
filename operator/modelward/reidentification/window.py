"""Samples of the last 30 days, in days, so that whoever came once long ago shares a combination with nobody now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from modelward.reidentification.sample import Packed, Sample

DAYS: Final = 30
_SECONDS: Final = 86_400


class Window:
    """A sample of each of the last `DAYS` days. Memory: some 41 KiB a day, and 1 MiB for those that are worked with.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._day = 0
        self._today = Sample()
        self._past = Sample()  # all of `_days` together
        self._days: deque[tuple[int, Packed]] = deque()
        self.since = clock()

    def today(self) -> Sample:
        """The sample of today, to be added to."""
        day = int(self._clock() // _SECONDS)
        if day > self._day:
            self._turn(day)
        return self._today

    def total(self) -> Sample:
        """The sample of the whole window."""
        today, total = self.today(), Sample()
        total.merge(self._past)
        total.merge(today)
        return total

    @property
    def begins(self) -> float:
        """When the rows that are counted began to come, seconds since the epoch."""
        return max(self.since, (self._days[0][0] if self._days else self._day) * float(_SECONDS))

    def _turn(self, day: int) -> None:
        if self._today.rows:
            self._days.append((self._day, self._today.pack()))
        while self._days and self._days[0][0] <= day - DAYS:
            self._days.popleft()
        self._day, self._today, self._past = day, Sample(), Sample()
        for _, packed in self._days:
            self._past.merge(Sample.unpack(packed))
