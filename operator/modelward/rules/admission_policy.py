"""The backstop: the catalogue compiled to ValidatingAdmissionPolicies (KEP-3488), which the API server itself enforces.

The policy object is the parameter, so one compiled policy serves every DataPolicy there will ever be. Each way of
enforcing (Enforce, Warn, Audit) is a twin with its own binding, because a binding's actions are fixed; a twin's match
condition lets through only the parameters that ask for it.

The API server evaluates every validation *and every message* of a policy on each request, whether the object passes or
not, and every match condition. So the catalogue is one validation, whose message is the expression's own by-product: a
variable for each requirement gives the text of the first rule that is broken, or nothing; it is skipped by one test
where the policy does not ask, it is computed once (variables are lazy and kept), and exceptions and texts are looked at
only where a rule does not hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

from modelward.api.base import API_VERSION, GROUP, VERSION
from modelward.api.expression import CelError, Expression
from modelward.rules import scope
from modelward.rules.catalogue import Rule, catalogue
from modelward.rules.judge import MAX_FOUND, NOT_SHOWN

ACTIONS = {"Enforce": ["Deny"], "Warn": ["Warn"], "Audit": ["Audit"]}
LABELS = {"app.kubernetes.io/part-of": "modelward", "app.kubernetes.io/component": "backstop"}
MAX_MESSAGE = 1024
_AND_MORE = "). This is the first broken rule that was met; `modelward check` lists all."


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _told(rule_id: str, field: str, message: str, fix: str) -> str:
    """CEL that gives the text of a violation, but for who asks; what was found is cut as `judge` cuts it."""
    found = f"[{message}].map(m, size(m) > {MAX_FOUND} ? m.substring(0, {MAX_FOUND - 3}) + '...' : m)[0]"
    return f"{_quoted(f'{rule_id} {field}: ')} + {found} + {_quoted(f'. Fix: {fix}')}"


def _asked_by(text: str, kind: str) -> str:
    """CEL that adds who asks; a message with a line break in it would be put aside by the API server."""
    asked = f"{_quoted(f' (asked by {kind}/')} + params.metadata.name + {_quoted(_AND_MORE)}"
    return f"({text} + {asked}).replace('\\n', ' ')"


def _first_broken(rules: Sequence[Rule]) -> str:
    """CEL that gives the text of the first of these rules that is broken, or '' where none is.

    Args:
        rules: those that the same requirement switches on.
    """
    shared = rules[0].switches[:2] if rules[0].requires else []
    text = "''"
    for rule in reversed(rules):
        own = rule.switches[len(shared) :]
        broken = " && ".join([*own, f"!({rule.expression})", f"!{scope.is_excused(rule.id)}"])
        text = f"{broken} ? {_told(rule.id, rule.field, rule.message, rule.fix)} : {text}"
    return f"{' && '.join(shared)} ? ({text}) : ''" if shared else text


def _by_requirement() -> dict[str, list[Rule]]:
    """The rules of admission by what switches them on: the first step of `requires`."""
    groups: dict[str, list[Rule]] = {}
    for rule in catalogue():
        if rule.enforced_at == "admission":
            groups.setdefault(rule.requires.split(".", 1)[0] or "always", []).append(rule)
    return groups


def _catalogue_parts(kind: str) -> dict[str, Any]:
    groups = _by_requirement()
    variables = [{"name": name, "expression": _first_broken(rules)} for name, rules in groups.items()]
    chain = "''"
    for name in reversed(groups):
        chain = f"variables.{name} != '' ? variables.{name} : {chain}"
    validation = {
        "expression": "variables.broken == ''",
        "messageExpression": _asked_by("variables.broken", kind),
        "message": "a rule is broken whose text could not be written; `modelward check` names it",
        "reason": "Forbidden",
    }
    return {"variables": [*variables, {"name": "broken", "expression": chain}], "validations": [validation]}


def _policy(name: str, kind: str, enforcement: str, parts: dict[str, Any]) -> dict[str, Any]:
    cluster = kind == "ClusterDataPolicy"
    excused = {"name": "excused", "expression": scope.excused_rules(cluster=cluster)}
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
            # One condition, so that the first that is false ends it: of several, each is evaluated.
            "matchConditions": [{"name": "governs", "expression": scope.governs(enforcement, cluster=cluster)}],
            "variables": [excused, *parts.get("variables", ())],
            "validations": parts["validations"],
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
            objects.append(_policy(name, kind, enforcement, _catalogue_parts(kind)))
            objects.append(_binding(name, name, enforcement, {"selector": {}, "parameterNotFoundAction": missing}))
    return objects


def custom_policies(
    policy: dict[str, Any], leave_out: Collection[int] = (), speechless: Collection[int] = ()
) -> list[dict[str, Any]]:
    """Return the ValidatingAdmissionPolicy and binding for one policy's own rules; empty when it has none.

    A rule that is not CEL refuses, as `judge` does: a slip of the pen must not open what the rule was to close.

    Args:
        policy: a DataPolicy or ClusterDataPolicy.
        leave_out: indices of rules that the API server does not take; the webhook and the controller still judge them.
        speechless: indices of rules whose message it does not take.
    """
    kind, metadata = policy["kind"], policy["metadata"]
    validations = [
        _own_validation(rule, kind, speechless=index in speechless)
        for index, rule in enumerate(policy["spec"].get("rules", ()))
        if index not in leave_out
    ]
    if not validations:
        return []
    enforcement = policy["spec"].get("enforcement", "Enforce")
    namespace = metadata.get("namespace", "")
    # Two policies must never share a backstop, and both names may be as long as Kubernetes allows.
    digest = hashlib.sha256(f"{kind}/{namespace}/{metadata['name']}".encode()).hexdigest()[:16]
    name = f"modelward-custom-{digest}"
    owner = {"modelward.io/policy-kind": kind, "modelward.io/policy-digest": digest}
    param_ref: dict[str, Any] = {"name": metadata["name"], "parameterNotFoundAction": "Allow"}
    backstop = _policy(name, kind, enforcement, {"validations": validations})
    binding = _binding(name, name, enforcement, param_ref)
    if kind == "DataPolicy":
        param_ref["namespace"] = namespace
        binding["spec"]["matchResources"] = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
        }
    for item in (backstop, binding):
        item["metadata"]["labels"] = {**LABELS, "app.kubernetes.io/component": "custom-rules", **owner}
    return [backstop, binding]


def _own_validation(rule: dict[str, Any], kind: str, *, speechless: bool) -> dict[str, str]:
    # The line break ends a comment that would swallow what is put behind the rule's own text.
    expression, message, fix = f"{rule['expression']}\n", f"{rule['message']}\n", rule.get("fix", "")
    if wrong := _wrong(rule["expression"]):
        expression, message = "false", wrong
    elif wrong := _wrong(rule["message"]):
        message = wrong
    elif speechless:
        message = _quoted(NOT_SHOWN)
    return {
        "expression": f"({expression}) || {scope.is_excused(rule['id'])}",
        "messageExpression": _asked_by(_told(rule["id"], "spec", message, fix), kind),
        "message": f"{rule['id']} spec: {fix}"[:MAX_MESSAGE],
        "reason": "Forbidden",
    }


def _wrong(text: str) -> str:
    """CEL that says what is wrong with a text that is not CEL; empty where it is."""
    try:
        Expression(text)
    except CelError as error:
        return _quoted(f"the rule could not be evaluated ({error})")
    return ""
