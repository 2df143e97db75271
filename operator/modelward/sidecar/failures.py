"""What a caller gets in place of a model's error or redirect, and what the record keeps of it.

Model servers put into such an answer whatever was at hand when they failed: a stack trace, a query, the row itself.
Nothing in it is declared, so nothing in it can be checked or treated. What passes is the status, since clients act by
it, and when to try again; the words are the sidecar's own. A redirect is neither followed nor passed on.
"""

import hashlib
import re
import secrets
from typing import NamedTuple

from modelward.sidecar.exchange import Response
from modelward.sidecar.problems import Refusal

CLIENT_ERRORS, SERVER_ERRORS = 400, 500
_OF_THE_HOP = frozenset((401, 402, 407, 408, 421, 425, 426, 431, 505, 511))
"""Statuses about credentials, or about the connection, between the sidecar and the model: callers can mend neither, and
would take them for the sidecar's own."""
_RETRY_AFTER = re.compile(rb"(?:^|\n)retry-after: *([0-9]{1,4}) *\r\n")
_REST = "What it said is not passed on: its server got the `instance` as x-request-id, and its log has the rest."
_LOOKED_AT = 64 << 10  # bytes
_KEY = secrets.token_bytes(32)  # without one, who reads the log could try out what a short text was


class Failure(NamedTuple):
    """What is recorded of a model's error: its status (over gRPC the code), its size in bytes, a digest of its text.

    Equal digests of one process are equal texts, as far as their first 64 KiB; they tell nothing else.
    """

    status: int
    size: int
    digest: str

    @classmethod
    def of(cls, status: int, text: bytes) -> "Failure":
        """That of an answer with this status and text."""
        digest = hashlib.blake2b(text[:_LOOKED_AT], digest_size=8, key=_KEY).hexdigest()
        return cls(status, len(text), digest)


def instead_of(response: Response, flag: bytes = b"") -> Refusal:
    """What the caller is told instead of `response`, whose status is at least 300. `flag`: a header line besides."""
    status = response.status
    if status < CLIENT_ERRORS:
        return redirected(flag)
    if status in _OF_THE_HOP:
        return of_the_hop(flag)
    found = _RETRY_AFTER.search(response.headers)
    return told(status, flag + (b"retry-after: %b\r\n" % found[1] if found else b""))


def told(status: int, headers: bytes = b"", grpc_code: int | None = None) -> Refusal:
    """That the model answered with an error of this HTTP status, or of this gRPC code."""
    if status >= SERVER_ERRORS:
        return Refusal(
            "model-failed", f"The model failed. {_REST}", headers=headers, status=status, grpc_code=grpc_code
        )
    detail = f"The model refused the request. {_REST}"
    return Refusal("model-refused", detail, headers=headers, status=status, grpc_code=grpc_code)


def redirected(headers: bytes = b"") -> Refusal:
    """That the model answered with a redirect."""
    detail = "The model answered with a redirect, which is neither followed nor passed on."
    return Refusal("bad-upstream", detail, reason="upstream-redirect", headers=headers)


def of_the_hop(headers: bytes = b"") -> Refusal:
    """That the model's error is about what is between the sidecar and the model."""
    detail = "The model refused the sidecar's credentials or connection; tell its owner the `instance`."
    return Refusal("bad-upstream", detail, reason="upstream-status", headers=headers)
