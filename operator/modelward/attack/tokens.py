"""Tokens that must not be taken, made of one that is: JSON Web Tokens (RFC 7519), changed and signed by nobody.

What goes wrong with them in the field is collected in RFC 8725, JSON Web Token Best Current Practices.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

GARBAGE = ("x", "null", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30.", "../../etc/passwd", "' OR 1=1 --", "A" * 4096)


class Parts(NamedTuple):
    """A token taken apart."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signature: str


def parts_of(token: str) -> Parts | None:
    """A token's parts; None: it is no JSON Web Token that is signed."""
    pieces = token.split(".")
    if len(pieces) != 3:
        return None
    try:
        header, claims = (json.loads(_decoded(piece)) for piece in pieces[:2])
    except (binascii.Error, ValueError, RecursionError):
        return None
    return Parts(header, claims, pieces[2]) if isinstance(header, dict) and isinstance(claims, dict) else None


def made_up(claims: Mapping[str, Any]) -> Parts:
    """A token with these claims that nobody has signed."""
    return Parts({"alg": "RS256", "typ": "JWT"}, dict(claims), _encoded(bytes(256)))


def unsigned(parts: Parts) -> Iterator[str]:
    """Tokens that say that they need no signature, in the ways in which that is written (RFC 8725, 2.1)."""
    for algorithm in ("none", "None", "NONE", "nOnE"):
        yield _joined(parts.header | {"alg": algorithm}, parts.claims, "")
    yield _joined(parts.header | {"alg": "none"}, parts.claims, parts.signature)
    yield _joined(parts.header, parts.claims, "")


def resigned(parts: Parts) -> Iterator[str]:
    """Tokens with another signature: a bit of it changed; keyed with nothing; by a key that they bring along."""
    first = "B" if parts.signature[:1] != "B" else "C"
    yield _joined(parts.header, parts.claims, first + parts.signature[1:])
    yield _joined(parts.header, parts.claims, _encoded(bytes(64)))
    own = {"kty": "oct", "k": _encoded(b"modelward"), "alg": "HS256"}
    yield _joined(parts.header | {"alg": "HS256", "jwk": own}, parts.claims, _encoded(bytes(32)))
    yield _joined(parts.header | {"kid": "../../../../dev/null"}, parts.claims, parts.signature)
    yield _joined(parts.header | {"crit": ["x-unknown"], "x-unknown": True}, parts.claims, parts.signature)


def changed(parts: Parts, **claims: Any) -> str:
    """The token with other claims, and the signature that belongs to the former ones."""
    return _joined(parts.header, parts.claims | claims, parts.signature)


def _joined(header: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    return ".".join((_encoded(json.dumps(header).encode()), _encoded(json.dumps(claims).encode()), signature))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
