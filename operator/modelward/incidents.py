"""What a sidecar tells the controller of anomalies, and how the controller asks: one contract for both ends.

A sidecar has no account at the API server, so the controller asks it, over TLS, where callers come:

    GET  /.modelward/incidents                          -> Report
    POST /.modelward/release     Release                -> Done, so many clients were let go
    POST /.modelward/quarantine  Spread                 -> Done, so many were taken over from another replica
    POST /.modelward/aggregates  Collect                -> Collected: see `modelward.audit.told`
    POST /.modelward/labels      Labels                 -> Done, of so many requests what was true was counted

Each request carries a token (JWT, RFC 7519; EdDSA, RFC 8037) by the key that signs the sidecar's configuration, whose
public half the sidecar holds. A token is for one model, one method, one path (`htm` and `htu` as in RFC 9449) and one
body (`bod`, its SHA-256), for a minute: whoever sees one can at most ask the same thing again. A signed configuration
is JSON and begins with `{`, what is signed of a token is base64url text: neither can be taken for the other.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from modelward.audit.told import Encrypted
from modelward.fairness.counts import FairnessReport
from modelward.reidentification.told import Combinations
from modelward.windows import Served

AUDIENCE = "modelward-sidecar"
ISSUER = "modelward-controller"
PREFIX = "/.modelward/"
INCIDENTS = PREFIX + "incidents"
RELEASE = PREFIX + "release"
QUARANTINE = PREFIX + "quarantine"
AGGREGATES = PREFIX + "aggregates"
LABELS = PREFIX + "labels"

TOKEN_SECONDS = 60
SKEW_SECONDS = 30  # between the clocks of two nodes
MAX_TOKEN_BYTES = 2048
MAX_QUARANTINED = 10_000
MAX_INCIDENTS = 1000
MAX_RATES = 64
MAX_DRIFTED = 8192

Text = Annotated[str, Meta(max_length=1024)]
Name = Annotated[str, Meta(min_length=1, max_length=1024)]


class Incident(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one detector found of one client, from one network, and what was done: `count` times.

    Times are RFC 3339 in UTC. `network` is the client's /24 (IPv4) or /48 (IPv6). `reference` is the last request's id,
    under which the access log tells the rest.
    """

    client: Text
    issuer: Text
    network: Text
    detector: Text
    action: Text
    count: int
    first: Text
    last: Text
    reference: Text


class Quarantined(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client whose requests are refused. `reason` is the detector whose finding was one too many."""

    client: Name
    issuer: Text
    since: Text
    until: Text
    reason: Text


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The share of rows that a detector flags: asked for, observed, and between what it lies (95 %), over `rows`."""

    detector: Text
    asked: float
    observed: float
    low: float
    high: float
    rows: int


class Drifted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the last rows are from the baseline in a feature (or all together), by a test; 1.0 is the threshold."""

    feature: Text
    test: Text
    score: float


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a sidecar has to tell since it began (`since`); `dropped` counts anomalies for which it had no room.

    `baseline` is its digest, `fitted` when it was made, where it says so. `served` tells who got answers,
    `fairness` how groups were treated, `combinations` how identifying rows are, where that is counted, `encrypted` what
    waits for auditors.
    """

    model: Text
    baseline: Text
    fitted: Text
    since: Text
    incidents: Annotated[tuple[Incident, ...], Meta(max_length=MAX_INCIDENTS)]
    quarantined: Annotated[tuple[Quarantined, ...], Meta(max_length=MAX_QUARANTINED)]
    rates: Annotated[tuple[Rate, ...], Meta(max_length=MAX_RATES)]
    drift: Annotated[tuple[Drifted, ...], Meta(max_length=MAX_DRIFTED)]
    dropped: int
    served: Served = Served()
    fairness: FairnessReport | None = None
    encrypted: Encrypted = Encrypted()
    combinations: Combinations | None = None


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Let a client go, whoever vouches for it."""

    client: Name


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What other replicas have quarantined. A client that was released since is left alone."""

    quarantined: Annotated[tuple[Quarantined, ...], Meta(max_length=MAX_QUARANTINED)]


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many clients it concerned, or requests."""

    clients: int


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: str
    htm: str
    htu: str
    bod: str
    iat: int
    exp: int


class PublicKey(Protocol):
    """An Ed25519 public key, as `cryptography` has it."""

    def verify(self, signature: bytes, data: bytes, /) -> None:
        """Raise InvalidSignature when it does not fit."""


class TokenError(Exception):
    """Not a token of the controller's for this request."""


def token(sign: Callable[[bytes], bytes], model: str, method: str, path: str, now: float, body: bytes = b"") -> str:
    """Return a token for one request to the sidecars of `model` (namespace/name).

    Args:
        sign: an Ed25519 private key's `sign`.
        model: namespace/name.
        method: GET or POST.
        path: one of the paths above.
        now: seconds since the epoch.
        body: what is sent.
    """
    claims = _Claims(
        ISSUER, AUDIENCE, model, method, path, hashlib.sha256(body).hexdigest(), int(now), int(now) + TOKEN_SECONDS
    )
    signed = _HEADER + b"." + _encode(msgspec.json.encode(claims))
    return (signed + b"." + _encode(sign(signed))).decode()


def check(shown: bytes, key: PublicKey, model: str, method: str, path: str, now: float) -> str:
    """Return the digest that the request's body must have, once the token holds in everything else.

    One header is accepted, byte for byte: there is no algorithm to choose, and no key to bring along.

    Raises:
        TokenError: it does not hold.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - who reads reports alone need not have it

    header, _, rest = shown.partition(b".")
    payload, _, signature = rest.partition(b".")
    if len(shown) > MAX_TOKEN_BYTES or header != _HEADER:
        raise TokenError("not a token of the controller's")
    try:
        key.verify(_decode(signature), header + b"." + payload)
        claims = msgspec.json.decode(_decode(payload), type=_Claims)
    except (InvalidSignature, binascii.Error, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise TokenError("it does not verify") from None
    if (claims.iss, claims.aud, claims.sub, claims.htm, claims.htu) != (ISSUER, AUDIENCE, model, method, path):
        raise TokenError("it is for something else")
    if claims.exp - claims.iat > TOKEN_SECONDS or not claims.iat - SKEW_SECONDS <= now < claims.exp + SKEW_SECONDS:
        raise TokenError("it is not of this minute")
    return claims.bod


def is_body(body: bytes, digest: str) -> bool:
    """Whether `body` is what a token was made for."""
    return hmac.compare_digest(hashlib.sha256(body).hexdigest(), digest)


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    content = base64.b64decode(text.translate(_PLAIN) + b"=" * (-len(text) % 4), validate=True)
    if _encode(content) != text:  # one text for each content
        raise ValueError("not base64url")
    return content


_PLAIN = bytes.maketrans(b"-_", b"+/")
_HEADER = _encode(b'{"alg":"EdDSA","typ":"JWT"}')
