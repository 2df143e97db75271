"""The pod's backstop: ValidatingAdmissionPolicies that let no pod in scope in without its genuine sidecar.

They hold with every modelward pod dead. What a new pod must be stands in `genuine`, with the ConfigMap
`modelward-sidecar` as parameter for what differs from cluster to cluster.

New pods and running pods are judged by two policies. Only the first has a parameter: a parameter that is missing
refuses whatever a policy matches, conditions or not, and that must never stop a kubelet or a finalizer.
"""

from __future__ import annotations

from typing import Any

from modelward.planner import genuine
from modelward.planner.protection_policy import protection_policies
from modelward.planner.sidecar import (
    CONTAINER_NAME,
    INJECT_ENABLED,
    INJECT_LABEL,
    MODEL_LABEL,
    PROTECTED_LABEL,
    SETTINGS_NAME,
    SYSTEM_NAMESPACE,
)
from modelward.planner.validating_policy import OUTSIDE_SYSTEM_NAMESPACES, Check, Policy, label_of

NEW_PODS = "modelward-new-pods"
"""Name of the policy that a new pod without its sidecar is refused by."""

_OUR_LABELS = (INJECT_LABEL, MODEL_LABEL)


def pod_policies() -> list[dict[str, Any]]:
    """Return the policies and bindings on pods, and those that keep people from working around them."""
    policies = [_new_pods(), _running_pods(), *protection_policies()]
    return [manifest for policy in policies for manifest in policy.manifests()]


def _new_pods() -> Policy:
    by_label = {"matchLabels": {INJECT_LABEL: INJECT_ENABLED}}
    without_inject = {"key": INJECT_LABEL, "operator": "NotIn", "values": [INJECT_ENABLED]}
    has_model = {"key": MODEL_LABEL, "operator": "Exists"}
    no_model = {"key": MODEL_LABEL, "operator": "DoesNotExist"}
    return Policy(
        name=NEW_PODS,
        operations=["CREATE"],
        resources=[("", ["pods"])],
        matches={"namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        variables=genuine.VARIABLES,
        checks=genuine.checks(),
        # Each pod in scope matches exactly one, so none is judged twice.
        bindings={
            "labelled": {"objectSelector": by_label},
            "named": {"objectSelector": {"matchExpressions": [has_model, without_inject]}},
            "protected": {
                "namespaceSelector": {"matchLabels": {PROTECTED_LABEL: "true"}},
                "objectSelector": {"matchExpressions": [no_model, without_inject]},
            },
        },
        param=(
            {"apiVersion": "v1", "kind": "ConfigMap"},
            {"name": SETTINGS_NAME, "namespace": SYSTEM_NAMESPACE, "parameterNotFoundAction": "Deny"},
        ),
    )


def _running_pods() -> Policy:
    """What may change in a running pod, as far as it matters here, is its labels and images: neither may."""

    def sidecar_of(name: str) -> str:
        inits = f"(has({name}.spec.initContainers) ? {name}.spec.initContainers : [])"
        return f"{inits}.filter(c, c.name == '{CONTAINER_NAME}')"

    return Policy(
        name="modelward-running-pods",
        operations=["UPDATE"],
        resources=[("", ["pods", "pods/status", "pods/ephemeralcontainers"])],
        matches={
            "namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES,
            "objectSelector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]},
        },
        checks=[
            Check(
                " && ".join(f"{label_of('object', k)} == {label_of('oldObject', k)}" for k in _OUR_LABELS),
                f"the labels {' and '.join(_OUR_LABELS)} of a running pod may be neither given, changed nor taken "
                "away. Fix: change the pod template, or delete the pod",
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
