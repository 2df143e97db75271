"""The pod's backstop: ValidatingAdmissionPolicies that let no pod in scope in without its genuine sidecar.

They hold with every modelward pod dead. The expected sidecar is written into CEL from the very function that makes
it, with the ConfigMap `modelward-sidecar` as parameter for what differs from cluster to cluster.

New pods and running pods are judged by two policies. Only the first has a parameter: a parameter that is missing
refuses whatever a policy matches, conditions or not, and that must never stop a kubelet or a finalizer.
"""

from __future__ import annotations

from typing import Any

from modelward.planner.protection_policy import protection_policies
from modelward.planner.sidecar import (
    CONFIG_KEY_KEY,
    CONFIG_VOLUME,
    CONTAINER_NAME,
    IMAGE_KEY,
    INJECT_ENABLED,
    INJECT_LABEL,
    MODEL_LABEL,
    PROTECTED_LABEL,
    SETTINGS_NAME,
    SYSTEM_NAMESPACE,
    TLS_VOLUME,
    TOKEN_PATH,
    sidecar_container,
    sidecar_volumes,
)
from modelward.planner.validating_policy import (
    OUTSIDE_SYSTEM_NAMESPACES,
    Check,
    Policy,
    cel_literal,
    label_of,
)

_HOLES = {
    "{model}": "variables.model",
    "{image}": f"params.data.{IMAGE_KEY}",
    "{config key}": f"params.data.{CONFIG_KEY_KEY}",
}
_CONTAINER = sidecar_container("{model}", "{image}", "{config key}")
_OUR_LABELS = (INJECT_LABEL, MODEL_LABEL)
_FIX = "Fix: leave the sidecar out of the manifest; modelward's webhook adds it"
# What decides which program runs in the sidecar, with what, and as whom. Probes, ports and resources may differ: a
# sidecar without them is no weaker, and other admission plugins add to them.
_EXACT = (
    "image",
    "restartPolicy",
    "command",
    "args",
    "env",
    "securityContext",
    "terminationMessagePath",  # the kubelet mounts a file there
    "terminationMessagePolicy",
)


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
        name="modelward-new-pods",
        operations=["CREATE"],
        resources=[("", ["pods"])],
        matches={"namespaceSelector": OUTSIDE_SYSTEM_NAMESPACES},
        variables={
            "model": label_of("object", MODEL_LABEL),
            "inits": "has(object.spec.initContainers) ? object.spec.initContainers : []",
            "sidecars": f"variables.inits.filter(c, c.name == '{CONTAINER_NAME}')",
            "others": f"(object.spec.containers + variables.inits).filter(c, c.name != '{CONTAINER_NAME}')",
        },
        checks=[
            Check(
                "variables.model != ''",
                f"the pod is in scope of modelward and names no model. Fix: give it the label {MODEL_LABEL} with the "
                "name of its ModelDeployment",
            ),
            *_host_checks(),
            Check(
                "variables.sidecars.size() == 1",
                f"the pod has no {CONTAINER_NAME} among its initContainers. Fix: modelward's webhook adds it and did "
                f"not answer; see `kubectl -n {SYSTEM_NAMESPACE} get pods`, then create the pod again (its controller "
                "does so by itself)",
            ),
            *(_exact_check(field) for field in _EXACT),
            *_sidecar_checks(),
            *_volume_checks(),
        ],
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


def _host_checks() -> list[Check]:
    reasons = {
        "hostNetwork": "the model's port would be open on the node, past the sidecar",
        "hostPID": "the node's processes could read the sidecar's memory",
        "hostIPC": "the node's processes could share the pod's memory",
        "shareProcessNamespace": "the other containers could read the sidecar's memory and keys",
    }
    return [
        Check(
            f"!has(object.spec.{field}) || !object.spec.{field}",
            f"the pod sets {field}: {reason}. Fix: take spec.{field} out",
        )
        for field, reason in reasons.items()
    ]


def _exact_check(field: str) -> Check:
    wanted = cel_literal(_CONTAINER[field], _HOLES)
    return Check(
        f"variables.sidecars.all(c, has(c.{field}) && c.{field} == {wanted})",
        f"the container {CONTAINER_NAME} is not the genuine one: its {field} differs. {_FIX}",
    )


def _sidecar_checks() -> list[Check]:
    mounts = cel_literal(_CONTAINER["volumeMounts"], _HOLES)
    probes = [field for field in _CONTAINER if field.endswith("Probe")]
    no_commands = " && ".join(f"(!has(c.{probe}) || !has(c.{probe}.exec))" for probe in probes)
    known = cel_literal(list(_CONTAINER), _HOLES)
    return [
        Check(
            # Kubernetes mounts a service account's token into every container; the sidecar makes no use of it.
            f"variables.sidecars.all(c, has(c.volumeMounts) && c.volumeMounts.filter(m, m.mountPath != '{TOKEN_PATH}')"
            f" == {mounts})",
            f"the container {CONTAINER_NAME} is not the genuine one: its volumeMounts differ. {_FIX}",
        ),
        Check(
            f"variables.sidecars.all(c, c.all(field, field in {known}))",
            f"the container {CONTAINER_NAME} is not the genuine one: it has fields (such as lifecycle, envFrom or "
            f"workingDir) that the genuine one has not. {_FIX}",
        ),
        Check(
            f"variables.sidecars.all(c, {no_commands})",
            f"the container {CONTAINER_NAME} is not the genuine one: a probe runs a command in it. {_FIX}",
        ),
        Check(
            "variables.sidecars.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))",
            f"the container {CONTAINER_NAME} is not the genuine one: it opens a hostPort. {_FIX}",
        ),
    ]


def _volume_checks() -> list[Check]:
    genuine = [
        Check(
            "has(object.spec.volumes) && object.spec.volumes.filter(v,"
            f" v.name == '{volume['name']}') == [{cel_literal(volume, _HOLES)}]",
            f"the volume {volume['name']} is not there, or points elsewhere. {_FIX}",
        )
        for volume in sidecar_volumes("{model}")
    ]
    return [
        *genuine,
        Check(
            f"variables.others.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, !(m.name in ['{CONFIG_VOLUME}',"
            f" '{TLS_VOLUME}'])))",
            f"another container mounts {CONFIG_VOLUME} or {TLS_VOLUME}, which belong to the sidecar alone. Fix: take "
            "the volumeMount out",
        ),
    ]


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
