"""What a sidecar tells the controller of anomalies, and how the controller asks: one contract for both ends.

A sidecar has no account at the API server, so the controller asks it, over TLS, where callers come:

    GET  /.modelward/incidents                          -> Report
    POST /.modelward/release     Release                -> Done, so many clients were let go
    POST /.modelward/quarantine  Spread                 -> Done, so many were taken over from another replica
    POST /.modelward/aggregates  Collect                -> Collected: see `modelward.audit.told`
    POST /.modelward/labels      Labels                 -> Done, of so many requests what was true was counted

Each request carries a token (JWT, RFC 7519; EdDSA, RFC 8037) by the key that signs the sidecar's configuration, whose
public half the sidecar holds. A token is for one model, one method, one path (`htm` and `htu` as in RFC 9449) and one
body (`bod`, its SHA-256), for a minute: whoever sees one can at most ask the same thing again.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from modelward.audit.told import Encrypted
from modelward.fairness.counts import FairnessReport
from modelward.reidentification.told import Combinations, Judged
from modelward.signedtoken import PublicKey, TokenError, claims_of, signed
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
    waits for auditors. `configuration` is the digest of the signed configuration in force, in hex. `kept`: no count of
    a group is told but to auditors; then `judged` is all that is told of combinations.
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
    configuration: Text = ""
    kept: bool = False
    judged: Judged | None = None


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
    return signed(sign, claims)


def check(shown: bytes, key: PublicKey, model: str, method: str, path: str, now: float) -> str:
    """Return the digest that the request's body must have, once the token holds in everything else.

    Raises:
        TokenError: it does not hold.
    """
    claims = claims_of(shown, key, _Claims)
    if (claims.iss, claims.aud, claims.sub, claims.htm, claims.htu) != (ISSUER, AUDIENCE, model, method, path):
        raise TokenError("it is for something else")
    if claims.exp - claims.iat > TOKEN_SECONDS or not claims.iat - SKEW_SECONDS <= now < claims.exp + SKEW_SECONDS:
        raise TokenError("it is not of this minute")
    return claims.bod


def is_body(body: bytes, digest: str) -> bool:
    """Whether `body` is what a token was made for."""
    return hmac.compare_digest(hashlib.sha256(body).hexdigest(), digest)
