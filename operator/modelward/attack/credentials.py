"""Ways past who may ask: no credentials, made-up ones, those of others, and none but a header that says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from modelward.attack import tokens
from modelward.attack.exchange import Steps, skipped
from modelward.attack.granted import granted
from modelward.attack.target import PURPOSE_HEADER, Target

OTHER_PURPOSE = "modelward-attack-no-such-purpose"
_LATER = 4_102_444_800  # the year 2100
_SPOOFED = {
    "x-forwarded-user": "admin",
    "x-remote-user": "admin",
    "x-forwarded-email": "admin@example.org",
    "x-auth-request-user": "admin",
    "x-authenticated-userid": "admin",
    "x-forwarded-client-cert": 'By=spiffe://cluster.local/ns/default/sa/default;URI="spiffe://cluster.local/ns/x/sa/admin"',
    "x-forwarded-for": "127.0.0.1",
    "x-real-ip": "127.0.0.1",
    "forwarded": "for=127.0.0.1;proto=https",
    "x-modelward-subject": "user:admin",
}


def no_token(target: Target) -> Steps:
    """Ask without credentials."""
    bare = target.headers(token=None)
    return granted(
        (
            ("infer without credentials", target.infer(target.content(), bare, target.nobody)),
            ("metadata without credentials", target.get(target.about, bare, target.nobody)),
            (
                "infer with an empty bearer",
                target.infer(target.content(), bare | {"authorization": "Bearer "}, target.nobody),
            ),
            (
                "infer with Basic",
                target.infer(target.content(), bare | {"authorization": "Basic YWRtaW46YWRtaW4="}, target.nobody),
            ),
        )
    )


def garbage_token(target: Target) -> Steps:
    """Ask with tokens that are none."""
    return granted(
        (f"garbage token {index}", target.infer(target.content(), target.headers(token=token)))
        for index, token in enumerate(tokens.GARBAGE, 1)
    )


def _edited(target: Target, named: Iterable[tuple[str, str]]) -> Steps:
    return granted((what, target.infer(target.content(), target.headers(token=token))) for what, token in named)


def _given(target: Target) -> tokens.Parts | None:
    return tokens.parts_of(target.callers.token) if target.callers.token else None


def _known(target: Target) -> list[tokens.Parts]:
    """The token given, and such as the issuers would give that the manifest names: whoever can read it knows them."""
    given = _given(target)
    return [*([given] if given else []), *(tokens.made_up(claims) for claims in target.issued)]


_NOTHING_TO_CHANGE = "no token was given that could be changed: give one, a JSON Web Token, with --token-file"


def unsigned_token(target: Target) -> Steps:
    """Ask with tokens of which it is said that they need no signature."""
    each = [token for parts in _known(target) for token in tokens.unsigned(parts)]
    if not each:
        return skipped(f"{_NOTHING_TO_CHANGE}, or a manifest that names issuers with -f")
    return _edited(target, ((f"alg none {index}", token) for index, token in enumerate(each, 1)))


def forged_token(target: Target) -> Steps:
    """Ask with tokens of another signature."""
    each = [token for parts in _known(target) for token in tokens.resigned(parts)]
    if not each:
        return skipped(f"{_NOTHING_TO_CHANGE}, or a manifest that names issuers with -f")
    return _edited(target, ((f"signature {index}", token) for index, token in enumerate(each, 1)))


def changed_claims(target: Target) -> Steps:
    """Ask with the token and other claims under the former signature."""
    parts = _given(target)
    if parts is None:
        return skipped(_NOTHING_TO_CHANGE)
    claims: dict[str, dict[str, Any]] = {
        "expired": {"exp": 1},
        "not valid yet": {"nbf": _LATER},
        "another audience": {"aud": "modelward-attack"},
        "another issuer": {"iss": "https://modelward-attack.example"},
        "another subject": {"sub": "admin", "groups": ["system:masters", "admin"]},
        "another purpose": {"purpose": OTHER_PURPOSE},
    }
    return _edited(target, ((what, tokens.changed(parts, **claim)) for what, claim in claims.items()))


def stranger(target: Target) -> Steps:
    """Ask with a token that verifies, as somebody whom no rule lets ask."""
    if target.stranger is None:
        return skipped("no token of somebody without rights was given: --stranger-token-file")
    headers = target.headers(token=target.stranger)
    return granted(
        (
            ("infer as a stranger", target.infer(target.content(), headers)),
            ("metadata as a stranger", target.get(target.about, headers)),
        )
    )


def purpose(target: Target) -> Steps:
    """Ask without the purpose, and for one that no rule names."""
    parts = _given(target)
    if parts is not None and "purpose" in parts.claims:
        return skipped("the token's claim says the purpose, and a header does not count beside it")
    if target.purpose is None:
        return skipped("no purpose was given that could be left out: --purpose")
    bare = target.headers(purpose=None)
    asked = [
        ("no purpose", target.infer(target.content(), bare)),
        ("another purpose", target.infer(target.content(), bare | {PURPOSE_HEADER: OTHER_PURPOSE})),
        ("an empty purpose", target.infer(target.content(), bare | {PURPOSE_HEADER: ""})),
    ]
    return granted(asked)


def spoofed_identity(target: Target) -> Steps:
    """Say who one is in headers that a proxy would set."""
    bare = target.headers(token=None)
    each = [
        (name, target.infer(target.content(), bare | {name: said}, target.nobody)) for name, said in _SPOOFED.items()
    ]
    return granted([*each, ("all of them", target.infer(target.content(), bare | _SPOOFED, target.nobody))])
