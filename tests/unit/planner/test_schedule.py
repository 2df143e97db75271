from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.planner.schedule import ScheduleError, read_schedule

NOW = datetime(2026, 6, 10, 12, 34, 56, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("* * * * *", "2026-06-10T12:34"),
        ("@hourly", "2026-06-10T12:00"),
        ("@daily", "2026-06-10T00:00"),
        ("@weekly", "2026-06-07T00:00"),
        ("@monthly", "2026-06-01T00:00"),
        ("@yearly", "2026-01-01T00:00"),
        ("0 3 * * 1", "2026-06-08T03:00"),
        ("0 3 * * mon", "2026-06-08T03:00"),
        ("0 3 * * 0", "2026-06-07T03:00"),
        ("0 3 * * 7", "2026-06-07T03:00"),
        ("35 12 * * *", "2026-06-09T12:35"),
        ("*/15 * * * *", "2026-06-10T12:30"),
        ("5/20 9-11 * * *", "2026-06-10T11:45"),
        ("0 0 29 2 *", "2024-02-29T00:00"),
        ("0 0 31 jan,dec ?", "2026-01-31T00:00"),
        ("0 0 13 * fri", "2026-06-05T00:00"),  # both days are restricted: either will do, as in cron
        ("0 0 */2 * wed", "2026-06-10T00:00"),
    ],
)
def test_the_last_time_that_was_due(text: str, last: str) -> None:
    assert read_schedule(text).last(NOW) == datetime.fromisoformat(last).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 0 fields, and a schedule has 5"),
        ("0 3 * *", "it has 4 fields"),
        ("60 3 * * *", "the minute is from 0 to 59"),
        ("0 24 * * *", "the hour is from 0 to 23"),
        ("0 0 0 * *", "the day of the month is from 1 to 31"),
        ("0 0 * 13 *", "the month is from 1 to 12"),
        ("0 0 * * 8", "the day of the week is from 0 to 7"),
        ("0 0 * * monday", "'monday' is no day of the week"),
        ("5-1 * * * *", "the minute is from"),
        ("*/0 * * * *", "a step is 1 or more"),
        ("1,,2 * * * *", "'' is no minute"),
        ("-1 * * * *", "'-1' is no minute"),
        ("1e1 * * * *", "is no minute"),
        ("0 0 30 2 *", "no such day ever comes"),
        ("@reboot", "it has 1 field, and"),
        ("TZ=Europe/Vienna 0 3 * * *", "write the hours in UTC"),
    ],
)
def test_what_is_no_schedule_is_told_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ScheduleError, match=why.replace("(", r"\(")):
        read_schedule(text)


@given(st.text(max_size=40))
def test_whatever_is_written_is_a_schedule_or_told(text: str) -> None:
    try:
        found = read_schedule(text)
    except ScheduleError:
        return
    last = found.last(NOW)
    assert last is not None
    assert last <= NOW


@given(
    st.integers(0, 59),
    st.integers(0, 23),
    st.sets(st.integers(0, 6), min_size=1),
    st.datetimes(datetime(2024, 1, 1), datetime(2040, 1, 1)),
)
def test_what_was_due_is_the_latest_minute_that_fits(
    minute: int, hour: int, weekdays: set[int], when: datetime
) -> None:
    when = when.replace(tzinfo=UTC)
    found = read_schedule(f"{minute} {hour} * * {','.join(map(str, weekdays))}").last(when)
    at = when.replace(hour=hour, minute=minute, second=0, microsecond=0)
    expected = next(
        day
        for day in (at - timedelta(days=back) for back in range(9))
        if day <= when and day.isoweekday() % 7 in weekdays
    )
    assert found == expected
