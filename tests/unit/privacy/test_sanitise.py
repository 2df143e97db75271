from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.sanitise import text, texts
from modelward.privacy.values import TreatmentError

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
NASTY = st.text(
    st.sampled_from("ab \u0301\u0308\u202e\u2066\ufeff\u200b\x00\x1b\x85\u1100\u1161\uac00\ufb01\uff21\n"), max_size=30
)


@given(ANY | NASTY, st.sampled_from(["NFC", "NFKC"]))
def test_sanitised_text_stays_as_it_is(value: str, form: str) -> None:
    once = text(value, form)
    assert text(once, form) == once
    assert unicodedata.is_normalized(form, once)


@given(ANY | NASTY)
def test_nothing_deceiving_is_left(value: str) -> None:
    cleaned = text(value)
    assert not any(unicodedata.category(char) == "Cc" and char not in "\t\n\r" for char in cleaned)
    assert not set(cleaned) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\ufeff")


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("Mu\u0308ller", "Müller"),
        ("access\u202e level", "access level"),
        ("a\x00b\x1b[31m", "ab[31m"),
        ("line\r\n\tnext", "line\r\n\tnext"),
        ("pass\u200bword", "password"),
        ("\U000e0041\U000e0042x", "x"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("e" + "\u0323" * 30, "\u1eb9" + "\u0323" * 7),
        ("\uff21", "\uff21"),
    ],
)
def test_texts(value: str, cleaned: str) -> None:
    assert text(value) == cleaned


@given(st.lists(st.text(max_size=5), max_size=5))
def test_many_texts_are_each_what_one_is(values: list[str]) -> None:
    assert texts(values) == [text(value) for value in values]


def test_compatibility_folds_full_width_letters() -> None:
    assert text("\uff21\ufb01", "NFKC") == "Afi"


@pytest.mark.parametrize("value", [None, 5, b"x", "\ud800", "a" * 11])
def test_what_is_no_text_is_an_error_without_it(value: object) -> None:
    with pytest.raises(TreatmentError) as told:
        text(value, max_length=10)
    assert repr(value) not in str(told.value)
