"""How lists are cut short, and texts and times written, wherever they are told."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from modelward.wording import MAX_MESSAGE, names, one_line, rfc3339, sentences


def test_what_is_left_out_is_counted() -> None:
    assert names(["a", "b"], 2) == "a, b"
    assert names(["a", "b", "c"], 2) == "a, b and 1 more"
    assert sentences(["a, too", "b", "c", "d"], 2) == "a, too; b; and 2 more"
    assert names([]) == sentences([]) == ""


@given(st.lists(st.text("abc", min_size=1)), st.integers(1, 9))
def test_each_is_listed_or_counted(items: list[str], most: int) -> None:
    for told, separator in ((names(iter(items), most), ", "), (sentences(iter(items), most), "; ")):
        left = len(items) - most
        assert told.endswith(f"and {left} more") is (left > 0)
        assert told.startswith(separator.join(items[:most]))


@given(st.text(), st.integers(4, 50))
def test_a_message_is_one_line_of_bounded_length(text: str, limit: int) -> None:
    told = one_line(text, limit)
    assert len(told) <= limit
    assert len(told.splitlines()) <= 1
    assert one_line(told, limit) == told
    assert len(one_line(text * 2000)) <= MAX_MESSAGE


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC)), st.integers(-14, 14))
def test_a_time_is_written_in_utc_to_the_second(moment: datetime, hours: int) -> None:
    elsewhere = moment.astimezone(timezone(timedelta(hours=hours)))
    assert rfc3339(elsewhere) == rfc3339(moment)
    assert datetime.fromisoformat(rfc3339(moment)) == moment.replace(microsecond=0)
