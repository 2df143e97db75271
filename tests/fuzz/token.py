"""Any bytes as a bearer token: a refusal, or the caller of a token that one of the keys has signed.

An input is a token; or, where it begins with `sign `, a header and claims in JSON, a line each, which are signed with
the key: so the fuzzer gets past the signature and at what the claims are judged by.
"""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.sidecar.config import Issuer
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tokens import MAX_CLAIM_CHARS, TokenVerifier
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

CANARY = "c4n4ry"  # stands in claims of the seeds, and may stand in no message
SKEW = 30
ISSUER, AUDIENCE = "https://issuer.example", "m"
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # for this fuzzer alone
_SIGN = b"sign "


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


_JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": _encoded(_KEY.public_key().public_bytes_raw()).decode()}
_ISSUERS = [Issuer("i", ISSUER, [AUDIENCE], {"keys": [_JWK]})]
_VERIFIER = TokenVerifier(_ISSUERS, skew_seconds=SKEW, cache_size=16)


def signed(header: bytes, claims: bytes) -> bytes:
    """A token of these very bytes."""
    text = _encoded(header) + b"." + _encoded(claims)
    return text + b"." + _encoded(_KEY.sign(text))


# The tokens that are signed and come as such: all others that come as tokens are forged.
GENUINE = signed(
    b'{"alg":"EdDSA","typ":"JWT","kid":"k"}',
    json.dumps({"iss": ISSUER, "aud": AUDIENCE, "sub": f"alice-{CANARY}", "exp": 4_000_000_000}).encode(),
)


def one(content: bytes) -> None:
    """Check who is said to hold a token.

    Raises:
        AssertionError: it is not what it must be.
    """
    header, _, claims = content.removeprefix(_SIGN).partition(b"\n")
    signs = content.startswith(_SIGN)
    token = signed(header, claims) if signs else content
    try:
        caller = _VERIFIER.caller(token)
    except Refusal as refusal:
        assert refusal.problem.slug == "unauthenticated"
        assert CANARY not in refusal.detail + refusal.reason + refusal.headers.decode()
        return
    if not signs:
        assert token.rpartition(b".")[0] == GENUINE.rpartition(b".")[0], "a token that nobody signed"
        return
    stated = json.loads(claims, object_pairs_hook=_once)
    assert json.loads(header, object_pairs_hook=_once)["alg"] == "EdDSA"
    assert _holds(stated), f"accepted, and no reader of its claims would say so: {stated}"
    assert caller.name == "user:" + stated["sub"]
    assert not any(subject.startswith("serviceaccount:") for subject in caller.subjects)
    assert caller.expires <= float(stated["exp"]) + SKEW


def _holds(claims: Any) -> bool:
    audience = claims["aud"]
    return (
        claims["iss"] == ISSUER
        and AUDIENCE in ([audience] if isinstance(audience, str) else audience)
        and isinstance(claims["sub"], str)
        and 0 < len(claims["sub"]) <= MAX_CLAIM_CHARS
        and not claims["sub"].startswith("system:")
        and float(claims["exp"]) + SKEW > time.time() - 1
        and float(claims.get("nbf", 0)) - SKEW <= time.time()
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a name that comes twice has passed"
    return found


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: of the claims or the header before they are signed, or of any part of a token."""
    if content.startswith(_SIGN):
        header, _, claims = content.removeprefix(_SIGN).partition(b"\n")
        if chance.random() < 0.3:
            header = mutated(header, chance)
        else:
            claims = mutated(claims, chance)
        return _SIGN + header.replace(b"\n", b" ") + b"\n" + claims
    parts = content.split(b".")
    place = chance.randrange(len(parts))
    if chance.random() < 0.5:
        try:
            inner = base64.urlsafe_b64decode(parts[place] + b"==")
            parts[place] = _encoded(mutated(inner, chance))
        except ValueError:
            parts[place] = mutated(parts[place], chance)
    elif chance.random() < 0.3:
        parts.insert(place, chance.choice((b"", b"e30", parts[place])))
    else:
        text = bytearray(b".".join(parts))
        if text:
            text[chance.randrange(len(text))] = chance.choice(b"AQZaz019-_=.+/ \n\x00\xff")
        return bytes(text)
    return b".".join(parts)


TARGET = Target("token", one, mutate)


if __name__ == "__main__":
    main(TARGET)
