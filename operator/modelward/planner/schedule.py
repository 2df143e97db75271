"""Schedules as a CronJob of Kubernetes has them: five fields, in UTC, looked at backwards.

What is asked is which time was the last one. Whoever was away finds one time due, not all that it missed.
"""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

_MOST_DAYS = 366 * 8 + 2  # between two 29ths of February around a year that is none of a leap
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if number}
_WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}


class ScheduleError(ValueError):
    """No schedule; the message says what is wrong with it, and what would be one."""


class _Kind(NamedTuple):
    what: str
    least: int
    most: int
    names: Mapping[str, int] = MappingProxyType({})


_FIELDS = (
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of the month", 1, 31),
    _Kind("month", 1, 12, _MONTHS),
    _Kind("day of the week", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Schedule:
    """When something is due: the values that each field may have.

    Attributes:
        minutes: of the hour.
        hours: of the day, in UTC.
        days: of the month.
        months: of the year, from 1.
        weekdays: 0 is Sunday.
        either: both days are restricted: one of them suffices, as in cron.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def last(self, now: datetime) -> datetime | None:
        """Return the latest time that is due and not after `now`; None: there is none within eight years."""
        now = now.astimezone(UTC).replace(second=0, microsecond=0)
        day = now
        for _ in range(_MOST_DAYS):
            if self._is_due_on(day):
                for hour in reversed(self.hours):
                    for minute in reversed(self.minutes):
                        found = day.replace(hour=hour, minute=minute)
                        if found <= now:
                            return found
            day -= timedelta(days=1)
        return None

    def _is_due_on(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return of_month or of_week if self.either else of_month and of_week


def read_schedule(text: str) -> Schedule:
    """Read `minute hour day-of-month month day-of-week`, or one of `@hourly`, `@daily`, `@weekly`, `@monthly`.

    Raises:
        ScheduleError: it is none, or never comes.
    """
    given = _NAMED.get(text.strip().lower(), text)
    parts = given.split()
    if text.strip().startswith(("TZ=", "CRON_TZ=")):
        raise ScheduleError("a time zone cannot be named: write the hours in UTC")
    if len(parts) != len(_FIELDS):
        raise ScheduleError(
            f"it has {len(parts)} field{'' if len(parts) == 1 else 's'}, and a schedule has 5, as in a CronJob:"
            ' "0 3 * * 1" is Mondays at three (UTC)'
        )
    values = [_values(part, kind) for part, kind in zip(parts, _FIELDS, strict=True)]
    free = [part.split("/")[0] in ("*", "?") and "/" not in part for part in (parts[2], parts[4])]
    found = Schedule(
        tuple(sorted(values[0])),
        tuple(sorted(values[1])),
        frozenset(values[2]),
        frozenset(values[3]),
        frozenset(value % 7 for value in values[4]),
        either=not any(free),
    )
    if found.last(datetime(2032, 12, 31, 23, 59, tzinfo=UTC)) is None:
        raise ScheduleError("no such day ever comes")
    return found


def _values(text: str, kind: _Kind) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        every = _number(step, kind, part) if slash else 1
        if every < 1:
            raise ScheduleError(f"{part!r}: a step is 1 or more")
        if span in ("*", "?"):
            first, last = kind.least, kind.most
        else:
            begins, dash, ends = span.partition("-")
            first = _number(begins, kind, part)
            last = _number(ends, kind, part) if dash else kind.most if slash else first
        if not kind.least <= first <= last <= kind.most:
            raise ScheduleError(f"{part!r}: the {kind.what} is from {kind.least} to {kind.most}")
        found.update(range(first, last + 1, every))
    return found


def _number(text: str, kind: _Kind, part: str) -> int:
    named = kind.names.get(text.lower())
    if named is not None:
        return named
    if not text.isascii() or not text.isdigit() or len(text) > 3:
        raise ScheduleError(f"{part!r} is no {kind.what}")
    return int(text)
