"""What a value is to a treatment: its kind, its canonical bytes, and the one error for what cannot be treated.

A treatment gives a treated value or raises `TreatmentError`. It never gives the value that it could not treat, and no
message holds one.
"""

import math
import re
import unicodedata
from datetime import date, datetime, time, timedelta
from typing import Any

_NUMBER = re.compile(r"[+-]?(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ]([01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?(?:Z|[+-][0-2]\d:?[0-5]\d)?)?",
    re.ASCII,
)
MAX_NUMBER_TEXT = 64
MAX_DATE_TEXT = 40
TEXT = b"s:"


class TreatmentError(ValueError):
    """A value that a treatment cannot treat; the message says what it needs, never what came."""


def canonical(value: Any) -> bytes:
    """The bytes that stand for `value` under a key: equal for equal values, different for different kinds.

    Text is taken in Unicode's canonical composition (NFC), so that two spellings of one name are one value. Whole
    numbers are equal whatever type holds them.

    Raises:
        TreatmentError: None, NaN, an infinity, text that is no Unicode, or a type that is no value of a field.
    """
    if isinstance(value, str):
        return TEXT + text_bytes(value)
    if isinstance(value, bool):
        return b"b:1" if value else b"b:0"
    if isinstance(value, int):
        return b"n:%d" % value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TreatmentError("needs a finite number")
        return b"n:%d" % int(value) if value.is_integer() else b"n:" + repr(value).encode()
    if isinstance(value, date | datetime | time):
        return b"d:" + value.isoformat().encode()
    if isinstance(value, bytes):
        return b"x:" + value
    raise TreatmentError("needs text, a number or a date")


def text_bytes(value: str) -> bytes:
    """UTF-8 of `value` in NFC. Raises TreatmentError for lone surrogates, which are no text."""
    try:
        return (value if value.isascii() else unicodedata.normalize("NFC", value)).encode()
    except UnicodeEncodeError:
        raise TreatmentError("needs text in Unicode, without lone surrogates") from None


def number(value: Any) -> float:
    """`value` as a finite number. Raises TreatmentError for anything else: a boolean is not a number."""
    if type(value) is float and math.isfinite(value):  # what most are
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TreatmentError("needs a number")
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise TreatmentError("needs a finite number")
    return value


def number_in(text: str) -> float | None:
    """The number that `text` writes in decimal, whole numbers exactly; None if it writes none, or an infinite one."""
    stripped = text.strip()
    if len(stripped) > MAX_NUMBER_TEXT or not _NUMBER.fullmatch(stripped):
        return None
    try:
        return int(stripped)
    except ValueError:
        found = float(stripped)
        return found if math.isfinite(found) else None


def date_in(text: str) -> tuple[date, str] | None:
    """The date that `text` begins with (ISO 8601, extended format) and the time that follows, "" if none does."""
    try:
        if len(text) == 10 and text[4] == text[7] == "-" and text.isascii():  # a date alone: the common case
            return date.fromisoformat(text), ""
        found = _DATE.fullmatch(text) if len(text) <= MAX_DATE_TEXT else None
        return (date.fromisoformat(found[1]), text[10:]) if found else None
    except ValueError:
        return None


def shifted(day: date, days: int) -> date:
    """`day`, so many days later. Raises TreatmentError beyond the years 1 to 9999."""
    try:
        return day + timedelta(days=days)
    except OverflowError:
        raise TreatmentError("needs a date that stays within the years 1 to 9999") from None
