"""Tokens that must not be taken: what is changed in them, and that nobody's key has signed them."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack import tokens

_EC, _ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
_CLAIMS = {"iss": "https://login.example", "aud": "m", "sub": "alice", "exp": int(time.time()) + 600}
_GOOD = {
    "ES256": (jwt.encode(_CLAIMS, _EC, "ES256", headers={"kid": "k"}), _EC.public_key()),
    "EdDSA": (jwt.encode(_CLAIMS, _ED, "EdDSA", headers={"kid": "k"}), _ED.public_key()),
}


@pytest.mark.parametrize("algorithm", _GOOD)
def test_none_that_is_made_of_a_good_token_is_good(algorithm: str) -> None:
    token, key = _GOOD[algorithm]
    assert jwt.decode(token, key, [algorithm], audience="m")
    parts = tokens.parts_of(token)
    assert parts is not None
    assert parts.claims["sub"] == "alice"
    made = [*tokens.unsigned(parts), *tokens.resigned(parts), tokens.changed(parts, exp=1), *tokens.GARBAGE]
    made += [*tokens.unsigned(tokens.made_up(_CLAIMS)), *tokens.resigned(tokens.made_up(_CLAIMS))]
    assert token not in made
    assert len(set(made)) == len(made)
    for one in made:
        with pytest.raises(jwt.PyJWTError):
            jwt.decode(one, key, [algorithm], audience="m")


def test_what_is_changed_is_the_claim_that_is_named() -> None:
    parts = tokens.parts_of(_GOOD["ES256"][0])
    assert parts is not None
    changed = tokens.parts_of(tokens.changed(parts, aud="other"))
    assert changed is not None
    assert changed.claims == parts.claims | {"aud": "other"}
    assert (changed.header, changed.signature) == (parts.header, parts.signature)


@given(
    st.text(max_size=60) | st.sampled_from(tokens.GARBAGE) | st.from_regex(r"\A[\w-]{0,8}\.[\w-]{0,8}\.[\w-]{0,8}\Z")
)
def test_what_is_no_token_is_none(text: str) -> None:
    parts = tokens.parts_of(text)
    assert parts is None or isinstance(parts.claims, dict)
