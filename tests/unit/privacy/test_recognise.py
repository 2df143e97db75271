from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy import checksums
from modelward.privacy.recognise import MAX_TEXT, find, redact
from tests.fuzz.free_text import TARGET

# Numbers that their issuers publish as examples, and ones made by the rules; they are nobody's.
SEEN = [
    ("card", "4532 0151 1283 0366"),
    ("card", "4111-1111-1111-1111"),
    ("card", "378282246310005"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("iban", "fr1420041010050500013m02606"),
    ("e-mail", "ada.lovelace+x@mail.example.org"),
    ("e-mail", "jürgen@müller.example"),
    ("ip-address", "192.0.2.1"),
    ("ip-address", "2001:db8::8a2e:370:7334"),
    ("ip-address", "::ffff:192.0.2.1"),
    ("ssn", "123-45-6789"),
    ("nino", "AB123456C"),
    ("nino", "AB 12 34 56 C"),
    ("nir", "2 69 05 49 588 157 80"),
    ("nir", "255081416802538"),
    ("dni", "12345678Z"),
    ("dni", "X1234567L"),
    ("phone", "+1-984-182-0190"),
    ("phone", "+44 7700 900 123"),
    ("phone", "(602)272-9781"),
    ("phone", "03.93.92.16.85"),
]
SPOKEN_OF = [
    ("ssn", "SSN ", "123456789"),
    ("steuer-id", "Steuer-ID: ", "86095742719"),
    ("steuer-id", "tax number ", "47 036 892 816"),
    ("bsn", "BSN ", "111222333"),
    ("pesel", "PESEL ", "44051401359"),
    ("phone", "call me at ", "467 3395"),
    ("card", "card number ", "060426070011"),
    ("age", "she just turned ", "60"),
    ("age", "at the age of ", "101"),
    ("age", "Written when he was ", "78"),
    ("age", "im Alter von ", "44"),
    ("postcode", "ZIP: ", "94105-1234"),
    ("postcode", "my zip code is ", "880"),
    ("postcode", "PLZ ", "10115"),
    ("postcode", "postcode ", "1012 AB"),
    ("postcode", "Moved to San Francisco, CA ", "94105"),
    ("postcode", "an office in Villeneuve d'Ascq ", "59650"),
    ("postcode", "Ada L.\n12 Main Street\nSpringfield, Ohio ", "45501"),
]


@pytest.mark.parametrize(("kind", "text"), SEEN)
@pytest.mark.parametrize("around", ["{}", "It is {}.", "({})", "«{}», he said", "{}\n{}", "x={} "])
def test_an_identifier_is_found_where_it_stands(kind: str, text: str, around: str) -> None:
    sentence = around.format(text, text)
    found = find(sentence)
    assert {one.kind for one in found} == {kind}
    assert {sentence[one.start : one.end].strip("(") for one in found} == {text.strip("(")}


@pytest.mark.parametrize(("kind", "words", "text"), SPOKEN_OF)
def test_weak_numbers_need_a_word_that_names_them(kind: str, words: str, text: str) -> None:
    assert [one.kind for one in find(words + text)] == [kind]
    assert kind not in {one.kind for one in find(f"Order {text} came")}


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("This 79 year old female", "79"),
        ("a 24-year-old student", "24"),
        ("I'm 26 y/o.", "26"),
        ("My son is 6 months old", "6"),
        ("I'm 31, and you?", "31"),
        ("45 años de edad", "45"),
        ("ein 52-jähriger Mann", "52"),
    ],
)
def test_an_age_is_told_by_the_words_beside_it(text: str, age: str) -> None:
    assert [(one.kind, text[one.start : one.end]) for one in find(text)] == [("age", age)]


@pytest.mark.parametrize("text", ["SW1A 1AA", "K1A 0B1"])
def test_a_postcode_of_letters_and_digits_in_turn_needs_no_word(text: str) -> None:
    assert [one.kind for one in find(f"Send it to {text}.")] == ["postcode"]


def test_redacting_leaves_no_age_and_no_postcode() -> None:
    assert redact("I'm 31 y/o, zip 94105, call 467 3395") == "I'm [age] y/o, zip [postcode], call [phone]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I'm 31 minutes late",
        "she is 90% sure",
        "turned 180 degrees",
        "page 31 of 40",
        "130 years old",
        "8 years of experience",
        "a zip file of 2019",
        "in Python 2019",
        "in May 2026",
        "reference 94105",
        "zip code or phone: 46733",
        "rows\n12345\n67890",
        "radius 17.99, texture 10.38",
        "4532 0151 1283 0367",  # Luhn
        "GB82WEST12345698765433",
        "GB82WEST123456987654321",
        "BG123456A",
        "12345678A",
        "269054958815781",
        "999.1.1.1 and 1.2.3",
        "12:30:45",
        "a::b::c",
        "std::vector",
        "user@localhost",
        "@handle and @ again",
        "2026-03-31 and 31.03.2026",
        "from 1998-2004",
        "17151 2450 Crown Street",
        "0.12345678",
        "3.141592653589793",
        "x1234567890123",
    ],
)
def test_what_only_looks_like_one_is_left(text: str) -> None:
    assert find(text) == []


@pytest.mark.parametrize("text", ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000"])
def test_numbers_that_were_never_given_are_no_ssn(text: str) -> None:
    assert "ssn" not in {one.kind for one in find(text)}


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (checksums.luhn, "4532015112830366"),
        (checksums.iban, "DE89370400440532013000"),
        (checksums.steuer_id, "86095742719"),
        (checksums.nir, "269054958815780"),
        (checksums.bsn, "111222333"),
        (checksums.pesel, "44051401359"),
    ],
)
def test_every_single_wrong_digit_is_seen(check, good: str) -> None:
    assert check(good)
    for at, digit in enumerate(good):
        if digit.isdecimal():
            for other in set("0123456789") - {digit}:
                assert not check(good[:at] + other + good[at + 1 :]), (at, other)


@given(st.text(max_size=200) | st.text("0123456789 .-:@abcdef+()x", max_size=200))
def test_what_is_found_is_in_order_and_does_not_overlap(text: str) -> None:
    found = find(text)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    assert all(0 <= one.start < one.end <= len(text) for one in found)


@given(st.lists(st.sampled_from([text for _, text in SEEN]), min_size=1, max_size=4))
def test_redacting_leaves_none_of_them(texts: list[str]) -> None:
    redacted = redact("; ".join(texts))
    assert not any(text in redacted for text in texts)
    assert find(redacted) == []


HOSTILE = [
    "1 ",
    "1-",
    "a@",
    "@",
    "a" * 63 + "\0@",
    "a.",
    "1.",
    "f:",
    "::",
    "GB82 ",
    "GB82",
    "(1",
    "+1 ",
    "12:",
    "card 4",
    "9" * 40,
    "zip ",
    "zip 1",
    "in " + "A" * 31 + " ",
    "\n" + ("A" * 31 + " ") * 6,
    "\nA A 1",
    "I'm 3 ",
    "age 1",
    "CA 9410",
    "A1A 1A",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_takes_long(text: str) -> None:
    size = 1 << 17
    began = time.process_time()
    find((text * size)[:size])
    assert time.process_time() - began < 20  # 128 KiB; a pattern that backtracks would take hours


@pytest.mark.parametrize("content", TARGET.seeds().values(), ids=TARGET.seeds())
def test_what_was_fuzzed_is_in_order(content: bytes) -> None:
    TARGET.one(content)


def test_a_text_is_bounded() -> None:
    with pytest.raises(ValueError, match="at most"):
        find("a" * (MAX_TEXT + 1))


def test_what_is_found_can_be_logged() -> None:
    assert "ada@example.org" not in repr(find("ada@example.org"))
