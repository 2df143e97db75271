"""Writes ValidatingAdmissionPolicies (Kubernetes 1.30 and later) and their bindings as manifests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelward.planner.sidecar import SYSTEM_NAMESPACE

Manifest = dict[str, Any]

LABELS = {"app.kubernetes.io/part-of": "modelward", "app.kubernetes.io/component": "backstop"}
CONTROLLER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:modelward-controller"

# modelward must not stand in the way of the cluster's own parts, nor of its own coming up.
OUTSIDE_SYSTEM_NAMESPACES = {
    "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", SYSTEM_NAMESPACE]}
    ]
}


@dataclass(frozen=True)
class Check:
    """What must hold, and what to say when it does not.

    Attributes:
        expression: CEL; the request is refused unless it is true.
        message: what is wrong and how to mend it; one line.
        says: CEL for the message, where it can say more; `message` is used when it fails.
    """

    expression: str
    message: str
    says: str = ""


@dataclass(frozen=True)
class Policy:
    """A ValidatingAdmissionPolicy in short.

    Attributes:
        resources: pairs of (API group, resources), in any version.
        matches: selectors, as in `matchConstraints`.
        conditions: CEL by name; the policy judges only where all are true.
        variables: CEL by name, in order; a later one may use an earlier one.
        bindings: selectors of each binding by its name's suffix; none: one binding, for all that the policy matches.
        param: what to bind as `params`: `paramKind` and `paramRef`.
        audit: CEL by key, for the audit log.
    """

    name: str
    operations: Sequence[str]
    resources: Sequence[tuple[str, Sequence[str]]]
    checks: Sequence[Check]
    matches: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    bindings: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    param: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    audit: Mapping[str, str] = field(default_factory=dict)

    def manifests(self) -> list[Manifest]:
        """Return the policy and its bindings."""
        return [self._policy(), *(self._binding(suffix, selectors) for suffix, selectors in self.bindings.items())]

    def _policy(self) -> Manifest:
        rules = [
            {"apiGroups": [group], "apiVersions": ["*"], "operations": [*self.operations], "resources": [*resources]}
            for group, resources in self.resources
        ]
        spec: Manifest = {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules, **self.matches},
            "validations": [_validation(check) for check in self.checks],
        }
        if self.conditions:
            spec["matchConditions"] = _named(self.conditions)
        if self.variables:
            spec["variables"] = _named(self.variables)
        if self.param:
            spec["paramKind"] = self.param[0]
        if self.audit:
            spec["auditAnnotations"] = [{"key": key, "valueExpression": value} for key, value in self.audit.items()]
        return _manifest("ValidatingAdmissionPolicy", self.name, spec)

    def _binding(self, suffix: str, selectors: Mapping[str, Any]) -> Manifest:
        spec: Manifest = {"policyName": self.name, "validationActions": ["Deny"]}
        if selectors:
            spec["matchResources"] = selectors
        if self.param:
            spec["paramRef"] = self.param[1]
        return _manifest("ValidatingAdmissionPolicyBinding", f"{self.name}-{suffix}" if suffix else self.name, spec)


def _manifest(kind: str, name: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": dict(LABELS)},
        "spec": spec,
    }


def _named(expressions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "expression": expression} for name, expression in expressions.items()]


def _validation(check: Check) -> dict[str, str]:
    validation = {"expression": check.expression, "message": check.message, "reason": "Forbidden"}
    return {**validation, "messageExpression": check.says} if check.says else validation


def cel_literal(value: Any, holes: Mapping[str, str]) -> str:
    """Write JSON data as a CEL literal.

    Args:
        value: the data.
        holes: a marker within strings, and the CEL (of type string) to put in its place.
    """
    if isinstance(value, dict):  # the API server refuses map literals whose values differ in type: hence dyn()
        items = (f"{_quoted(key)}: dyn({cel_literal(item, holes)})" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(cel_literal(item, holes) for item in value) + "]"
    if isinstance(value, str):
        for marker, expression in holes.items():
            before, found, after = value.partition(marker)
            if found:
                return f"{_quoted(before)} + {expression} + {_quoted(after)}"
    return _quoted(value)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def label_of(name: str, key: str) -> str:
    """Return CEL for one label of `object` or `oldObject`, an empty string where it is not there."""
    return f"(has({name}.metadata.labels) && '{key}' in {name}.metadata.labels ? {name}.metadata.labels['{key}'] : '')"
