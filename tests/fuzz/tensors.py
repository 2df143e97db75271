"""Any bytes as a body: a refusal, or tensors that a plain reader sees alike in what came and in what goes on.

An input is a body of JSON; or, where it begins with a line `binary N`, one with N bytes of JSON and binary data after.
"""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np

from modelward.privacy import sanitise
from modelward.sidecar.binary import Body
from modelward.sidecar.config import TensorDeclaration
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Checked, Outputs, Schema
from tests.fuzz.driver import Target, main
from tests.fuzz.mutate import mutated

CANARY = "c4n4ry"  # stands in data of the seeds, and may stand in no message
_DECLARED = [
    TensorDeclaration("x", "FP64", [-1, 3], minimum=-1000, maximum=1000),
    TensorDeclaration("n", "BYTES", [-1]),
]
_ONE = [TensorDeclaration("x", "INT32", [-1, 3])]
_SCHEMAS = (
    ("v2", Schema("v2", _DECLARED, "Reject")),
    ("v2", Schema("v2", _DECLARED, "Drop")),
    ("v2", Schema("v2", None, "Reject")),
    ("v1", Schema("v1", _DECLARED, "Drop")),
    ("v1", Schema("v1", _ONE, "Reject")),
    ("v1", Schema("v1", None, "Reject")),
)
_BINARY = b"binary "
_DTYPES = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "BOOL": "?"}
_OUTPUTS = Outputs([TensorDeclaration("y", "INT64", [-1]), TensorDeclaration("t", "BYTES", [-1])])


def one(content: bytes) -> None:
    """Check what becomes of a body, under several schemas and as a model's answer.

    Raises:
        AssertionError: it is not what it must be.
    """
    body = _body(content)
    for protocol, schema in _SCHEMAS:
        try:
            checked = schema.check(body)
        except Refusal as refusal:
            _tells_nothing(refusal, body)
            assert refusal.problem.slug in ("malformed-json", "schema-violation", "unsupported-media-type")
        else:
            _reads_alike(protocol, schema, checked, body)
    try:
        _OUTPUTS.check(body)
    except Refusal as refusal:
        assert refusal.problem.slug == "bad-upstream"
        assert CANARY not in refusal.detail
    else:
        document = json.loads(_json(body), object_pairs_hook=_once)
        assert {output["name"] for output in document["outputs"]} <= {"y", "t"}


def _body(content: bytes) -> Body:
    if not content.startswith(_BINARY):
        return Body(content)
    length, _, rest = content.removeprefix(_BINARY).partition(b"\n")
    return Body(rest, length)


def _json(body: Body) -> bytes:
    return body.content if body.json_length is None else body.content[: int(body.json_length)]


def _plain(body: Body) -> dict[str, Any]:
    """The document with what came as bytes put in its place, read without the sidecar."""
    document = json.loads(_json(body), object_pairs_hook=_once)
    rest = body.content[len(_json(body)) :]
    for entry in document.get("inputs", ()):
        size = (entry.get("parameters") or {}).pop("binary_data_size", None)
        if size is not None:
            assert "data" not in entry, "data twice"
            entry["data"], rest = _elements(entry["datatype"], rest[:size]), rest[size:]
    assert not rest, "bytes that are no tensor's have passed"
    return document


def _elements(datatype: str, content: bytes) -> list[Any]:
    if datatype != "BYTES":
        kind = _DTYPES.get(datatype) or f"<{'u' if datatype[0] == 'U' else 'i'}{int(datatype.lstrip('UINT')) // 8}"
        found: list[Any] = np.frombuffer(content, kind).tolist()
        return found
    texts = []
    while content:
        length = int.from_bytes(content[:4], "little")
        texts.append(content[4 : 4 + length].decode())
        content = content[4 + length :]
    return texts


def _tells_nothing(refusal: Refusal, body: Body) -> None:
    """No value stands in the message; names may, and the protocol's own words."""
    if CANARY in refusal.detail:
        names = _names(json.loads(_json(body).decode(errors="replace")))  # it may be refused before it is read
        assert any(CANARY in name for name in names), f"a value in a message: {refusal.detail}"


def _names(node: Any) -> list[str]:
    """Every string of a document that is a name or stands where the protocol has a word of its own."""
    found: list[str] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            found += node
            found += [str(node[word]) for word in ("name", "datatype") if word in node]
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a name that comes twice has passed"
    return found


def _reads_alike(protocol: str, schema: Schema, checked: Checked, body: Body) -> None:
    came = _plain(body)
    written = checked.encode()
    goes = _plain(written)
    assert set(goes) <= set(came)
    assert schema.check(written).encode() == written, "what goes on is not what would be written of it"
    if protocol == "v2":
        there = {entry["name"]: entry for entry in came["inputs"]}
        assert len(there) == len(came["inputs"])
        kept = {entry["name"]: entry for entry in goes["inputs"]}
        assert set(kept) == set(there) & set(schema.declared if schema.declared is not None else there)
        for name, entry in kept.items():
            assert entry["shape"] == there[name]["shape"]
            floating = entry["datatype"].startswith("FP")
            assert _same(_flat(entry["data"]), _flat(there[name]["data"]), floating), "the data is not what came"
            assert len(_flat(entry["data"])) == math.prod(entry["shape"])
    else:
        assert len(goes["instances"]) == len(came["instances"])
        for new, old in zip(goes["instances"], came["instances"], strict=True):
            pairs = ((new[name], old[name]) for name in new) if isinstance(new, dict) else ((new, old),)
            assert all(_same(_flat([one]), _flat([other]), floating=True) for one, other in pairs), (
                "an instance is not what came"
            )
            assert schema.declared is None or not isinstance(new, dict) or set(new) == set(schema.declared)


def _flat(data: Any) -> list[Any]:
    found: list[Any] = []
    waiting = [data]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += reversed(node)
        else:
            found.append(node)
    return found


def _same(one: list[Any], other: list[Any], floating: bool) -> bool:
    """Equal, and of one kind; text in normal form; a whole number may have become the nearest floating-point one."""
    return len(one) == len(other) and all(_equal(a, b, floating) for a, b in zip(one, other, strict=True))


def _equal(one: Any, other: Any, floating: bool) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other or one == sanitise.text(other)
    return isinstance(one, bool) == isinstance(other, bool) and (
        one == other or (floating and float(one) == float(other))
    )


def mutate(content: bytes, chance: random.Random) -> bytes:
    """A variant: of the JSON, whose length is mostly told as it is, or of the bytes after it."""
    if not content.startswith(_BINARY):
        return mutated(content, chance)
    try:
        head = _json(_body(content))
    except ValueError:
        return mutated(content, chance)
    rest = _body(content).content[len(head) :]
    if chance.random() < 0.6:
        head = mutated(head, chance)
    elif rest:
        place = chance.randrange(len(rest))
        rest = chance.choice(
            (rest[:place], rest + rest[place:], rest[:place] + bytes([chance.randrange(256)]) + rest[place + 1 :])
        )
    length = len(head) if chance.random() < 0.9 else chance.randrange(len(head) + len(rest) + 9)
    return _BINARY + b"%d\n" % length + head + rest


TARGET = Target("tensors", one, mutate, room=4096)


if __name__ == "__main__":
    main(TARGET)
