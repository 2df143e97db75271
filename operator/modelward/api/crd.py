"""CustomResourceDefinitions made from the pydantic models: one source for types, descriptions and bounds.

The API server wants *structural* schemas (KEP-1769): no `$ref`, no `anyOf` with types, boolean `exclusiveMinimum`,
and bounds on everything that a CEL rule walks over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelward.api.base import GROUP, VERSION, Resource
from modelward.api.datapolicy import ClusterDataPolicy, DataPolicy
from modelward.api.modeldeployment import ModelDeployment

Schema = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """How a kind is named and shown."""

    model: type[Resource]
    plural: str
    short: str
    scope: str
    columns: tuple[tuple[str, str, str], ...]
    """Printer columns: (name, type, JSON path)."""
    scale: bool = False

    @property
    def name(self) -> str:
        """The kind as manifests give it."""
        return self.model.__name__


def _condition(kind: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].status'


KINDS: tuple[Kind, ...] = (
    Kind(
        ModelDeployment,
        "modeldeployments",
        "md",
        "Namespaced",
        (
            ("Ready", "string", _condition("Ready")),
            ("Compliant", "string", _condition("PolicyCompliant")),
            ("Encrypted", "string", _condition("Encrypted")),
            ("Lineage", "string", _condition("LineageVerified")),
            ("Monitored", "string", _condition("Monitored")),
            ("Pods", "integer", ".status.readyReplicas"),
            ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
            ("Age", "date", ".metadata.creationTimestamp"),
        ),
        scale=True,
    ),
    *(
        Kind(
            model,
            plural,
            short,
            scope,
            (
                ("Enforcement", "string", ".spec.enforcement"),
                ("Ready", "string", _condition("Ready")),
                ("Governed", "integer", ".status.governed"),
                ("Violations", "integer", ".status.violations"),
                ("Age", "date", ".metadata.creationTimestamp"),
            ),
        )
        for model, plural, short, scope in (
            (DataPolicy, "datapolicies", "dp", "Namespaced"),
            (ClusterDataPolicy, "clusterdatapolicies", "cdp", "Cluster"),
        )
    ),
)

_DROPPED = ("title", "discriminator")


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Turn a node of pydantic's JSON Schema (draft 2020-12) into one of a structural schema."""
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
    if "x-kubernetes-int-or-string" in node:
        return {key: value for key, value in node.items() if key not in _DROPPED}
    if "anyOf" in node:  # Optional: absence says what null would
        (only,) = [option for option in node["anyOf"] if option.get("type") != "null"]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural({**only, **rest}, definitions)
    out = {key: value for key, value in node.items() if key not in _DROPPED and value is not None}
    if isinstance(out.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(out["additionalProperties"], definitions)
    else:
        out.pop("additionalProperties", None)
    out.pop("propertyNames", None)
    if "const" in out:
        out["enum"] = [out.pop("const")]
    if "exclusiveMinimum" in out:
        out["minimum"], out["exclusiveMinimum"] = out["exclusiveMinimum"], True
    if isinstance(out.get("default"), dict):  # absence says what null would, and the API server takes no null for it
        out["default"] = {name: value for name, value in out["default"].items() if value is not None}
    if out.get("type") == "integer":
        out.setdefault("format", "int64")
    if "items" in out:
        items = _structural(out["items"], definitions)
        items.pop("description", None)  # the field's own is shown; `kubectl explain` would print both
        out["items"] = items
    if "properties" in out:
        fields = ((name, _structural(value, definitions)) for name, value in out["properties"].items())
        out["properties"] = {name: _with_default_told(value) for name, value in fields}
    return out


def _with_default_told(node: Schema) -> Schema:
    """Name the default in the description: `kubectl explain` shows descriptions and no defaults."""
    default = node.get("default")
    if default in (None, "", [], {}):
        return node
    if isinstance(default, dict):
        told = ", ".join(f"{name} {value}" for name, value in default.items())
    else:
        told = ", ".join(map(str, default)) if isinstance(default, list) else str(default)
    if isinstance(default, bool):
        told = told.lower()
    return {**node, "description": f"{node['description']} Default: {told}."}


def openapi(model: type[Resource]) -> Schema:
    """Return the structural schema (`openAPIV3Schema`) of a kind: a dict free of `$ref`."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    definitions = raw.pop("$defs", {})
    spec = _structural(raw["properties"]["spec"], definitions)
    status = _structural(raw["properties"]["status"], definitions)
    return {
        "type": "object",
        "description": raw["description"],
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": "Version of this representation of the object."},
            "kind": {"type": "string", "description": "Kind of the object."},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": {**status, "description": "What modelward has seen and done; written by its controller alone."},
        },
    }


def _with_name_rule(schema: Schema, kind: Kind) -> Schema:
    if kind.model is not ModelDeployment:
        return schema
    rule = {
        "rule": "size(self.metadata.name) <= 50 && !self.metadata.name.contains('.')"
        " && !['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'].exists(d, self.metadata.name.startsWith(d))",
        "message": "metadata.name may have 50 characters at most and no dot, and begins with a letter: it becomes a"
        " label, part of names, and the name of a Service",
    }
    return {**schema, "x-kubernetes-validations": [rule]}


def schema_of(kind: Kind) -> Schema:
    """Return the whole schema of a kind, the rules on its metadata included."""
    return _with_name_rule(openapi(kind.model), kind)


def crd(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind as a manifest."""
    subresources: dict[str, Any] = {"status": {}}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "modelward"}},
        "spec": {
            "group": GROUP,
            "scope": kind.scope,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["modelward"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema_of(kind)},
                    "subresources": subresources,
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path} for name, type_, path in kind.columns
                    ],
                }
            ],
        },
    }
