from __future__ import annotations

import base64
import hmac
import math
import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.keys import KeyFileError, Keys, derive, from_bytes
from modelward.privacy.pseudonym import FORM, LENGTH, Pseudonymiser, pseudonyms
from modelward.privacy.values import TreatmentError

MASTERS = {1: bytes(range(32)), 2: bytes(range(32, 64))}
CLINIC = derive(MASTERS, "clinic")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
VALUES = TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.dates()


@given(VALUES)
def test_a_pseudonym_has_one_form_and_length(value: object) -> None:
    pseudonym = Pseudonymiser(CLINIC, "name")(value)
    assert len(pseudonym) == LENGTH
    assert FORM.fullmatch(pseudonym)
    assert pseudonym.startswith("p02_")
    assert pseudonym == Pseudonymiser(CLINIC, "name")(value)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=60))
def test_no_value_is_in_its_pseudonym(value: str) -> None:
    assert value not in Pseudonymiser(CLINIC, "name")(value)


@given(VALUES, VALUES)
def test_different_values_have_different_pseudonyms(one: object, other: object) -> None:
    pseudonymise = Pseudonymiser(CLINIC, "name")
    same = (type(one) is type(other) or bool not in {type(one), type(other)}) and one == other
    if isinstance(one, str) and isinstance(other, str):
        same = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)
    assert (pseudonymise(one) == pseudonymise(other)) is same


@given(TEXT)
def test_field_namespace_and_version_separate(value: str) -> None:
    other_place = derive(MASTERS, "ward")
    made = [
        Pseudonymiser(CLINIC, "name")(value),
        Pseudonymiser(CLINIC, "ssn")(value),
        Pseudonymiser(other_place, "name")(value),
        Pseudonymiser(CLINIC, "name", version=1)(value),
    ]
    assert len({one[4:] for one in made}) == 4


@given(TEXT)
def test_it_is_hmac_sha_256(value: str) -> None:
    message = b"s:" + unicodedata.normalize("NFC", value).encode()
    tag = hmac.digest(CLINIC.domain("pseudonym", "name"), message, "sha256")[:16]
    assert Pseudonymiser(CLINIC, "name")(value)[4:] == tag.hex()


def test_a_known_answer() -> None:
    # Fixed for good: records of years bear these.
    assert Pseudonymiser(derive({1: bytes(32)}, "clinic"), "name")("Ada") == "p01_1ab2e5bf8c77e8da51c47633107fdf96"


def test_after_a_rotation_both_pseudonyms_are_read() -> None:
    before = derive({1: MASTERS[1]}, "clinic")
    old = Pseudonymiser(before, "name")("Ada")
    new = Pseudonymiser(CLINIC, "name")("Ada")
    assert pseudonyms(CLINIC, "name", "Ada") == (new, old)


def test_two_spellings_of_a_name_are_one_person() -> None:
    pseudonymise = Pseudonymiser(CLINIC, "name")
    assert pseudonymise("Mu\u0308ller") == pseudonymise("M\u00fcller")
    assert pseudonymise(1) == pseudonymise(1.0) != pseudonymise("1")
    assert pseudonymise(-0.0) == pseudonymise(0)
    assert pseudonymise(True) != pseudonymise(1)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, [], {}, "\ud800"], ids=repr)
def test_what_is_no_value_is_an_error(value: object) -> None:
    with pytest.raises(TreatmentError):
        Pseudonymiser(CLINIC, "name")(value)


def test_keys_go_through_their_file_and_show_themselves_nowhere() -> None:
    read = from_bytes(CLINIC.to_bytes())
    assert read.to_bytes() == CLINIC.to_bytes()
    assert read.versions == (2, 1)
    assert read.domain("pseudonym", "name") == CLINIC.domain("pseudonym", "name")
    assert read.domain("pseudonym", "name") not in (CLINIC.domain("date-shift", "name"), MASTERS[2])
    assert str(CLINIC.domain("pseudonym", "name")) not in repr(CLINIC) + str(CLINIC)
    assert not any(
        master in CLINIC.to_bytes() or base64.b64encode(master) in CLINIC.to_bytes() for master in MASTERS.values()
    )


@given(
    st.binary(max_size=300)
    | st.sampled_from(
        [
            b"{}",
            b"[]",
            b'{"namespace":"x","versions":{}}',
            b'{"namespace":"x","versions":{"a":"AA=="}}',
            b'{"namespace":"x","versions":{"1":"AA=="}}',
            b"[" * 5000,
        ]
    )
)
def test_a_file_that_is_no_key_file_is_refused(content: bytes) -> None:
    with pytest.raises(KeyFileError):
        from_bytes(content)


@pytest.mark.parametrize(
    "versions", [{}, {0: bytes(32)}, {100: bytes(32)}, {1: bytes(31)}, dict.fromkeys(range(1, 10), bytes(32))]
)
def test_keys_that_cannot_be_used_are_refused(versions: dict[int, bytes]) -> None:
    with pytest.raises(KeyFileError):
        Keys("clinic", versions)


def test_a_short_master_is_refused() -> None:
    with pytest.raises(KeyFileError, match="32 bytes"):
        derive({1: os.urandom(16)}, "clinic")
