"""Tokens by the key that signs sidecars' configurations: JWT (RFC 7519), EdDSA (RFC 8037), one header byte for byte.

There is no algorithm to choose, and no key to bring along. A signed configuration is JSON and begins with `{`, what is
signed of a token is base64url text: neither can be taken for the other. What a token is good for, its claims say; who
reads one holds them to a struct of their own, so a token of one kind is none of another.
"""

import base64
import binascii
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec

MAX_BYTES = 2048
Claims = TypeVar("Claims")


class PublicKey(Protocol):
    """An Ed25519 public key, as `cryptography` has it."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature when it does not fit."""


class TokenError(Exception):
    """Not a token of the controller's for this."""


def signed(sign: Callable[[bytes], bytes], claims: msgspec.Struct) -> str:
    """Return a token with these claims; `sign` is an Ed25519 private key's."""
    text = HEADER + b"." + _encode(msgspec.json.encode(claims))
    return (text + b"." + _encode(sign(text))).decode()


def claims_of(shown: bytes, key: PublicKey, claims: type[Claims]) -> Claims:
    """Return what a token says, once its signature holds.

    Raises:
        TokenError: it does not, or these are no such claims.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - who reads reports alone need not have it

    header, _, rest = shown.partition(b".")
    payload, _, signature = rest.partition(b".")
    if len(shown) > MAX_BYTES or header != HEADER:
        raise TokenError("not a token of the controller's")
    try:
        key.verify(_decode(signature), header + b"." + payload)
        return msgspec.json.decode(_decode(payload), type=claims)
    except (InvalidSignature, binascii.Error, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise TokenError("it does not verify") from None


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    content = base64.b64decode(text.translate(_PLAIN) + b"=" * (-len(text) % 4), validate=True)
    if _encode(content) != text:  # one text for each content
        raise ValueError("not base64url")
    return content


_PLAIN = bytes.maketrans(b"-_", b"+/")
HEADER = _encode(b'{"alg":"EdDSA","typ":"JWT"}')
