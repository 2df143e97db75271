"""Any bytes as a body: a refusal, or tensors that a plain JSON reader sees alike in what came and in what goes on."""

from __future__ import annotations

import json
import math
from typing import Any

from modelward.privacy import sanitise
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
_OUTPUTS = Outputs([TensorDeclaration("y", "INT64", [-1]), TensorDeclaration("t", "BYTES", [-1])])


def one(content: bytes) -> None:
    """Check what becomes of a body, under several schemas and as a model's answer.

    Raises:
        AssertionError: it is not what it must be.
    """
    for protocol, schema in _SCHEMAS:
        try:
            checked = schema.check(content)
        except Refusal as refusal:
            _tells_nothing(refusal, content)
            assert refusal.problem.slug in ("malformed-json", "schema-violation")
        else:
            _reads_alike(protocol, schema, checked, content)
    try:
        _OUTPUTS.check(content)
    except Refusal as refusal:
        assert refusal.problem.slug == "bad-upstream"
        assert CANARY not in refusal.detail
    else:
        document = json.loads(content, object_pairs_hook=_once)
        assert {output["name"] for output in document["outputs"]} <= {"y", "t"}


def _tells_nothing(refusal: Refusal, content: bytes) -> None:
    """No value stands in the message; names may, and the protocol's own words."""
    if CANARY in refusal.detail:
        names = _names(json.loads(content))
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


def _reads_alike(protocol: str, schema: Schema, checked: Checked, content: bytes) -> None:
    came = json.loads(content, object_pairs_hook=_once)
    written = checked.encode()
    goes = json.loads(written, object_pairs_hook=_once)
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


TARGET = Target("tensors", one, mutated)


if __name__ == "__main__":
    main(TARGET)
