"""The public keys that an issuer signs with (RFC 7517), and which algorithms each of them is good for.

The key decides which algorithms are possible, never the token: `none` and the HMAC family are in no key's list, so a
public key can not be used as a shared secret.
"""

import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from modelward.sidecar.config import ConfigError, Issuer

MAX_KEYS = 64
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192  # a larger key buys no safety and costs the verifier dearly

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_UNUSABLE = (
    "keys of this kind cannot verify tokens here; use RSA (2048 to 8192 bits), P-256, P-384, P-521, Ed25519 or Ed448"
)


class Key:
    """A public key with the algorithms it may be used for. `identity` is equal for equal keys."""

    __slots__ = ("algorithms", "identity", "key", "kid")

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
        self.identity = json.dumps(jwk, sort_keys=True)


class Keys:
    """An issuer's keys as they are at this moment. None: none can be had, and its tokens cannot be judged."""

    __slots__ = ("current",)

    def __init__(self, current: tuple[Key, ...] = ()) -> None:
        self.current = current

    def missed(self) -> bool:
        """Hear that no key fitted a token; True where they are read anew because of it."""
        return False


def given(issuer: Issuer) -> Keys:
    """The keys that stand in the configuration itself.

    Raises:
        ConfigError: none stand there, or none can be used.
    """
    if issuer.jwks is None:
        raise ConfigError(f"issuer {issuer.name}: no keys are given")
    return Keys(read_keys(issuer.name, issuer.jwks))


def read_keys(issuer: str, document: Mapping[str, Any]) -> tuple[Key, ...]:
    """The usable keys of a JSON Web Key Set. Keys for other purposes may stand beside them.

    Raises:
        ConfigError: not a key set, too many keys, or none that can be used.
    """
    documents = document.get("keys")
    if not isinstance(documents, list) or not 1 <= len(documents) <= MAX_KEYS:
        raise ConfigError(f"issuer {issuer}: the JWKS needs `keys`, a list of 1 to {MAX_KEYS} keys")
    keys, reasons = [], []
    for one in documents:
        try:
            keys.append(Key(one if isinstance(one, dict) else {}))
        except ConfigError as error:
            reasons.append(str(error))
    if not keys:
        raise ConfigError(f"issuer {issuer}: no usable key among {len(documents)}: {reasons[0]}")
    return tuple(keys)


def _algorithms(key: object) -> tuple[str, ...]:
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return _RSA
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return ("EdDSA",)
    raise ConfigError(_UNUSABLE)
