from __future__ import annotations

import base64
import unicodedata

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.tokens import FORM, Opener, Sealer, TokenError, recipient
from modelward.privacy.values import TreatmentError

KEY = X25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
SEALER = Sealer(PUBLIC, "clinic", "ssn")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(TEXT)
def test_the_key_holder_undoes_a_token(value: str) -> None:
    token = SEALER(value)
    assert FORM.fullmatch(token)
    assert Opener(KEY)(token, "clinic", "ssn") == unicodedata.normalize("NFC", value)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=6, max_size=60))
def test_no_value_is_in_its_token(value: str) -> None:
    token = SEALER(value)
    assert value not in token
    assert value.encode() not in base64.urlsafe_b64decode(token[3:] + "==")


def test_two_tokens_of_one_value_cannot_be_linked_and_hide_its_length() -> None:
    tokens = {SEALER("Ada"), SEALER("Ada"), SEALER("A" * 31)}
    assert len(tokens) == 3
    assert len({len(token) for token in tokens}) == 1
    assert len({token[113:] for token in tokens}) == 3  # past the sealed seed, which is the process's


def test_a_token_outlives_the_process_that_made_it() -> None:
    opener = Opener(KEY)
    values = [Sealer(PUBLIC, "clinic", "ssn")(f"value {index}") for index in range(5)]
    assert [opener(token, "clinic", "ssn") for token in values] == [f"value {index}" for index in range(5)]


@pytest.mark.parametrize(("namespace", "field"), [("ward", "ssn"), ("clinic", "name"), ("clinic\0", "ssn"), ("", "")])
def test_a_token_is_bound_to_namespace_and_field(namespace: str, field: str) -> None:
    with pytest.raises(TokenError, match="not one of field"):
        Opener(KEY)(SEALER("Ada"), namespace, field)


def test_nobody_else_undoes_it() -> None:
    with pytest.raises(TokenError, match="another key holder"):
        Opener(X25519PrivateKey.generate())(SEALER("Ada"), "clinic", "ssn")


@given(st.integers(0, 1_000), st.integers(1, 255))
def test_a_changed_token_is_refused(at: int, by: int) -> None:
    content = bytearray(base64.urlsafe_b64decode(SEALER("Ada")[3:] + "=="))
    content[at % len(content)] ^= by
    with pytest.raises(TokenError):
        Opener(KEY)("t1." + base64.urlsafe_b64encode(content).rstrip(b"=").decode(), "clinic", "ssn")


@given(st.text(max_size=300) | st.from_regex(FORM, fullmatch=True))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        Opener(KEY)(text, "clinic", "ssn")


@pytest.mark.parametrize("value", [None, 5, 1.5, b"x", "\ud800", "x" * 65537])
def test_what_is_no_text_is_an_error(value: object) -> None:
    with pytest.raises(TreatmentError):
        SEALER(value)


@pytest.mark.parametrize("text", ["", "x", "AAAA", base64.b64encode(bytes(31)).decode(), "ä" * 44])
def test_a_key_that_is_none_is_told(text: str) -> None:
    with pytest.raises(TokenError, match="base64 of a 32-byte X25519 key"):
        recipient(text)


def test_a_key_is_read() -> None:
    assert recipient(base64.b64encode(PUBLIC).decode()) == PUBLIC
    with pytest.raises(TokenError):
        Sealer(b"short", "clinic", "ssn")


def test_a_key_that_would_seal_to_everybody_is_refused() -> None:
    # A point of small order gives a secret that anybody knows (RFC 7748, section 6.1).
    with pytest.raises(TokenError):
        Sealer(bytes(32), "clinic", "ssn")
