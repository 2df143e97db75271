from __future__ import annotations

import collections
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.dates import DateShift
from modelward.privacy.keys import derive
from modelward.privacy.mask import Mask, mask_identifiers
from modelward.privacy.values import TreatmentError

KEYS = derive({1: bytes(32)}, "clinic")
DAYS = st.dates(date(200, 1, 1), date(9800, 1, 1))
SUBJECTS = st.text(st.characters(exclude_categories=["Cs"])) | st.integers()


@given(SUBJECTS, DAYS, DAYS, st.integers(1, 36525))
def test_intervals_of_one_subject_are_kept_and_no_date_is(subject: object, one: date, other: date, most: int) -> None:
    shift = DateShift(KEYS, "patient", most)
    moved, also = shift(one, subject), shift(other, subject)
    assert also - moved == other - one
    assert 1 <= abs((moved - one).days) <= most
    assert shift(one.isoformat(), subject) == moved.isoformat()


def test_every_shift_is_as_likely() -> None:
    shift = DateShift(KEYS, "patient", 3)
    counts = collections.Counter(shift.days(subject) for subject in range(6000))
    assert set(counts) == {-3, -2, -1, 1, 2, 3}
    assert all(850 <= count <= 1150 for count in counts.values())


def test_subjects_differ_and_keys_do() -> None:
    one, other = DateShift(KEYS, "patient", 36525), DateShift(derive({1: bytes(32)}, "ward"), "patient", 36525)
    assert one.days("Ada") != one.days("Eve")
    assert one.days("Ada") != other.days("Ada")
    assert one.days("Ada") != DateShift(KEYS, "doctor", 36525).days("Ada")


def test_the_form_and_the_time_of_day_are_kept() -> None:
    shift = DateShift(KEYS, "patient", 30)
    day = shift("2026-03-31", "Ada")
    for rest in ("T08:30:00Z", " 23:59", "T08:30:00.123456+02:00"):
        assert shift("2026-03-31" + rest, "Ada") == day + rest
    moment = datetime(2026, 3, 31, 8, 30, tzinfo=UTC)
    assert shift(moment, "Ada") == datetime.combine(date.fromisoformat(day), moment.timetz())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "31.03.2026",
        "2026-02-30",
        "2026-03-31T25:00",
        "2026-03-31 Miller",
        "20260331",
        20260331,
        1.5,
        None,
        "٢٠٢٦-٠٣-٣١",
    ],
)
def test_what_is_no_date_is_an_error_without_the_value(value: object) -> None:
    with pytest.raises(TreatmentError, match="ISO 8601") as told:
        DateShift(KEYS, "patient", 30)(value, "Ada")
    assert not value or str(value) not in str(told.value)


@pytest.mark.parametrize("value", ["0001-01-01", "9999-12-31"])
def test_the_calendar_ends(value: str) -> None:
    shift = DateShift(KEYS, "patient", 30)
    sign = -1 if value[0] == "0" else 1
    subject = next(subject for subject in range(100) if shift.days(subject) * sign > 0)
    with pytest.raises(TreatmentError, match="years 1 to 9999"):
        shift(value, subject)


def test_a_date_of_nobody_is_an_error() -> None:
    with pytest.raises(TreatmentError):
        DateShift(KEYS, "patient", 30)("2026-03-31", None)


@given(st.text(min_size=1), st.integers(0, 64))
def test_a_mask_shows_at_most_half(value: str, keep: int) -> None:
    masked = Mask(keep)(value)
    shown = masked[4:]
    assert masked[:4] == "****"
    assert value.endswith(shown)
    assert len(shown) == min(keep, len(value) // 2)


def test_masks() -> None:
    assert Mask(4)("4532 0151 1283 0366") == "****0366"
    assert Mask(4)(12345) == "****45"
    assert Mask(0)("secret") == Mask(64)("") == "****"
    assert Mask(4)(Mask(4)("4532015112830366")) == "****0366"


@pytest.mark.parametrize("value", [None, 1.5, True, b"x", []])
def test_what_cannot_be_masked_is_an_error(value: object) -> None:
    with pytest.raises(TreatmentError):
        Mask(2)(value)


@given(
    st.text(max_size=60), st.sampled_from(["ada@example.org", "4111 1111 1111 1111", "+44 7700 900 123", "192.0.2.1"])
)
def test_of_free_text_the_identifiers_alone_are_masked(around: str, identifier: str) -> None:
    masked = mask_identifiers(f"{around} ; {identifier} ; {around}")
    assert identifier not in masked
    assert mask_identifiers(masked) == masked


def test_the_rest_of_the_text_stays() -> None:
    assert mask_identifiers("Write to ada@example.org, not to her.") == "Write to [e-mail], not to her."
    for value in (None, 5, "a" * (1 << 20 | 1)):
        with pytest.raises(TreatmentError):
            mask_identifiers(value)
