"""Reversible tokens: made by whoever holds a public key, undone by the holder of the private one alone.

A sealer draws a seed at random and seals it once to the key holder (HPKE, RFC 9180: X25519, HKDF-SHA-256,
AES-256-GCM); a key made from it encrypts each value with AES-SIV (RFC 5297), bound to namespace and field. Each token
carries the sealed seed, so it can be undone when nothing else is left of the process that made it. Two tokens of one
value are different: linking people is what pseudonyms are for, and a token is no easier to guess than its key. AES-SIV
keeps that promise up to equality even where a snapshot of the process is run twice and nonces repeat.

A token is `t1.` and base64url without padding of: sealed seed (80 bytes), nonce (12), SIV and ciphertext. The plaintext
is padded to a multiple of 32 bytes (ISO/IEC 7816-4), so that a token's length tells little of its value's.
"""

import base64
import binascii
import os
import re
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from modelward.privacy.values import TreatmentError, text_bytes

PREFIX = "t1."
FORM = re.compile(r"t1\.[A-Za-z0-9_-]{187,}", re.ASCII)
MAX_VALUE_BYTES = 64 << 10
MAX_TOKEN = len(PREFIX) + (80 + 12 + 16 + MAX_VALUE_BYTES + 64) * 4 // 3 + 4
_SEED = 32
_SEALED = 32 + _SEED + 16
_NONCE = 12
_BLOCK = 32
_INFO = b"modelward.io/token/1"
_SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class TokenError(ValueError):
    """A token or key that cannot be used; the message says why."""


class Sealer:
    """Makes the tokens of one field for one key holder; `recipient` is its raw 32-byte X25519 public key."""

    __slots__ = ("_bound", "_prefix", "_siv")

    def __init__(self, recipient: bytes, namespace: str, field: str) -> None:
        seed = os.urandom(_SEED)
        try:
            self._prefix = _SUITE.encrypt(seed, X25519PublicKey.from_public_bytes(recipient), _INFO)
        except ValueError as error:
            raise TokenError("the key holder's public key is no X25519 key of 32 bytes") from error
        self._siv = _cipher(seed)
        self._bound = _bound(namespace, field)

    def __call__(self, value: Any) -> str:
        """A token of the text `value`. Raises TreatmentError for what is no text, or more than 64 KiB of it."""
        if not isinstance(value, str):
            raise TreatmentError("needs text")
        plain = text_bytes(value)
        if len(plain) > MAX_VALUE_BYTES:
            raise TreatmentError(f"needs text of at most {MAX_VALUE_BYTES} bytes")
        nonce = os.urandom(_NONCE)
        padded = plain + b"\x80" + bytes(-(len(plain) + 1) % _BLOCK)
        body = self._siv.encrypt(padded, [self._bound, nonce])
        return PREFIX + base64.urlsafe_b64encode(self._prefix + nonce + body).rstrip(b"=").decode()


class Opener:
    """Undoes tokens with the key holder's private key; seeds seen are kept, so that a file of tokens goes quickly."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key
        self._ciphers: dict[bytes, AESSIV] = {}

    def __call__(self, token: str, namespace: str, field: str) -> str:
        """The text that `token` was made of, in this namespace and for this field.

        Raises:
            TokenError: it is no token, was sealed to another key, belongs elsewhere, or was changed.
        """
        if not token.isascii() or len(token) > MAX_TOKEN or not FORM.fullmatch(token):
            raise TokenError("not a token: it has the form t1.<base64url>")
        encoded = token[len(PREFIX) :]
        try:
            content = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise TokenError("not a token: it is no base64url") from None
        sealed, nonce, body = content[:_SEALED], content[_SEALED : _SEALED + _NONCE], content[_SEALED + _NONCE :]
        try:
            padded = self._cipher(sealed).decrypt(body, [_bound(namespace, field), nonce])
            text, mark, zeros = padded.rpartition(b"\x80")
            if not mark or zeros.strip(b"\0"):
                raise TokenError("the token's padding is not as it is made")
            return text.decode()
        except (InvalidTag, UnicodeDecodeError):
            raise TokenError(
                f"the token is not one of field {field} in namespace {namespace}, or was changed on its way"
            ) from None

    def _cipher(self, sealed: bytes) -> AESSIV:
        cipher = self._ciphers.get(sealed)
        if cipher is None:
            try:
                cipher = _cipher(_SUITE.decrypt(sealed, self._key, _INFO))
            except (InvalidTag, ValueError):
                raise TokenError("the token was sealed to another key holder, or was changed on its way") from None
            self._ciphers[sealed] = cipher
        return cipher


def recipient(text: str) -> bytes:
    """The raw public key that `text` (base64 of 32 bytes) gives. Raises TokenError."""
    try:
        key = base64.b64decode(text, validate=True)
        X25519PublicKey.from_public_bytes(key)
    except (binascii.Error, ValueError):
        raise TokenError(
            "the key holder's public key must be the base64 of a 32-byte X25519 key, "
            "as `modelward token keygen` prints it"
        ) from None
    return key


def _cipher(seed: bytes) -> AESSIV:
    return AESSIV(HKDFExpand(SHA256(), 64, _INFO).derive(seed))


def _bound(namespace: str, field: str) -> bytes:
    return b"%b\0%b" % (namespace.encode(), field.encode())
