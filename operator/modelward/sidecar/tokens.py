"""Bearer tokens: JSON Web Tokens signed by a configured issuer, and nothing else.

The key decides which algorithms are possible, never the token: `none` and the HMAC family are not in any key's list,
so a public key can not be used as a shared secret. A token that verified once is remembered by its SHA-256 digest
until it expires; the token itself is not kept.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from modelward.sidecar.caller import Caller
from modelward.sidecar.config import ConfigError, Issuer
from modelward.sidecar.problems import Refusal

MAX_TOKEN_BYTES = 8 << 10
MAX_KEYS = 64
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192  # a larger key buys no safety and costs the verifier dearly
MAX_CLAIM_CHARS = 512
MAX_GROUPS = 256

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
_SERVICE_ACCOUNT = "system:serviceaccount:"

_UNUSABLE = (
    "keys of this kind cannot verify tokens here; use RSA (2048 to 8192 bits), P-256, P-384, P-521, Ed25519 or Ed448"
)


class _Key:
    """A public key with the algorithms it may be used for."""

    __slots__ = ("algorithms", "key", "kid")

    def __init__(self, jwk: dict[str, Any]) -> None:
        if jwk.get("kty") not in ("RSA", "EC", "OKP"):
            raise ConfigError(_UNUSABLE)
        if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
            raise ConfigError("the key is not for signatures (`use` or `key_ops` says otherwise)")
        try:
            key = jwt.PyJWK(jwk).key
        except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
            raise ConfigError("the key cannot be read as an RFC 7517 JSON Web Key") from error
        algorithms = _algorithms(key)
        if "alg" in jwk:
            if jwk["alg"] not in algorithms:
                raise ConfigError("the key's `alg` does not fit the key")
            algorithms = (jwk["alg"],)
        self.kid = jwk.get("kid")
        self.key = key
        self.algorithms = algorithms


def _algorithms(key: object) -> tuple[str, ...]:
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return _RSA
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return ("EdDSA",)
    raise ConfigError(_UNUSABLE)


def _read_keys(issuer: Issuer) -> list[_Key]:
    """The issuer's usable keys. Keys for other purposes may stand beside them; none usable is an error."""
    documents = issuer.jwks.get("keys")
    if not isinstance(documents, list) or not 1 <= len(documents) <= MAX_KEYS:
        raise ConfigError(f"issuer {issuer.name}: the JWKS needs `keys`, a list of 1 to {MAX_KEYS} keys")
    keys, reasons = [], []
    for document in documents:
        try:
            keys.append(_Key(document if isinstance(document, dict) else {}))
        except ConfigError as error:
            reasons.append(str(error))
    if not keys:
        raise ConfigError(f"issuer {issuer.name}: no usable key among {len(documents)}: {reasons[0]}")
    return keys


class TokenVerifier:
    """Turns bearer tokens into callers. Build a new one when keys change: its memory goes with the old keys."""

    def __init__(
        self,
        issuers: list[Issuer],
        *,
        skew_seconds: int,
        cache_size: int = 4096,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuers = {issuer.issuer: (issuer, _read_keys(issuer)) for issuer in issuers}
        if len(self._issuers) != len(issuers):
            raise ConfigError("two issuers have the same `issuer`; merge their keys and audiences into one")
        self._skew = skew_seconds
        self._size = cache_size
        self._clock = clock
        self._verified: OrderedDict[bytes, Caller] = OrderedDict()

    def caller(self, token: bytes) -> Caller:
        """Who holds `token`.

        Raises:
            Refusal: 401; the detail says what to mend, the reason is for the log.
        """
        digest = hashlib.sha256(token).digest()
        caller = self._verified.get(digest)
        if caller is None:
            caller = self._verify(token)
            self._verified[digest] = caller
            if len(self._verified) > self._size:
                self._verified.popitem(last=False)
        elif caller.expires <= self._clock():
            del self._verified[digest]
            raise _refuse("token-expired", "The token has expired; ask its issuer for a new one.")
        else:
            self._verified.move_to_end(digest)
        return caller

    def _verify(self, token: bytes) -> Caller:
        if len(token) > MAX_TOKEN_BYTES:
            raise _refuse("token-too-large", f"The token has more than {MAX_TOKEN_BYTES} bytes.")
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refuse("token-malformed", "The token is not a JSON Web Token.") from None
        issuer, keys = self._issuers.get(claimed if isinstance(claimed, str) else "", (None, []))
        if issuer is None:
            raise _refuse("issuer-unknown", "The token's issuer is not one that this model accepts.")
        claims = self._claims(token, _choose(keys, header), issuer)
        return self._caller(claims, issuer)

    def _claims(self, token: bytes, key: _Key, issuer: Issuer) -> dict[str, Any]:
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
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refuse("token-invalid", "The token's signature or claims do not verify.") from None
        return claims

    def _caller(self, claims: dict[str, Any], issuer: Issuer) -> Caller:
        subject = claims["sub"]
        if not subject or len(subject) > MAX_CLAIM_CHARS:
            raise _refuse("token-claims", f"The token's `sub` must have 1 to {MAX_CLAIM_CHARS} characters.")
        subjects = {f"user:{subject}"}
        namespace, _, name = subject.removeprefix(_SERVICE_ACCOUNT).partition(":")
        if subject.startswith(_SERVICE_ACCOUNT) and namespace and name:
            subjects.add(f"serviceaccount:{namespace}/{name}")
        groups = claims.get("groups", [])
        if isinstance(groups, list):
            subjects.update(f"group:{group}" for group in groups[:MAX_GROUPS] if isinstance(group, str))
        purpose = claims.get("purpose")
        return Caller(
            name=f"user:{subject}",
            issuer=issuer.name,
            subjects=frozenset(subjects),
            purpose=purpose if isinstance(purpose, str) else None,
            expires=float(claims["exp"]) + self._skew,
        )


def _choose(keys: list[_Key], header: dict[str, Any]) -> _Key:
    """The one key that can have signed a token with this header; ambiguity is a no."""
    if str(header.get("typ", "JWT")).lower() not in _TYPES or "crit" in header or "b64" in header:
        raise _refuse("token-header", "The token's header asks for something that is not supported (typ, crit or b64).")
    kid, algorithm = header.get("kid"), header.get("alg")
    fitting = [key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid)]
    if len(fitting) != 1:
        raise _refuse("token-key", "No key of the issuer fits the token's `kid` and `alg`.")
    return fitting[0]


def _refuse(reason: str, detail: str) -> Refusal:
    return Refusal("unauthenticated", detail, reason=reason, headers=CHALLENGE_INVALID)


CHALLENGE = b'www-authenticate: Bearer realm="modelward"\r\n'
CHALLENGE_INVALID = b'www-authenticate: Bearer realm="modelward", error="invalid_token"\r\n'
