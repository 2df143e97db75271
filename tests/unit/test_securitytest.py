from __future__ import annotations

from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelward import incidents
from modelward.securitytest import CALLERS, PATH, SECONDS, STRANGER, Request, Shown, check, token
from modelward.signedtoken import TokenError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
NOW = 1_800_000_000.0
REQUEST = Request("clinic/wdbc", "uid", "baseline", "a" * 64, "b" * 64, "first")
ADDRESS = "10.1.2.3"
SHOWN = token(KEY.sign, REQUEST, 1, ADDRESS, NOW).encode()


def read(shown: bytes = SHOWN, **changes: Any) -> Shown | None:
    arguments: dict[str, Any] = {"model": "clinic/wdbc", "address": ADDRESS, "now": NOW} | changes
    try:
        return check(shown, KEY.public_key(), **arguments)
    except TokenError:
        return None


def test_a_token_names_its_run_and_its_caller_for_half_an_hour() -> None:
    assert read() == (REQUEST.digest[:16], 1, NOW + SECONDS)
    stranger = read(token(KEY.sign, REQUEST, STRANGER, ADDRESS, NOW).encode())
    assert stranger is not None
    assert stranger.number == STRANGER
    assert read(now=NOW + SECONDS - 1) is not None
    assert read(now=NOW - incidents.SKEW_SECONDS) is not None, "clocks of nodes may be apart"
    for changes in (
        {"model": "clinic/other"},
        {"address": "10.1.2.4"},
        {"address": ""},
        {"now": NOW + SECONDS},
        {"now": NOW - incidents.SKEW_SECONDS - 1},
    ):
        assert read(**changes) is None, changes


@given(st.data())
def test_no_byte_of_it_may_be_another(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SHOWN) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != SHOWN[at]))
    assert read(SHOWN[:at] + bytes((other,)) + SHOWN[at + 1 :]) is None


@given(st.binary(max_size=200))
def test_whatever_else_is_shown_is_none(shown: bytes) -> None:
    assert read(shown) is None


def test_it_is_no_order_of_the_controllers_and_an_order_is_no_test() -> None:
    order = incidents.token(KEY.sign, "clinic/wdbc", "GET", incidents.INCIDENTS, NOW).encode()
    assert read(order) is None
    for path in (incidents.INCIDENTS, PATH):
        with pytest.raises(TokenError):
            incidents.check(SHOWN, KEY.public_key(), "clinic/wdbc", "GET", path, NOW)


def test_a_number_beyond_the_callers_is_none() -> None:
    assert read(token(KEY.sign, REQUEST, CALLERS, ADDRESS, NOW).encode()) is not None
    assert read(token(KEY.sign, REQUEST, CALLERS + 1, ADDRESS, NOW).encode()) is None


def test_a_request_is_the_same_text_every_time_and_holds_to_its_form() -> None:
    assert msgspec.json.decode(REQUEST.to_bytes(), type=Request) == REQUEST
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(REQUEST.to_bytes().replace(b"a" * 64, b"A" * 64), type=Request)
