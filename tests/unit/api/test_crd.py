from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modelward.api.crd import KINDS, crd, schema_of


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from nodes(schema[key], f"{path}[]")


BOUNDS = {"string": ("maxLength", "enum", "format"), "array": ("maxItems",), "object": ("properties", "maxProperties")}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_everything_is_bounded_and_described(kind: Any) -> None:
    for path, schema in nodes(schema_of(kind)):
        if path in ("", ".metadata", ".apiVersion", ".kind"):
            continue
        bounds = BOUNDS.get(schema.get("type", ""), ())
        assert not bounds or any(bound in schema for bound in bounds), f"{path} is unbounded"
        assert "description" in schema or path.endswith("[]"), f"{path} is not described"
        assert "$ref" not in schema


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_crd_has_what_users_of_kubectl_expect(kind: Any) -> None:
    spec = crd(kind)["spec"]
    (version,) = spec["versions"]
    assert spec["names"]["shortNames"] == [kind.short]
    assert "status" in version["subresources"]
    assert {"Ready", "Age"} <= {column["name"] for column in version["additionalPrinterColumns"]}
    conditions = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_default_holds_a_null(kind: Any) -> None:
    """The API server refused the whole kind for one: a field that may be absent may not be null."""
    for path, schema in nodes(schema_of(kind)):
        default = schema.get("default")
        assert not isinstance(default, dict) or None not in default.values(), path
