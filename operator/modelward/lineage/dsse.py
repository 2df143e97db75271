"""The envelope around a signed statement: DSSE v1.0.2 (https://github.com/secure-systems-lab/dsse)."""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Any

from modelward.lineage.reading import MAX_BYTES, StatementError, member, optional

MAX_SIGNATURES = 4
MAX_SIGNATURE_BYTES = 2048
IN_TOTO = "application/vnd.in-toto+json"
_PAYLOAD_TYPE = re.compile(r"application/vnd\.in-toto(\.[a-z0-9.-]{1,64})?\+json")
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class Envelope:
    """What was signed, and the signatures.

    Attributes:
        payload_type: how the payload is to be read; signed with it.
        payload: the very bytes that were signed.
        signatures: raw; which key each is of is for the verifier to find out: an envelope's `keyid` is not signed.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]

    @property
    def signed(self) -> bytes:
        """The bytes that the signatures are over."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding: type and payload in one, each behind its length in bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_envelope(found: dict[str, Any]) -> Envelope:
    """Read the JSON form of an envelope that holds an in-toto statement.

    Raises:
        StatementError: it is none.
    """
    payload_type = member(found, "payloadType", str)
    if not _PAYLOAD_TYPE.fullmatch(payload_type):
        raise StatementError(f"payloadType is not {IN_TOTO}")
    signatures = member(found, "signatures", list)
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise StatementError(f"signatures holds {len(signatures):,}, and must hold 1 to {MAX_SIGNATURES}")
    return Envelope(
        payload_type,
        base64_bytes(member(found, "payload", str), "payload", MAX_BYTES),
        tuple(_signature(one, f"signatures[{index}]") for index, one in enumerate(signatures)),
    )


def base64_bytes(text: str, path: str, limit: int) -> bytes:
    """Return what is written in base64, of the standard or the URL-safe alphabet (DSSE lets both in).

    Raises:
        StatementError: it is neither, or is longer than `limit` bytes.
    """
    if len(text) > limit * 4 // 3 + 4:
        raise StatementError(f"{path} has more than {limit:,} bytes")
    try:
        return binascii.a2b_base64(text.translate(_URL_SAFE).encode("ascii"), strict_mode=True)
    except ValueError:
        raise StatementError(f"{path} is not base64") from None


def _signature(found: Any, path: str) -> bytes:
    if not isinstance(found, dict):
        raise StatementError(f"{path} is not an object")
    optional(found, "keyid", str, f"{path}.")
    return base64_bytes(member(found, "sig", str, f"{path}."), f"{path}.sig", MAX_SIGNATURE_BYTES)
