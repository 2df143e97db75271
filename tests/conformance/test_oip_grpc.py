"""The tests' own description of the inference protocol's gRPC messages, held to the published one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelward.sidecar.grpc import contents, routes
from tests.conformance.corpora import files
from tests.unit.sidecar.oip_messages import MESSAGES, METHODS, SERVICE

(PROTO,) = files("oip", "open_inference_grpc.proto")
FIELD = re.compile(r"^(repeated )?(map<string, (\w+)>|\w+) (\w+) = (\d+);$")


def published() -> Iterator[tuple[str, str, str]]:
    """Message, field, and the field in the tests' words."""
    path: list[str] = []
    oneof = ""
    for line in re.sub(r"//.*", "", PROTO.read_text()).split("\n"):
        text = line.strip()
        if text.startswith(("message ", "oneof ")):
            kind, name = text.split()[:2]
            oneof = "oneof " if kind == "oneof" else oneof
            path.append(name)
        if text.startswith("message ") and text.endswith("{}"):
            path.pop()
        elif text == "}" and path:
            oneof = ""
            path.pop()
        elif found := FIELD.match(text):
            repeated, kind, mapped, name, number = found.groups()
            inside = [part for part in path if part != "parameter_choice"]
            kind = f"map {mapped}" if mapped else kind
            nested = f"{inside[0]}.{kind}"
            kind = nested if nested in MESSAGES else kind
            yield ".".join(inside), name, f"{number} {oneof}{repeated or ''}{kind}"


def test_names_numbers_and_types_are_the_published_ones() -> None:
    found: dict[str, dict[str, str]] = {}
    for message, name, text in published():
        found.setdefault(message, {})[name] = text
    assert found == {message: fields for message, fields in MESSAGES.items() if fields}


def test_the_methods_are_the_published_ones() -> None:
    text = PROTO.read_text()
    assert f"service {SERVICE}" in text
    assert tuple(re.findall(r"rpc (\w+)\(", text)) == METHODS
    router = routes.Router("m")
    for method in METHODS:
        assert router.route(b"POST", routes.SERVICE + method.encode()).has_body


def test_each_datatype_has_the_published_field() -> None:
    said = re.findall(
        r"Representation for ([\w, ]+?) data types?\..*?repeated \w+ \w+ = (\d+);", PROTO.read_text(), re.DOTALL
    )
    found = {name: int(number) for names, number in said for name in re.findall(r"[A-Z]+\d*", names)}
    assert found == contents.FIELDS
