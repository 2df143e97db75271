"""Ways to what should not be reached: by other paths, headers, names and ports than those that are open."""

from __future__ import annotations

from collections.abc import Iterator

from modelward.attack.exchange import Finding, Request, Steps, skipped
from modelward.attack.granted import counted, granted
from modelward.attack.target import Target

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
        if seen[-1][1].trouble in ("refused", "timeout"):
            return Finding("Withstood", "the model's own port takes no connection from here", 0, 0)
    answered = [(what, reply) for what, reply in seen if reply.status]
    if answered:
        named = ", ".join(f"{what} {reply.told}" for what, reply in answered)
        return Finding("Succeeded", f"the model answers past the sidecar: {named}", len(answered), 0)
    return Finding("Withstood", f"the model's own port does not answer ({counted(seen)})", 0, 0)
