"""Inputs that a model was not made for: each must end in a refusal in words (4xx), with nothing of the input in it.

A 2xx means that it was taken, a 5xx that something broke on it. Each carries a mark, which no answer may show, nor may
an answer show a stack trace (CWE-209).
"""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from modelward.attack.exchange import PROBLEM, Finding, Reply, Request, Steps, skipped
from modelward.attack.granted import counted
from modelward.attack.target import Target

OVERSIZED = 8 << 20
"""Bytes of the one large body; a sidecar takes 4 MiB unless it is told otherwise."""
DEPTH = 50_000
_TRACE = re.compile(
    rb"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|\bat [\w.$]+\([\w.]+\.(?:java|kt):\d+\)"
    rb"|goroutine \d+ \[|site-packages/"
)
_NO_LAYOUT = (
    "nobody has said what the model takes: give its manifest with -f, or let the caller read the model's metadata"
)
_Many = Iterable[tuple[str, bytes]]
_FLOATS = {"FP16": 7.0e4, "FP32": 3.5e38, "FP64": 1e308}


def marked(target: Target) -> str:
    """A text that stands nowhere by chance."""
    return f"mwmark{random.Random(target.seed).getrandbits(64):016x}"  # noqa: S311 - a mark, no secret


def _asked(target: Target, bodies: _Many, headers: dict[str, str] | None = None, *, taken_is_bad: bool = True) -> Steps:
    mark = marked(target).encode()
    seen: list[tuple[str, Reply]] = []
    for what, body in bodies:
        reply = yield target.infer(body, target.headers(more=headers or {}))
        seen.append((what, reply))
    return judged(seen, mark, taken_is_bad=taken_is_bad)


def judged(seen: list[tuple[str, Reply]], mark: bytes, *, taken_is_bad: bool = True) -> Finding:
    """What came of inputs that should be refused; measured is how many were not refused as they should."""
    wrong = []
    for what, reply in seen:
        if mark in reply.body:
            wrong.append(f"{what}: {reply.told}, and the answer repeats the input")
        elif _TRACE.search(reply.body):
            wrong.append(f"{what}: {reply.told}, and the answer shows a stack trace")
        elif reply.status >= 500:
            wrong.append(f"{what}: {reply.told}")
        elif reply.good and taken_is_bad:
            wrong.append(f"{what}: taken ({reply.told})")
    if wrong:
        return Finding("Succeeded", f"{len(wrong)} of {len(seen)}: {'; '.join(wrong)}"[:512], len(wrong), 0)
    if seen and all(reply.status in (401, 403) and not reply.problem.startswith("anomalous") for _, reply in seen):
        return Finding("Inconclusive", f"all {len(seen)} were refused for who asked, not for what ({counted(seen)})")
    bare = sum(bool(reply.status) and PROBLEM not in reply.headers.get("content-type", "") for _, reply in seen)
    note = f"; {bare} not as {PROBLEM}" if bare else ""
    return Finding("Withstood", f"all {len(seen)} refused; answers: {counted(seen)}{note}", 0, 0)


def _changed(target: Target, change: Callable[[dict[str, Any]], None]) -> bytes:
    """An ordinary body with a change to its document."""
    assert target.layout is not None  # noqa: S101 - asked before
    row = target.ordinary()
    assert row is not None  # noqa: S101 - there is a layout
    document = target.layout.document(row)
    change(document)
    return json.dumps(document).encode()


def undeclared(target: Target) -> Steps:
    """Inputs and fields that were not declared, identifiers of people in them."""
    if target.layout is None:
        return skipped(_NO_LAYOUT)
    mark = marked(target)
    person = f"{mark} jane.roe@example.org 078-05-1120 DE89370400440532013000"

    def bodies() -> Iterator[tuple[str, bytes]]:
        if target.protocol == "v2":
            note = {"name": "note", "datatype": "BYTES", "shape": [1], "data": [person]}
            yield "an undeclared input", _changed(target, lambda document: document["inputs"].append(note))
            yield (
                "an input of another name",
                _changed(target, lambda document: document["inputs"][0].update(name="not_declared")),
            )
            yield "an undeclared member", _changed(target, lambda document: document["inputs"][0].update(note=person))
            memory = {"shared_memory_region": "modelward", "shared_memory_byte_size": 8}
            yield "shared memory", _changed(target, lambda document: document["inputs"][0].update(parameters=memory))
        yield "an undeclared field", _changed(target, lambda document: document.update(ssn=person))

    return _asked(target, bodies())


def not_numbers(target: Target) -> Steps:
    """NaN, infinity, null, texts and truth values where numbers belong."""
    if target.layout is None:
        return skipped(_NO_LAYOUT)
    if not _numeric(target):
        return skipped("the model takes no numbers")
    mark = marked(target)
    values: tuple[tuple[str, Any], ...] = (
        ("NaN", math.nan),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        ("null", None),
        ("a text", mark),
        ("a truth value", True),
        ("an object", {mark: 1}),
    )

    def bodies() -> Iterator[tuple[str, bytes]]:
        for what, value in values:
            yield what, _changed(target, lambda document, value=value: _put(target, document, value))  # type: ignore[misc]
        yield "1e999", _changed(target, lambda document: _put(target, document, "@")).replace(b'"@"', b"1e999")

    return _asked(target, bodies())


def out_of_range(target: Target) -> Steps:
    """Numbers below the least and above the greatest that can be."""
    if target.layout is None:
        return skipped(_NO_LAYOUT)
    if not _numeric(target):
        return skipped("the model takes no numbers")
    place = _numeric(target)[0]
    part = target.layout.parts[place]
    huge = _FLOATS.get(part.datatype, float((1 << 63) - 1))

    def bodies() -> Iterator[tuple[str, bytes]]:
        for what, value in (("far above", huge), ("far below", -huge)):
            number = value if part.datatype in _FLOATS else int(value)
            yield what, _changed(target, lambda document, number=number: _put(target, document, number))  # type: ignore[misc]
        for what, bound, way in (("just above", part.maximum, 1), ("just below", part.minimum, -1)):
            if bound is not None:
                number = bound + way if part.datatype in _FLOATS else int(bound) + way
                yield what, _changed(target, lambda document, number=number: _put(target, document, number))  # type: ignore[misc]

    return _asked(target, bodies())


def shapes(target: Target) -> Steps:
    """Shapes that do not fit the data, or cannot be."""
    if target.layout is None:
        return skipped(_NO_LAYOUT)

    def data(document: dict[str, Any], value: Any) -> None:
        if target.protocol == "v2":
            document["inputs"][0]["data"] = value
        else:
            document["instances"] = value

    def shape(value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda document: document["inputs"][0].update(shape=value)

    def bodies() -> Iterator[tuple[str, bytes]]:
        yield "no data", _changed(target, lambda document: data(document, []))
        yield "data that are no list", _changed(target, lambda document: data(document, {"a": 1}))
        if target.protocol == "v2":
            width = target.layout.parts[0].width if target.layout else 1
            yield "a negative axis", _changed(target, shape([-1, width]))
            yield "an axis of 2^62", _changed(target, shape([1 << 62, 4]))
            yield "no axis", _changed(target, shape([]))
            yield "one element too many", _changed(target, shape([1, width + 1]))
            yield "no inputs", _changed(target, lambda document: document.update(inputs=[]))
            yield "the input twice", _changed(target, lambda document: document["inputs"].append(document["inputs"][0]))
            yield (
                "a datatype nobody knows",
                _changed(target, lambda document: document["inputs"][0].update(datatype="X")),
            )

    return _asked(target, bodies())


def unreadable(target: Target) -> Steps:
    """Bodies that are no JSON, or JSON in two readings, or of another kind than they say."""
    mark = marked(target)
    body = target.content()
    twice = b'{"id": "a", "id": "b", ' + body.lstrip()[1:]
    bodies = [
        ("half of it", body[: len(body) // 2] + mark.encode()),
        ("nothing", b""),
        ("a list", b"[]"),
        ("not UTF-8", b'{"inputs": "\xff\xfe' + mark.encode() + b'"}'),
        ("a comment", b"/* " + mark.encode() + b" */ " + body),
        ("a second document", body + body),
        ("a name twice", twice),
        ("XML", f"<x>{mark}</x>".encode()),
        ("a pickle", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07" + mark[:7].encode() + b"\x94."),
    ]
    if target.layout is None:
        bodies.pop(6)
    return _unreadable(target, bodies, mark.encode())


def _unreadable(target: Target, bodies: list[tuple[str, bytes]], mark: bytes) -> Steps:
    seen: list[tuple[str, Reply]] = []
    for what, body in bodies:
        seen.append((what, (yield target.infer(body))))
    other = (
        ("another media type", {"content-type": "text/plain"}, target.content()),
        ("compressed", {"content-encoding": "gzip"}, gzip.compress(target.content(), mtime=0)),
    )
    for what, more, body in other if target.layout is not None else ():
        seen.append((what, (yield target.infer(body, target.headers(more=more)))))
    return judged(seen, mark)


def deep(target: Target) -> Steps:
    """Brackets in brackets, as deep as no reader should follow."""
    bodies = [
        ("lists", b'{"inputs": ' + b"[" * DEPTH + b"]" * DEPTH + b"}"),
        ("objects", b'{"a":' * DEPTH + b"1" + b"}" * DEPTH),
        ("lists that do not end", b"[" * DEPTH),
    ]
    return _asked(target, bodies)


def oversized(target: Target) -> Steps:
    """One body that is larger than any that the model can want."""
    return _oversized(target)


def _oversized(target: Target) -> Steps:
    body = target.content()
    padded = body[:-1].rstrip() + b" " * max(OVERSIZED - len(body), 0) + body[-1:]
    reply = yield target.infer(padded)
    if not reply.status and reply.trouble == "closed":
        return Finding("Withstood", f"the connection was closed on {OVERSIZED:,} bytes", 0, 0)
    return judged([(f"{OVERSIZED:,} bytes", reply)], marked(target).encode())


def identifiers(target: Target) -> Steps:
    """What names a person, in an input of free text: it must not come back, whatever the model does with it."""
    if target.layout is None:
        return skipped(_NO_LAYOUT)
    texts = [place for place, part in enumerate(target.layout.parts) if part.datatype == "BYTES"]
    if not texts:
        return skipped("the model takes no text")
    return _identifiers(target, texts[0])


def _identifiers(target: Target, place: int) -> Steps:
    told = ("jane.roe@example.org", "078-05-1120", "DE89370400440532013000", "4111111111111111", "+49 30 901820")
    sentence = f"Jane Roe, {told[0]}, SSN {told[1]}, IBAN {told[2]}, card {told[3]}, phone {told[4]}"
    reply: Reply = yield _with_text(target, place, sentence)
    back = [index for index, one in enumerate(told) if one.encode() in reply.body]
    if reply.status >= 500:
        return Finding("Succeeded", f"a sentence with identifiers broke something ({reply.told})", len(told), 0)
    if back:
        return Finding("Succeeded", f"{len(back)} of {len(told)} identifiers came back ({reply.told})", len(back), 0)
    return Finding("Withstood", f"0 of {len(told)} identifiers came back ({reply.told})", 0, 0)


def _with_text(target: Target, place: int, text: str) -> Request:
    def change(document: dict[str, Any]) -> None:
        if target.protocol == "v2":
            document["inputs"][place]["data"][0] = text
        else:
            _put(target, document, text, place)

    return target.infer(_changed(target, change))


def _numeric(target: Target) -> list[int]:
    """The places of inputs that hold numbers."""
    parts = target.layout.parts if target.layout is not None else ()
    return [place for place, part in enumerate(parts) if part.datatype not in ("BYTES", "BOOL")]


def _put(target: Target, document: dict[str, Any], value: Any, place: int | None = None) -> None:
    """Put a value in the place of the first element of an input, by default of the first that holds numbers."""
    assert target.layout is not None  # noqa: S101 - asked before
    place = _numeric(target)[0] if place is None else place
    if target.protocol == "v2":
        document["inputs"][place]["data"][0] = value
        return
    holder: Any = document["instances"]
    key: int | str = 0
    if isinstance(holder[0], dict):
        holder, key = holder[0], target.layout.parts[place].name
    while isinstance(holder[key], list):
        holder, key = holder[key], 0
    holder[key] = value
