"""Pseudonymisation with a keyed function (ISO/IEC 20889, 8.3; ENISA, Pseudonymisation techniques, 2019).

A pseudonym is `p`, the version of the key in two digits, `_`, and 32 hexadecimal digits: the first 128 bits of
HMAC-SHA-256 (RFC 2104, truncated as in its section 5). 36 characters, always; the same value of the same field in the
same namespace has the same one for as long as the version is in use. 128 bits make a collision among 2^32 people about
one in 2^65.
"""

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from modelward.privacy.keys import Keys
from modelward.privacy.values import TEXT, canonical, text_bytes

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

LENGTH = 36
FORM = re.compile(r"p\d\d_[0-9a-f]{32}", re.ASCII)
_TAG_DIGITS = 32
_BLOCK = 64


class Pseudonymiser:
    """The pseudonyms of one field. Calling it with a value gives the pseudonym under the version in use."""

    __slots__ = ("_inner", "_outer", "_prefix", "_text")

    def __init__(self, keys: Keys, field: str, version: int | None = None) -> None:
        version = keys.current if version is None else version
        self._inner, self._outer = keyed(keys.domain("pseudonym", field, version))
        self._text = self._inner.copy()  # text, by far the most of it, begins alike
        self._text.update(TEXT)
        self._prefix = f"p{version:02}_"

    def __call__(self, value: Any) -> str:
        """The pseudonym of `value`. Raises TreatmentError for what is no value (`values.canonical`)."""
        if type(value) is str:
            inner = self._text.copy()
            inner.update(value.encode() if value.isascii() else text_bytes(value))
        else:
            inner = self._inner.copy()
            inner.update(canonical(value))
        outer = self._outer.copy()
        outer.update(inner.digest())
        return self._prefix + outer.hexdigest()[:_TAG_DIGITS]


def keyed(key: bytes) -> "tuple[Hash, Hash]":
    """HMAC-SHA-256's two hashes with a key of at most 64 bytes in them (RFC 2104, section 4).

    Copied for each message, they take a third of the time of a call that begins with the key.
    """
    block = key.ljust(_BLOCK, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(bytes(byte ^ 0x5C for byte in block))


def pseudonyms(keys: Keys, field: str, value: Any) -> tuple[str, ...]:
    """Every pseudonym that `value` has under a live version, the one in use first.

    This is how records are read across a rotation: what was written before bears the older version's.

    Raises:
        TreatmentError: `value` is no value.
    """
    return tuple(Pseudonymiser(keys, field, version)(value) for version in keys.versions)
