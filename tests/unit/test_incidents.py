from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelward import incidents
from modelward.incidents import check, is_body, token
from modelward.signedtoken import HEADER, MAX_BYTES, TokenError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = 1_800_000_000.0
MODEL = "clinic/wdbc"


def made(**changes: Any) -> bytes:
    arguments: dict[str, Any] = {"model": MODEL, "method": "GET", "path": incidents.INCIDENTS, "now": NOW} | changes
    return token(changes.pop("sign", KEY.sign), **{n: v for n, v in arguments.items() if n != "sign"}).encode()


def holds(shown: bytes, **changes: Any) -> bool:
    arguments: dict[str, Any] = {"model": MODEL, "method": "GET", "path": incidents.INCIDENTS, "now": NOW} | changes
    try:
        check(shown, KEY.public_key(), **arguments)
    except TokenError:
        return False
    return True


def test_a_token_is_for_one_request_of_one_minute() -> None:
    shown = made()
    assert holds(shown)
    assert holds(shown, now=NOW + 80)
    for changes in (
        {"model": "clinic/other"},
        {"method": "POST"},
        {"path": incidents.RELEASE},
        {"now": NOW + 91},
        {"now": NOW - 31},
    ):
        assert not holds(shown, **changes), changes


def test_a_token_is_for_one_body() -> None:
    digest = check(made(body=b"this"), KEY.public_key(), MODEL, "GET", incidents.INCIDENTS, NOW)
    assert is_body(b"this", digest)
    assert not is_body(b"that", digest)


def test_a_jwt_library_reads_it() -> None:
    untimed = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(made(), KEY.public_key(), ["EdDSA"], untimed, audience=incidents.AUDIENCE)
    assert claims["exp"] - claims["iat"] == 60
    assert (claims["sub"], claims["htm"], claims["htu"]) == (MODEL, "GET", "/.modelward/incidents")


def test_no_other_key_or_algorithm_passes() -> None:
    assert not holds(made(sign=Ed25519PrivateKey.generate().sign))
    claims = json.loads(base64.urlsafe_b64decode(made().split(b".")[1] + b"=="))
    public = KEY.public_key().public_bytes_raw()
    assert not holds(jwt.encode(claims, "", "none").encode())
    assert not holds(jwt.encode(claims, public, "HS256").encode())
    long = {**claims, "exp": claims["exp"] + 3600}
    assert not holds(jwt.encode(long, KEY, "EdDSA").encode())
    assert not holds(jwt.encode({**claims, "more": 1}, KEY, "EdDSA").encode())


def test_a_configurations_signature_is_no_token() -> None:
    document = b'{"binding": {}}'
    shown = document + b"." + base64.urlsafe_b64encode(KEY.sign(document))
    assert not holds(shown)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_token_does_not_hold(at: int, change: int) -> None:
    shown = bytearray(made())
    shown[at % len(shown)] ^= change
    assert not holds(bytes(shown))


@given(st.binary(max_size=300))
def test_whatever_is_shown_is_judged(shown: bytes) -> None:
    assert not holds(shown)
    assert not holds(HEADER + b"." + shown)


@pytest.mark.parametrize("size", [MAX_BYTES + 1, 1 << 20])
def test_a_long_one_is_not_looked_at(size: int) -> None:
    assert not holds(b"a" * size)
