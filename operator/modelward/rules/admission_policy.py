"""The backstop: the catalogue compiled to ValidatingAdmissionPolicies (KEP-3488), which the API server itself enforces.

The policy object is the parameter, so one compiled policy serves every DataPolicy there will ever be. Each way of
enforcing (Enforce, Warn, Audit) is a twin with its own binding, because a binding's actions are fixed; a twin's
`matchConditions` let through only the parameters that ask for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from modelward.api.base import API_VERSION, GROUP, VERSION
from modelward.api.expression import CelError, Expression
from modelward.rules import scope
from modelward.rules.catalogue import Rule, catalogue

ACTIONS = {"Enforce": ["Deny"], "Warn": ["Warn"], "Audit": ["Audit"]}
LABELS = {"app.kubernetes.io/part-of": "modelward", "app.kubernetes.io/component": "backstop"}
MAX_MESSAGE = 1024


@dataclass(frozen=True)
class _Check:
    """What a validation is made of."""

    rule_id: str
    applies: str
    expression: str
    field: str
    message: str
    fix: str


def _checks(rules: Sequence[Rule]) -> list[_Check]:
    return [
        _Check(rule.id, rule.applies, rule.expression, rule.field, rule.message, rule.fix)
        for rule in rules
        if rule.enforced_at == "admission"
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _validation(check: _Check, kind: str) -> dict[str, str]:
    expression = f"!({check.applies}) || {scope.is_excused(check.rule_id)} || ({check.expression})"
    before = _quoted(f"{check.rule_id} {check.field}: ")
    after = _quoted(f". Fix: {check.fix} (asked by {kind}/")
    message = f"{before} + ({check.message}) + {after} + params.metadata.name + ')'"
    return {
        "expression": expression,
        "messageExpression": message,
        "message": f"{check.rule_id} {check.field}: {check.fix}"[:MAX_MESSAGE],
        "reason": "Forbidden",
    }


def _policy(name: str, kind: str, enforcement: str, checks: Sequence[_Check]) -> dict[str, Any]:
    cluster = kind == "ClusterDataPolicy"
    conditions = {
        "enforcement": scope.enforced_as(enforcement),
        "not-being-deleted": scope.NOT_BEING_DELETED,
        "changed": scope.CHANGED,
        "selected": scope.SELECTED,
    }
    if cluster:
        conditions["namespace-selected"] = scope.NAMESPACE_SELECTED
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {
            "failurePolicy": "Fail",
            "paramKind": {"apiVersion": API_VERSION, "kind": kind},
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [GROUP],
                        "apiVersions": [VERSION],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["modeldeployments"],
                    }
                ]
            },
            "matchConditions": [{"name": key, "expression": value} for key, value in conditions.items()],
            "variables": [{"name": "excused", "expression": scope.excused_rules(cluster=cluster)}],
            "validations": [_validation(check, kind) for check in checks],
        },
    }


def _binding(name: str, policy: str, enforcement: str, param_ref: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name, "labels": LABELS},
        "spec": {"policyName": policy, "validationActions": ACTIONS[enforcement], "paramRef": param_ref},
    }


def catalogue_policies() -> list[dict[str, Any]]:
    """Return the ValidatingAdmissionPolicies and bindings of the whole catalogue, as manifests.

    Without any ClusterDataPolicy the enforcing cluster twin denies: an empty rulebook is a mistake, not a permission.
    """
    objects = []
    for kind, part in (("ClusterDataPolicy", "cluster"), ("DataPolicy", "namespace")):
        for enforcement in ACTIONS:
            name = f"modelward-{part}-{enforcement.lower()}"
            missing = "Deny" if part == "cluster" and enforcement == "Enforce" else "Allow"
            objects.append(_policy(name, kind, enforcement, _checks(catalogue())))
            objects.append(_binding(name, name, enforcement, {"selector": {}, "parameterNotFoundAction": missing}))
    return objects


def custom_policies(policy: dict[str, Any], leave_out: Collection[int] = ()) -> list[dict[str, Any]]:
    """Return the ValidatingAdmissionPolicy and binding for one policy's own rules; empty when it has none.

    A rule that is not CEL refuses, as `judge` does: a slip of the pen must not open what the rule was to close.

    Args:
        policy: a DataPolicy or ClusterDataPolicy.
        leave_out: indices of rules that the API server does not take; the webhook and the controller still judge them.
    """
    rules = [rule for index, rule in enumerate(policy["spec"].get("rules", ())) if index not in leave_out]
    if not rules:
        return []
    kind, metadata = policy["kind"], policy["metadata"]
    enforcement = policy["spec"].get("enforcement", "Enforce")
    namespace = metadata.get("namespace", "")
    # Two policies must never share a backstop, and both names may be as long as Kubernetes allows.
    digest = hashlib.sha256(f"{kind}/{namespace}/{metadata['name']}".encode()).hexdigest()[:16]
    name = f"modelward-custom-{digest}"
    owner = {"modelward.io/policy-kind": kind, "modelward.io/policy-digest": digest}
    param_ref: dict[str, Any] = {"name": metadata["name"], "parameterNotFoundAction": "Allow"}
    backstop = _policy(name, kind, enforcement, [_own_check(rule) for rule in rules])
    binding = _binding(name, name, enforcement, param_ref)
    if kind == "DataPolicy":
        param_ref["namespace"] = namespace
        binding["spec"]["matchResources"] = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        }
    for item in (backstop, binding):
        item["metadata"]["labels"] = {**LABELS, "app.kubernetes.io/component": "custom-rules", **owner}
    return [backstop, binding]


def _own_check(rule: dict[str, Any]) -> _Check:
    # The line break ends a comment that would swallow what is put behind the rule's own text.
    expression, message = f"{rule['expression']}\n", f"{rule['message']}\n"
    if wrong := _wrong(rule["expression"]):
        expression, message = "false", wrong
    elif wrong := _wrong(rule["message"]):
        message = wrong
    return _Check(rule["id"], "true", expression, "spec", message, rule.get("fix", ""))


def _wrong(text: str) -> str:
    """CEL that says what is wrong with a text that is not CEL; empty where it is."""
    try:
        Expression(text)
    except CelError as error:
        return _quoted(f"the rule could not be evaluated ({error})")
    return ""
