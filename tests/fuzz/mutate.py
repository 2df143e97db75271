"""Mutations of JSON documents: of their structure, of their text, and of both."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**400, 0.5, 1e308, -0.0),
    *("", " ", "x", "\x00", "\ud800", "\U0010ffff", "é" * 64, "x" * 10_000, "${{ }}", "' || true || '", "../../etc"),
    *([], [[]], [None], {}, {"": ""}, {"metadata": {}}, ["x"] * 1000, {str(key): key for key in range(300)}),
)
TEXTS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"\xff", b"\x00", b"\xef\xbb\xbf"),
    *(b"NaN", b"Infinity", b"-", b"1e999", b"0x1", b"01", b"true", b"null", b"//", b"[" * 600, b'{"a":' * 600),
    *(b'"object":null,', b'"operation":"DELETE",', b'"kind":{},', b'"allowed":true,', b'"metadata":{},'),
)


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Return a variant of a document; JSON may no longer be what it is."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        try:
            if chance.random() < 0.3:
                raise ValueError  # noqa: TRY301 - as if it were no JSON
            body = _encoded(_structure(json.loads(body), chance), chance)
        except (ValueError, RecursionError):
            body = _text(body, chance)
    return body


def _encoded(document: Any, chance: random.Random) -> bytes:
    text = json.dumps(document, ensure_ascii=chance.random() < 0.9)
    return text.encode(errors="surrogatepass")


def _structure(document: Any, chance: random.Random) -> Any:
    """Change one place, or take one place's value to another."""
    places = list(_places(document))
    if not places:
        return chance.choice(VALUES)
    parent, key = chance.choice(places)
    match chance.randrange(7):
        case 0:
            del parent[key]
        case 1:
            other, there = chance.choice(places)
            parent[key] = copy.deepcopy(other[there])
        case 2 if isinstance(parent, dict):
            parent[chance.choice(("", "metadata", "spec", "status", "deletionTimestamp", "x" * 300))] = parent[key]
        case 3:
            for _ in range(chance.choice((10, 300, 1200))):
                parent[key] = {"a": parent[key]} if chance.random() < 0.5 else [parent[key]]
        case 4 if isinstance(parent, list):
            parent.extend(parent[:1] * chance.choice((1, 50, 500)))
        case _:
            parent[key] = chance.choice(VALUES)
    return document


def _places(node: Any) -> Any:
    """All (container, key) of a document, of which one can be changed in place."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            yield node, key
            waiting.append(value)


def _text(body: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(body) + 1)
    end = min(len(body), start + chance.choice((0, 1, 4, 40)))
    match chance.randrange(4):
        case 0:
            return body[:start]
        case 1:
            return body[:start] + body[end:]
        case 2:
            return body[:end] + body[start:]
        case _:
            return body[:start] + chance.choice(TEXTS) + body[end:]
