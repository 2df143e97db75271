"""The pod's backstop: ValidatingAdmissionPolicies that let no pod in scope in without its genuine sidecar.

They hold with every modelward pod dead. What a new pod must be stands in `genuine`. The chart brings what holds in
every cluster; the sidecar's identity, its image and its key, the controller writes into a policy of its own.

None has a parameter. A ConfigMap as parameter freezes when the last binding goes, until the API server starts anew
(kubernetes/kubernetes#130887): modelward installed a second time would have been judged by what the first one said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelward.planner import genuine
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, NAME_LABEL
from modelward.planner.protection_policy import protection_policies
from modelward.planner.service import WITHHELD_LABEL
from modelward.planner.sidecar import (
    CONTAINER_NAME,
    INJECT_ENABLED,
    INJECT_LABEL,
    JOB_LABEL,
    MODEL_LABEL,
    PORT_LABEL,
    PROTECTED_LABEL,
    RUNTIME_LABEL,
)
from modelward.planner.validating_policy import OUTSIDE_SYSTEM_NAMESPACES, Check, Policy, label_of

NEW_PODS = "modelward-new-pods"
"""Name of the policy that a new pod without its sidecar is refused by."""

IDENTITY = "modelward-sidecar-identity"
"""Name of the policy that a new pod with another sidecar is refused by."""

# What a model's Service and NetworkPolicy choose its pods by, and what says how they came to their sidecar.
_OUR_LABELS = (INJECT_LABEL, MODEL_LABEL, PORT_LABEL, RUNTIME_LABEL, WITHHELD_LABEL)
_MANAGED_LABELS = (MANAGED_BY_LABEL, NAME_LABEL)


def pod_policies() -> list[dict[str, Any]]:
    """Return the policies and bindings on pods, and those that keep people from working around them."""
    policies = [_new_pods(), _running_pods(), *protection_policies()]
    return [manifest for policy in policies for manifest in policy.manifests()]


def identity_policies(image: str, config_key: str) -> list[dict[str, Any]]:
    """Return the policy and bindings that hold new pods to this cluster's sidecar.

    Args:
        image: the sidecar's image.
        config_key: base64 of the public key that its configuration is signed with.
    """
    needed = ("model", "inits", "sidecars")
    variables = {name: text for name, text in genuine.VARIABLES.items() if name in needed}
    return _on_new_pods(IDENTITY, variables, genuine.identity_checks(image, config_key)).manifests()


def _new_pods() -> Policy:
    return _on_new_pods(NEW_PODS, genuine.VARIABLES, genuine.checks())


def _on_new_pods(name: str, variables: Mapping[str, str], checks: Sequence[Check]) -> Policy:
    by_label = {"matchLabels": {INJECT_LABEL: INJECT_ENABLED}}
    without_inject = {"key": INJECT_LABEL, "operator": "NotIn", "values": [INJECT_ENABLED]}
    no_job = {"key": JOB_LABEL, "operator": "DoesNotExist"}  # of modelward's own, see `job_policy`
    has_model = {"key": MODEL_LABEL, "operator": "Exists"}
    no_model = {"key": MODEL_LABEL, "operator": "DoesNotExist"}
    return Policy(
        name=name,
        operations=["CREATE"],
        resources=[("", ["pods"])],
        matches={"namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        variables=variables,
        checks=checks,
        # Each pod in scope matches exactly one, so none is judged twice.
        bindings={
            "labelled": {"objectSelector": by_label},
            "named": {"objectSelector": {"matchExpressions": [has_model, without_inject]}},
            "protected": {
                "namespaceSelector": {"matchLabels": {PROTECTED_LABEL: "true"}},
                "objectSelector": {"matchExpressions": [no_model, without_inject, no_job]},
            },
        },
    )


def _running_pods() -> Policy:
    """What may change in a running pod, as far as it matters here, is labels, images and resources: none may."""

    def same(labels: Sequence[str]) -> str:
        return " && ".join(f"{label_of('object', label)} == {label_of('oldObject', label)}" for label in labels)

    def sidecar_of(name: str) -> str:
        inits = f"(has({name}.spec.initContainers) ? {name}.spec.initContainers : [])"
        return f"{inits}.filter(c, c.name == '{CONTAINER_NAME}')"

    return Policy(
        name="modelward-running-pods",
        operations=["UPDATE"],
        resources=[("", ["pods", "pods/status", "pods/resize", "pods/ephemeralcontainers"])],
        matches={
            "namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES,
            "objectSelector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]},
        },
        checks=[
            Check(
                same(_OUR_LABELS),
                f"the labels {', '.join(_OUR_LABELS)} of a running pod may be neither given, changed nor taken "
                "away. Fix: change the pod template, or delete the pod",
            ),
            Check(
                f"({label_of('object', MANAGED_BY_LABEL)} != '{MANAGER}'"
                f" && {label_of('oldObject', MANAGED_BY_LABEL)} != '{MANAGER}') || ({same(_MANAGED_LABELS)})",
                f"a model's Service and NetworkPolicy choose its pods by {' and '.join(_MANAGED_LABELS)}: these labels "
                "may be neither given, changed nor taken away. Fix: delete the pod, and another one comes",
            ),
            Check(
                f"{sidecar_of('object')} == {sidecar_of('oldObject')}",
                f"the container {CONTAINER_NAME} of a running pod may not be changed. Fix: delete the pod, and it "
                "comes back with the current sidecar",
            ),
            Check(
                "!has(request.subResource) || request.subResource != 'ephemeralcontainers'",
                "an ephemeral container could read the traffic behind the sidecar. Fix: debug a copy of the pod "
                f"without the label {MODEL_LABEL}",
            ),
        ],
    )
