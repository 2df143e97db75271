"""A security test in the cluster: how its Job is told what to attack, and how a sidecar knows it by its token.

The controller asks the Job's pod, over TLS, with a token as `modelward.incidents` makes them:

    GET    /.modelward/security-test   -> 404, it has not been told; 202, it is at it; 200, the report
    POST   /.modelward/security-test   Errand -> 202, it begins
    DELETE /.modelward/security-test   -> 204, the report is kept now: the Job may end

The errand holds the tokens by which the sidecar lets the test in, so they lie in no object of the cluster. Each is for
one run against one model, from one address (that of the Job's pod), for half an hour. There are several, for several
callers: one that an attack has brought into quarantine can try no other. And there is a stranger's, whom no rule names.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from modelward.incidents import ISSUER, SKEW_SECONDS
from modelward.jobrequest import JobRequest
from modelward.signedtoken import PublicKey, TokenError, claims_of, signed

PATH = "/.modelward/security-test"
AUDIENCE = "modelward-security-test"
SUBJECT = "modelward:security-test"
"""What access rules call the tester, and how its name begins. No token of an issuer and no certificate gives a subject
that begins so: see `sidecar.caller`."""
PURPOSE = "security-test"
SECONDS = 1800
"""A test takes no longer."""
CALLERS = 6
"""So many callers come to one test."""
STRANGER = 0
"""The number of the one whom no rule lets in."""
MAX_ERRAND_BYTES = 2 << 20

_Sha = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class Request(JobRequest, frozen=True):
    """What is tested, and why now.

    Attributes:
        model: namespace/name.
        uid: of the ModelDeployment: another one of its name is another model.
        suite: name of the suite of attacks.
        subject: digest of what is tested, see `planner.tested`.
        tools: digest of what tests and protects it: a new one is a reason to test again.
        run: what tells this run from others of the same: since when it is due, and which attempt it is.
    """

    model: str
    uid: str
    suite: Annotated[str, Meta(min_length=1, max_length=63)]
    subject: _Sha
    tools: _Sha
    run: Annotated[str, Meta(max_length=128)]


class Errand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A request with all that its Job needs.

    Attributes:
        request: what to test.
        url: of the model, by the name in its certificate.
        authorities: PEM bundle that vouches for that certificate.
        tokens: by which the sidecar lets the test in.
        stranger: a token that verifies, of somebody whom no rule lets in.
        manifest: the ModelDeployment, which says what the model takes.
        model_port: of the model itself, past the sidecar; 0: it is not known.
        chain: certificate of a client, PEM, where the sidecar asks for one.
        key: its private key.
    """

    request: Request
    url: str
    authorities: str
    tokens: tuple[str, ...]
    stranger: str
    manifest: dict[str, Any]
    model_port: int = 0
    chain: str = ""
    key: str = ""


class _Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    iss: str
    aud: str
    sub: str
    jti: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    num: Annotated[int, Meta(ge=0, le=CALLERS)]
    adr: str
    iat: int
    exp: int


def token(sign: Callable[[bytes], bytes], request: Request, number: int, address: str, now: float) -> str:
    """Return the token by which the sidecars of a model let one of its test's callers in.

    Args:
        sign: an Ed25519 private key's `sign`.
        request: the test.
        number: of the caller, from 1; `STRANGER` may do nothing.
        address: of the Job's pod; from any other one the token is good for nothing.
        now: seconds since the epoch.
    """
    began = int(now)
    return signed(
        sign, _Claims(ISSUER, AUDIENCE, request.model, request.digest[:16], number, address, began, began + SECONDS)
    )


class Shown(NamedTuple):
    """Whom a token names: the run, the number of its caller, and until when (seconds since the epoch) it is good."""

    run: str
    number: int
    expires: float


def check(shown: bytes, key: PublicKey, model: str, address: str, now: float) -> Shown:
    """Return whom a token names.

    Raises:
        TokenError: it does not hold for this model and this address, or not now.
    """
    claims = claims_of(shown, key, _Claims)
    if (claims.iss, claims.aud, claims.sub, claims.adr) != (ISSUER, AUDIENCE, model, address):
        raise TokenError("it is for something else")
    if claims.exp - claims.iat > SECONDS or not claims.iat - SKEW_SECONDS <= now < claims.exp:
        raise TokenError("it is not of now")
    return Shown(claims.jti, claims.num, float(claims.exp))
