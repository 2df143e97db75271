"""What the sidecar answers over gRPC: for each problem a status code, and the detail that clients can read by program.

`grpc-message` tells a person; `grpc-status-details-bin` holds a google.rpc.Status with one google.rpc.ErrorInfo, whose
reason is the problem's name and whose metadata have the request's id under `instance`.
"""

import base64
import re

from modelward.sidecar import failures
from modelward.sidecar.grpc import wire
from modelward.sidecar.problems import Refusal

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNIMPLEMENTED = 7, 8, 9, 12
INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 13, 14, 16
MAX_CODE = 16

CODES = {
    "bad-framing": INVALID_ARGUMENT,
    "malformed-json": INVALID_ARGUMENT,
    "model-refused": INVALID_ARGUMENT,
    "unauthenticated": UNAUTHENTICATED,
    "forbidden": PERMISSION_DENIED,
    "anomalous-input": PERMISSION_DENIED,
    "answer-withheld": PERMISSION_DENIED,
    "not-found": NOT_FOUND,
    "unknown-request": NOT_FOUND,  # feedback comes by HTTP alone
    "already-labelled": FAILED_PRECONDITION,
    "method-not-allowed": UNIMPLEMENTED,
    "request-timeout": DEADLINE_EXCEEDED,
    "unknown-keys": FAILED_PRECONDITION,  # encrypted requests come by HTTP alone, so far
    "body-too-large": RESOURCE_EXHAUSTED,
    "unsupported-media-type": INVALID_ARGUMENT,
    "schema-violation": INVALID_ARGUMENT,
    "encrypted-unfit": INVALID_ARGUMENT,
    "rate-limited": RESOURCE_EXHAUSTED,
    "header-too-large": RESOURCE_EXHAUSTED,
    "internal-error": INTERNAL,
    "model-failed": INTERNAL,
    "not-implemented": UNIMPLEMENTED,
    "bad-upstream": INTERNAL,
    "keys-unavailable": UNAVAILABLE,
    "interrupted": UNAVAILABLE,  # likewise
    "detector-failed": UNAVAILABLE,
    "overloaded": UNAVAILABLE,
    "upstream-timeout": DEADLINE_EXCEEDED,
    "http-version-not-supported": UNIMPLEMENTED,
}
"""By problem. `bad-upstream` is UNAVAILABLE, which clients try again, where the model was not reached (AWAY). Of
an error of the model's, the code itself stays."""
AWAY = frozenset(("upstream-connect", "upstream-broken-off"))
_OF_THE_HOP = (CANCELLED, UNAUTHENTICATED)
"""Of the model: who asked it is the sidecar, which neither gave credentials nor gave up."""

_NAMES = {"malformed-json": "MALFORMED_MESSAGE"}
_RETRY_AFTER = re.compile(rb"retry-after: (\d+)\r\n")
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_MAX_MESSAGE = 1024
_SAFE = frozenset(range(0x20, 0x7F)) - {ord("%")}


def code_of(refusal: Refusal) -> int:
    """The status code of `refusal`."""
    if refusal.grpc_code is not None:
        return refusal.grpc_code
    return UNAVAILABLE if refusal.reason in AWAY else CODES[refusal.problem.slug]


def instead_of(code: int) -> Refusal:
    """What the caller is told where the model answered with this code, which is not OK."""
    if code in _OF_THE_HOP:
        return failures.of_the_hop()
    return failures.told(HTTP[code], grpc_code=code)


def headers(code: int, message: str) -> list[tuple[bytes, bytes]]:
    """The trailers of a status."""
    found = [(b"grpc-status", b"%d" % code)]
    if message:
        found.append((b"grpc-message", percent(message)))
    return found


def refused(refusal: Refusal, request_id: str) -> list[tuple[bytes, bytes]]:
    """The trailers that tell of `refusal`."""
    code = code_of(refusal)
    found = headers(code, refusal.detail)
    found.append((b"grpc-status-details-bin", _details(code, refusal, request_id)))
    after = _RETRY_AFTER.search(refusal.headers)
    if after is not None:
        found.append((b"grpc-retry-pushback-ms", b"%d000" % int(after[1])))
    return found


def percent(message: str) -> bytes:
    """`message`, cut short, as `grpc-message` has it: percent-encoded UTF-8."""
    text = message.encode()[:_MAX_MESSAGE]
    return b"".join(b"%c" % octet if octet in _SAFE else b"%%%02X" % octet for octet in text)


def _details(code: int, refusal: Refusal, request_id: str) -> bytes:
    slug = refusal.problem.slug
    name = _NAMES.get(slug) or slug.upper().replace("-", "_")
    instance = wire.put(3, wire.put_text(1, "instance") + wire.put_text(2, request_id))
    info = wire.put_text(1, name) + wire.put_text(2, "modelward.io") + instance
    any_info = wire.put_text(1, _ERROR_INFO) + wire.put(2, info)
    message = refusal.detail.encode()[:_MAX_MESSAGE].decode(errors="ignore")
    status = wire.put_number(1, code) + wire.put_text(2, message) + wire.put(3, any_info)
    return base64.b64encode(status).rstrip(b"=")


HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
"""By code: the HTTP status that the record tells for a status of the model's, as gRPC's own mapping has it."""
