"""Counts of the last 30 days, in days: what was long ago does not hide what is now, nor is it held against a model."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable

DAYS = 30
_SECONDS = 86_400


class Window:
    """So many counters, each summed over the last `DAYS` days. Memory: 8 bytes a counter and day.

    Args:
        width: how many counters.
        clock: seconds since the epoch.
    """

    def __init__(self, width: int, clock: Callable[[], float]) -> None:
        self._width = width
        self._clock = clock
        self._days: deque[tuple[int, array[int]]] = deque()

    def today(self) -> array[int]:
        """The counters of today, to be added to."""
        day = int(self._clock() // _SECONDS)
        if not self._days or self._days[-1][0] < day:
            self._days.append((day, array("q", bytes(8 * self._width))))
            self._forget(day)
        return self._days[-1][1]

    def totals(self) -> list[int]:
        """The sums."""
        self._forget(int(self._clock() // _SECONDS))
        return [sum(values) for values in zip(*(counts for _, counts in self._days), strict=True)] or [0] * self._width

    @property
    def since(self) -> float | None:
        """When the first of the days began, seconds since the epoch; None: nothing was counted."""
        return self._days[0][0] * _SECONDS if self._days else None

    def _forget(self, day: int) -> None:
        while self._days and self._days[0][0] <= day - DAYS:
            self._days.popleft()
