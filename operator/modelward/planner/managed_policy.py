"""What the controller makes is the controller's: ValidatingAdmissionPolicies on managed objects and a model's pods.

An object is managed that has both labels, MANAGED_BY and MODEL. None of the policies has a parameter, so none depends
on modelward's own resources being there.
"""

from __future__ import annotations

from modelward.planner.names import MANAGED_BY_LABEL, MANAGER
from modelward.planner.sidecar import MODEL_LABEL
from modelward.planner.validating_policy import CONTROLLER, OUTSIDE_SYSTEM_NAMESPACES, Check, Policy, label_of

# The cluster's own controllers that write, or collect, objects that the controller made. Not all of kube-system: what
# else runs there has no business with them.
COLLECTORS = (
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:namespace-controller",
)
WRITERS = (
    CONTROLLER,
    *COLLECTORS,
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:ttl-after-finished-controller",
    "system:serviceaccount:kube-system:storage-version-migrator-controller",
    # They copy a Service's labels to what they write.
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslice-controller",
    "system:serviceaccount:kube-system:endpointslicemirroring-controller",
)
_MANAGED = {
    "matchLabels": {MANAGED_BY_LABEL: MANAGER},
    "matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}],
}
_MANAGED_LABELS = (MANAGED_BY_LABEL, MODEL_LABEL)
_NOT_ITS_POD = (
    f"a pod labelled {MANAGED_BY_LABEL}: {MANAGER} and {MODEL_LABEL} answers a model's callers, and is made by the "
    f"model's Deployment alone. Fix: leave the label {MANAGED_BY_LABEL} out"
)


def managed_policies() -> list[Policy]:
    """Return the policies on managed objects, and on what would be taken for a model's pod."""
    return [_managed_objects(), _managed_status(), _managed_pods(), _managed_templates(), _bindings()]


def user_in(names: tuple[str, ...]) -> str:
    """Return CEL that is true where the request is one of these users'."""
    return f"request.userInfo.username in [{', '.join(repr(name) for name in names)}]"


def _managed_objects() -> Policy:
    """Objects with both labels are the controller's: nobody else makes, changes, unlabels or deletes them."""
    return Policy(
        name="modelward-managed-objects",
        operations=["CREATE", "UPDATE", "DELETE"],
        resources=[
            ("", ["configmaps", "secrets", "serviceaccounts", "services", "endpoints"]),
            ("apps", ["deployments", "replicasets"]),
            ("batch", ["jobs"]),
            ("discovery.k8s.io", ["endpointslices"]),
            ("networking.k8s.io", ["networkpolicies"]),
            ("policy", ["poddisruptionbudgets"]),
        ],
        matches={"objectSelector": _MANAGED},
        checks=[
            Check(
                user_in(WRITERS),
                "the object is made for a ModelDeployment and written by modelward's controller alone. Fix: change or "
                f"delete the ModelDeployment; for a copy of your own, take the label {MODEL_LABEL} off first",
            )
        ],
    )


def _managed_status() -> Policy:
    """Status is written by the cluster's controllers; but its update may carry labels, and without them all is open."""
    return Policy(
        name="modelward-managed-status",
        operations=["UPDATE"],
        resources=[
            ("", ["services/status"]),
            ("apps", ["deployments/status", "replicasets/status"]),
            ("batch", ["jobs/status"]),
            ("policy", ["poddisruptionbudgets/status"]),
        ],
        matches={"objectSelector": _MANAGED},
        checks=[
            Check(
                " && ".join(f"{label_of('object', k)} == {label_of('oldObject', k)}" for k in _MANAGED_LABELS),
                "the labels of an object that is made for a ModelDeployment are modelward's controller's alone. Fix: "
                "change or delete the ModelDeployment",
            )
        ],
    )


def _managed_pods() -> Policy:
    """With both labels a pod is of the model's Service: callers would be answered by whatever it runs."""
    return Policy(
        name="modelward-managed-pods",
        operations=["CREATE"],
        resources=[("", ["pods"])],
        matches={"objectSelector": _MANAGED},
        checks=[Check(user_in(WRITERS), _NOT_ITS_POD)],
    )


def _managed_templates() -> Policy:
    """The cluster's controllers make pods for anyone who writes a template."""

    def template_has(label: str, value: str = "") -> str:
        found = f"'{label}' in object.spec.template.metadata.labels"
        return found + (f" && object.spec.template.metadata.labels['{label}'] == '{value}'" if value else "")

    return Policy(
        name="modelward-managed-templates",
        operations=["CREATE", "UPDATE"],
        resources=[
            ("", ["replicationcontrollers"]),
            ("apps", ["deployments", "replicasets", "statefulsets", "daemonsets"]),
            ("batch", ["jobs"]),
        ],
        matches={"namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        conditions={
            "makes-pods-of-a-model": "has(object.spec.template) && has(object.spec.template.metadata)"
            " && has(object.spec.template.metadata.labels)"
            f" && {template_has(MANAGED_BY_LABEL, MANAGER)} && {template_has(MODEL_LABEL)}"
        },
        checks=[Check(user_in(WRITERS), _NOT_ITS_POD)],
    )


def _bindings() -> Policy:
    """The API server copies a Binding's labels to its pod, past whatever judges pods."""
    return Policy(
        name="modelward-bindings",
        operations=["CREATE"],
        resources=[("", ["bindings", "pods/binding"])],
        matches={"objectSelector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]}},
        checks=[
            Check(
                "false",
                f"a Binding would give its pod the label {MODEL_LABEL} unjudged. Fix: bind without it, and create the "
                "pod with the label",
            )
        ],
    )
