"""Bearer tokens: JSON Web Tokens signed by a configured issuer, and nothing else.

Of a token's header only `kid` and `alg` count, and they choose among the issuer's keys; a key that the token brings
along (`jwk`, `jku`, `x5c`, `x5u`) is never looked at. A token that verified once is remembered by its SHA-256 digest
until it expires; the token itself is not kept.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jwt
from jwt.utils import base64url_decode

from modelward.sidecar.caller import Caller
from modelward.sidecar.config import ConfigError, Issuer
from modelward.sidecar.keys import Key, Keys, given
from modelward.sidecar.problems import Refusal

MAX_TOKEN_BYTES = 8 << 10
MAX_CLAIM_CHARS = 512
MAX_GROUPS = 256
REMEMBERED = 4096

_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
_SERVICE_ACCOUNT = "system:serviceaccount:"
_RESERVED = "system:"  # names that Kubernetes keeps for itself: only the cluster's own issuer may give them


class TokenVerifier:
    """Turns bearer tokens into callers. Build a new one when the configuration changes.

    Args:
        issuers: who may vouch for callers.
        skew_seconds: how far an issuer's clock may be from ours.
        keys: gives an issuer's keys; they may change while the verifier lives, see `forget`.
        cache_size: how many verified tokens are remembered.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        issuers: list[Issuer],
        *,
        skew_seconds: int,
        keys: Callable[[Issuer], Keys] = given,
        cache_size: int = REMEMBERED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.issuer: (issuer, keys(issuer)) for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ConfigError("two issuers have the same `issuer`; merge their keys and audiences into one")
        self._skew = skew_seconds
        self._size = cache_size
        self._clock = clock
        self._verified: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, token: bytes) -> Caller:
        """Who holds `token`.

        Raises:
            Refusal: 401, or 503 where the issuer's keys cannot be had; the detail says what to mend, the reason is for
                the log.
        """
        digest = hashlib.sha256(token).digest()
        caller = self._verified.get(digest)
        if caller is None:
            caller = self._verify(token)
            self._verified[digest] = caller
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        elif caller.begins <= self._clock() < caller.expires:
            self._verified.move_to_end(digest)
        else:
            del self._verified[digest]
            raise _out_of_time(caller, self._clock())
        return caller

    def forget(self) -> None:
        """Verify every token anew: a key that vouched for some of them is gone."""
        self._verified.clear()

    def _verify(self, token: bytes) -> Caller:
        if len(token) > MAX_TOKEN_BYTES:
            raise _refuse("token-too-large", f"The token has more than {MAX_TOKEN_BYTES} bytes.")
        header, unverified = _read(token)
        claimed = unverified.get("iss")
        issuer, keys = self._issuers.get(claimed if isinstance(claimed, str) else "", (None, Keys()))
        if issuer is None:
            raise _refuse("issuer-unknown", "The token's issuer is not one that this model accepts.")
        return self._caller(self._claims(token, _chosen(keys, header), issuer), issuer)

    def _claims(self, token: bytes, key: Key, issuer: Issuer) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=list(key.algorithms),
                audience=issuer.audiences,
                issuer=issuer.issuer,
                leeway=self._skew,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _refuse("token-expired", "The token has expired; ask its issuer for a new one.") from None
        except jwt.ImmatureSignatureError:
            raise _refuse("token-not-yet-valid", "The token is not valid yet; compare the clocks.") from None
        except jwt.InvalidAudienceError:
            raise _refuse("token-audience", "The token is for another audience.") from None
        except jwt.MissingRequiredClaimError:
            raise _refuse("token-claims", "The token lacks one of the claims exp, iss, aud, sub.") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise _refuse("token-invalid", "The token's signature or claims do not verify.") from None
        return claims

    def _caller(self, claims: dict[str, Any], issuer: Issuer) -> Caller:
        subject = claims["sub"]
        if not subject or len(subject) > MAX_CLAIM_CHARS:
            raise _refuse("token-claims", f"The token's `sub` must have 1 to {MAX_CLAIM_CHARS} characters.")
        if subject.startswith(_RESERVED) and not issuer.cluster:
            raise _refuse("token-claims", f"Subjects that begin with {_RESERVED} are the cluster's own issuer's.")
        subjects = {f"user:{subject}"}
        namespace, _, name = subject.removeprefix(_SERVICE_ACCOUNT).partition(":")
        if subject.startswith(_SERVICE_ACCOUNT) and namespace and name:
            subjects.add(f"serviceaccount:{namespace}/{name}")
        groups = claims.get("groups", [])
        if isinstance(groups, list):
            subjects.update(
                f"group:{group}"
                for group in groups[:MAX_GROUPS]
                if isinstance(group, str) and not group.startswith(_RESERVED)
            )
        purpose = claims.get("purpose")
        return Caller(
            name=f"user:{subject}",
            issuer=issuer.name,
            subjects=frozenset(subjects),
            purpose=purpose if isinstance(purpose, str) else None,
            begins=_seconds(claims.get("nbf", 0)) - self._skew,
            expires=_seconds(claims["exp"]) + self._skew,
        )


def _seconds(claim: Any) -> float:
    """A time that has been judged already, on the clock's own scale."""
    try:
        return float(claim)
    except OverflowError:
        raise _refuse("token-claims", "A time in the token is beyond all calendars.") from None


def _read(token: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A token's header and claims, of which nothing has been verified."""
    try:
        head, payload, _ = token.split(b".")
        header, claims = (json.loads(base64url_decode(part), object_pairs_hook=_once) for part in (head, payload))
    except (ValueError, RecursionError):
        header, claims = None, None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _refuse("token-malformed", "The token is not a JSON Web Token.")
    return header, claims


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are all different: of two claims of one name, readers disagree which one counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _chosen(keys: Keys, header: dict[str, Any]) -> Key:
    """The one key that can have signed a token with this header; ambiguity is a no."""
    if str(header.get("typ", "JWT")).lower() not in _TYPES or "crit" in header or "b64" in header:
        raise _refuse("token-header", "The token's header asks for something that is not supported (typ, crit or b64).")
    if not keys.current:
        raise Refusal(
            "keys-unavailable",
            "The token cannot be verified: its issuer's keys cannot be fetched at the moment. Try again later.",
            headers=b"retry-after: 10\r\n",
        )
    fitting = fitting_keys(keys.current, header)
    if len(fitting) == 1:
        return fitting[0]
    again = not fitting and keys.missed()
    raise _refuse(
        "token-key",
        "No key of the issuer fits the token's `kid` and `alg`"
        + ("; its keys are being read anew, try again in some seconds." if again else "."),
    )


def fitting_keys(keys: Sequence[Key], header: dict[str, Any]) -> list[Key]:
    """The keys that a header's `kid` and `alg` leave."""
    kid, algorithm = header.get("kid"), header.get("alg")
    return [key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]


def _out_of_time(caller: Caller, now: float) -> Refusal:
    if now < caller.begins:
        return _refuse("token-not-yet-valid", "The token is not valid yet; compare the clocks.")
    return _refuse("token-expired", "The token has expired; ask its issuer for a new one.")


def _refuse(reason: str, detail: str) -> Refusal:
    return Refusal("unauthenticated", detail, reason=reason, headers=CHALLENGE_INVALID)


CHALLENGE = b'www-authenticate: Bearer realm="modelward"\r\n'
CHALLENGE_INVALID = b'www-authenticate: Bearer realm="modelward", error="invalid_token"\r\n'
