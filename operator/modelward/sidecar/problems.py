"""Every answer that the sidecar itself gives: one table, from which the README's is copied.

An answer is `application/problem+json` (RFC 9457): `type` names the problem, `detail` says what to do, `instance` is
the request's id, under which the access log tells the rest. Nothing in it would help an attacker to come closer to a
yes.
"""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

TYPE_PREFIX = "https://modelward.io/problems/"


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of answer: its slug in `type`, HTTP status, title, and when it is given."""

    slug: str
    status: int
    title: str
    when: str


TABLE = (
    Problem(
        "bad-framing",
        400,
        "Not a valid HTTP/1.1 request",
        "the request's framing, header or target is not exactly HTTP/1.1; the connection is closed",
    ),
    Problem("malformed-json", 400, "The body is not JSON", "the body cannot be read as JSON"),
    Problem(
        "model-refused",
        400,
        "The model refused the request",
        "the model answered with an error of its own, 4xx, which is then the status; nothing else of it is passed on",
    ),
    Problem(
        "unauthenticated", 401, "The caller is not known", "no token or client certificate, or one that does not verify"
    ),
    Problem(
        "forbidden",
        403,
        "No access rule allows this",
        "no access rule matches the caller, the operation and the purpose",
    ),
    Problem(
        "anomalous-input",
        403,
        "The input was refused by screening",
        "a detector found the input anomalous and `onAnomaly` is Block",
    ),
    Problem(
        "answer-withheld",
        403,
        "The answer was withheld by screening",
        "a detector found the model's answer anomalous and `onAnomaly` is Block",
    ),
    Problem("not-found", 404, "No such path", "the path is not one of the declared inference protocol's"),
    Problem(
        "unknown-request",
        404,
        "No answer is remembered under this id",
        "feedback names a request that this replica did not answer, or does not remember any more",
    ),
    Problem("method-not-allowed", 405, "Wrong method for this path", "the path exists and the method does not fit it"),
    Problem(
        "request-timeout",
        408,
        "The request took too long to arrive",
        "the client sent its request too slowly; the connection is closed",
    ),
    Problem(
        "unknown-keys",
        409,
        "Your public keys are not known here",
        "an encrypted request came without its keys, and they are not kept (any more): send them along",
    ),
    Problem(
        "already-labelled", 409, "The labels were told already", "feedback comes a second time for the same request"
    ),
    Problem(
        "body-too-large", 413, "The body is too large", "the body is larger than the limit, 4 MiB unless configured"
    ),
    Problem(
        "unsupported-media-type",
        415,
        "The body must be JSON, or JSON and binary tensors",
        "the body is neither `application/json` nor, for V2's `infer`, of binary tensors with the header "
        "`Inference-Header-Content-Length`; or it is compressed",
    ),
    Problem(
        "schema-violation",
        422,
        "The body does not fit the model's schema",
        "an input is missing, undeclared, or of the wrong type, shape, range or number of bytes",
    ),
    Problem(
        "encrypted-unfit",
        422,
        "The encrypted request cannot be scored",
        "its keys, parameters, signature, age or ciphertexts are not what this model takes; `detail` says which",
    ),
    Problem(
        "rate-limited",
        429,
        "Too many requests",
        "the caller has used up the matched rule's rate limit; see `Retry-After`",
    ),
    Problem(
        "header-too-large",
        431,
        "The header is too large",
        "the request line and header exceed their limit; the connection is closed",
    ),
    Problem("internal-error", 500, "The sidecar failed", "a fault in the sidecar itself; nothing was forwarded"),
    Problem(
        "model-failed",
        500,
        "The model failed",
        "the model answered with an error of its own, 5xx, which is then the status; nothing else of it is passed on",
    ),
    Problem(
        "not-implemented",
        501,
        "A transfer coding or upgrade that is not supported",
        "a transfer coding other than chunked, or an upgrade, is asked for; the connection is closed",
    ),
    Problem(
        "bad-upstream",
        502,
        "The model's answer could not be used",
        "the model is not there, broke off, or answered with something that is not HTTP, a redirect, or an error about "
        "the connection or credentials",
    ),
    Problem(
        "keys-unavailable",
        503,
        "The token cannot be verified now",
        "the token's issuer, whose keys are fetched by URL, has not answered for too long; see `Retry-After`",
    ),
    Problem(
        "interrupted",
        503,
        "Scoring was interrupted",
        "the process that scored the encrypted request was ended from outside, which is not the request's fault; see "
        "`Retry-After`",
    ),
    Problem("detector-failed", 503, "Screening could not be done", "a detector failed and `onDetectorError` is Block"),
    Problem(
        "overloaded", 503, "Too busy", "connections, buffers or the queue to the model are full; see `Retry-After`"
    ),
    Problem("upstream-timeout", 504, "The model took too long", "the model did not answer in time"),
    Problem(
        "http-version-not-supported", 505, "HTTP/1.1 only", "the request names another version than HTTP/1.1 or 1.0"
    ),
)
BY_SLUG = {problem.slug: problem for problem in TABLE}

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Refusal(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """Ends a request with the problem `slug`.

    `detail` is for the caller: what is wrong and what to do; never a value from the body. `reason` is a short constant
    for the metrics and the access log, where it says more than the caller is told. `headers` are rendered lines.
    `status` and `grpc_code`: others than the problem's own, where the model's error is told of.
    """

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        reason: str = "",
        headers: bytes = b"",
        close: bool = False,
        status: int = 0,
        grpc_code: int | None = None,
    ) -> None:
        super().__init__(slug)
        self.problem = BY_SLUG[slug]
        self.detail = detail
        self.reason = reason or slug
        self.headers = headers
        self.close = close
        self.status = status or self.problem.status
        self.grpc_code = grpc_code


def document(refusal: Refusal, request_id: str) -> bytes:
    """The problem+json body of `refusal`."""
    return msgspec.json.encode(
        {
            "type": TYPE_PREFIX + refusal.problem.slug,
            "title": refusal.problem.title,
            "status": refusal.status,
            "detail": refusal.detail,
            "instance": request_id,
        }
    )
