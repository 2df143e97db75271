"""What makes a pod a watched one, in CEL: its genuine sidecar, and nothing else that reaches into it or past it.

One list of checks for everyone. The ValidatingAdmissionPolicies on new pods are written from it, and the controller
evaluates the very same expressions on pods that run already, so that neither can find genuine what the other does not.
The list is in two parts: what holds in every cluster, and the sidecar's identity, which each cluster has of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from modelward.api.expression import Activation, CelError, Expression
from modelward.planner.sidecar import (
    CONFIG_VOLUME,
    CONTAINER_NAME,
    MODEL_LABEL,
    SYSTEM_NAMESPACE,
    TLS_VOLUME,
    TOKEN_PATH,
    serving_secret_name,
    sidecar_container,
    sidecar_volumes,
)
from modelward.planner.validating_policy import Check, cel_literal, label_of

VARIABLES = {
    "model": label_of("object", MODEL_LABEL),
    "inits": "has(object.spec.initContainers) ? object.spec.initContainers : []",
    "sidecars": f"variables.inits.filter(c, c.name == '{CONTAINER_NAME}')",
    "others": f"(object.spec.containers + variables.inits).filter(c, c.name != '{CONTAINER_NAME}')",
    "volumes": "has(object.spec.volumes) ? object.spec.volumes : []",
}
_HOLES = {"{model}": "variables.model"}
_CONTAINER = sidecar_container("{model}", "", "")
_IDENTITY = ("image", "args")  # which differ from cluster to cluster
_FIX = "Fix: leave the sidecar out of the manifest; modelward's webhook adds it"
# What decides which program runs in the sidecar, with what, and as whom. Probes, ports and resources may differ: a
# sidecar without them is no weaker, and other admission plugins add to them.
_EXACT = (
    "restartPolicy",
    "command",
    "env",
    "securityContext",
    "terminationMessagePath",  # the kubelet mounts a file there
    "terminationMessagePolicy",
)
# The capabilities that Pod Security's "baseline" lets a container add. With others it could take the traffic over
# (NET_ADMIN), listen to it (NET_RAW), or read the sidecar's memory (SYS_PTRACE).
_HARMLESS_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
_SHARED_WITH_HOST = {
    "hostNetwork": "the model's port would be open on the node, past the sidecar",
    "hostPID": "the node's processes could read the sidecar's memory",
    "hostIPC": "the node's processes could share the pod's memory",
    "shareProcessNamespace": "the other containers could read the sidecar's memory and keys",
}


def checks() -> list[Check]:
    """Return what must hold of a pod in scope in every cluster; CEL over `object` and VARIABLES."""
    return [
        Check(
            "variables.model != ''",
            f"the pod is in scope of modelward and names no model. Fix: give it the label {MODEL_LABEL} with the "
            "name of its ModelDeployment",
        ),
        *(_not_shared(field, reason) for field, reason in _SHARED_WITH_HOST.items()),
        Check(
            "variables.sidecars.size() == 1",
            f"the pod has no {CONTAINER_NAME} among its initContainers. Fix: modelward's webhook adds it and did "
            f"not answer; see `kubectl -n {SYSTEM_NAMESPACE} get pods`, then create the pod again (its controller "
            "does so by itself)",
        ),
        *(_exact(field, _CONTAINER) for field in _EXACT),
        *_sidecar_checks(),
        *_volume_checks(),
        *_neighbour_checks(),
    ]


def identity_checks(image: str, config_key: str) -> list[Check]:
    """Return what must hold of the sidecar in this cluster: its image, and the key that its configuration needs."""
    container = sidecar_container("{model}", image, config_key)
    return [_exact(field, container) for field in _IDENTITY]


def faults(pod: Mapping[str, Any], image: str, config_key: str, former_images: Collection[str] = ()) -> list[str]:
    """Return why a pod is not watched by its genuine sidecar, a sentence each; empty when it is.

    Args:
        pod: as the API server stores it (a new one: as it would).
        image: the sidecar's image in this cluster.
        config_key: base64 of the public key that its configuration is signed with.
        former_images: images that the sidecar had before: pods with one are watched until they are replaced.
    """
    inits = pod["spec"].get("initContainers") or ()
    its_own = next((one.get("image") for one in inits if one.get("name") == CONTAINER_NAME), None)
    if isinstance(its_own, str) and its_own in former_images:
        image = its_own
    data: dict[str, Any] = {"object": _without_nulls(pod)}
    variables: dict[str, Any] = {}
    try:
        for name, text in VARIABLES.items():
            variables[name] = Expression.compiled(text).value({**data, "variables": variables})
    except CelError as error:
        return [f"the pod cannot be judged ({error}). Fix: write it as Kubernetes' reference of Pod says"]
    activation = Activation({**data, "variables": variables})
    found = [
        check.message for check in (*_CHECKS, *_identity_checks(image, config_key)) if not _holds(check, activation)
    ]
    if pod["spec"].get("ephemeralContainers"):  # no new pod has any, so the admission policy need not ask
        found.append("an ephemeral container was put into the pod, and could read the traffic. Fix: delete the pod")
    return found


def _without_nulls(value: Any) -> Any:
    """To the API server's CEL a null is a field that is not there."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def _holds(check: Check, activation: Activation) -> bool:
    try:
        return Expression.compiled(check.expression).holds(activation)
    except CelError:
        return False  # as the API server has it: a policy that fails refuses


def _not_shared(field: str, reason: str) -> Check:
    return Check(
        f"!has(object.spec.{field}) || !object.spec.{field}",
        f"the pod sets {field}: {reason}. Fix: take spec.{field} out",
    )


def _exact(field: str, container: Mapping[str, Any]) -> Check:
    wanted = cel_literal(container[field], _HOLES)
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
            # A claimed device may bring environment variables and mounts of its own.
            "variables.sidecars.all(c, !has(c.resources) || !has(c.resources.claims))",
            f"the container {CONTAINER_NAME} is not the genuine one: it claims a device. {_FIX}",
        ),
        Check(
            "variables.sidecars.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))",
            f"the container {CONTAINER_NAME} is not the genuine one: it opens a hostPort. {_FIX}",
        ),
    ]


def _volume_checks() -> list[Check]:
    genuine = [
        Check(
            f"variables.volumes.filter(v, v.name == '{volume['name']}') == [{cel_literal(volume, _HOLES)}]",
            f"the volume {volume['name']} is not there, or points elsewhere. {_FIX}",
        )
        for volume in sidecar_volumes("{model}")
    ]
    secret = cel_literal(serving_secret_name("{model}"), _HOLES)
    by_volume = (
        f"variables.volumes.all(v, v.name == '{TLS_VOLUME}'"
        f" || ((!has(v.secret) || !has(v.secret.secretName) || v.secret.secretName != {secret})"
        " && (!has(v.projected) || !has(v.projected.sources)"
        f" || v.projected.sources.all(s, !has(s.secret) || !has(s.secret.name) || s.secret.name != {secret}))))"
    )
    by_variable = (
        "variables.others.all(c,"
        " (!has(c.env) || c.env.all(e, !has(e.valueFrom) || !has(e.valueFrom.secretKeyRef)"
        f" || !has(e.valueFrom.secretKeyRef.name) || e.valueFrom.secretKeyRef.name != {secret}))"
        " && (!has(c.envFrom) || c.envFrom.all(e, !has(e.secretRef) || !has(e.secretRef.name)"
        f" || e.secretRef.name != {secret})))"
    )
    return [
        *genuine,
        Check(
            f"variables.others.all(c, !has(c.volumeMounts) || c.volumeMounts.all(m, !(m.name in ['{CONFIG_VOLUME}',"
            f" '{TLS_VOLUME}'])))",
            f"another container mounts {CONFIG_VOLUME} or {TLS_VOLUME}, which belong to the sidecar alone. Fix: take "
            "the volumeMount out",
        ),
        Check(
            f"{by_volume} && {by_variable}",
            "the Secret with the sidecar's key is read under another name, and belongs to the sidecar alone. Fix: take "
            f"the volume, env or envFrom out that names the model's {serving_secret_name('<model>')}",
        ),
    ]


def _neighbour_checks() -> list[Check]:
    """What a container beside the sidecar could take the traffic over with, or leave the pod by."""
    harmless = cel_literal(list(_HARMLESS_CAPABILITIES), {})
    return [
        Check(
            "variables.others.all(c, !has(c.securityContext) || !has(c.securityContext.privileged)"
            " || !c.securityContext.privileged)",
            "a container is privileged, and could take the sidecar's traffic over. Fix: take "
            "securityContext.privileged out",
        ),
        Check(
            "variables.others.all(c, !has(c.securityContext) || !has(c.securityContext.capabilities)"
            " || !has(c.securityContext.capabilities.add)"
            f" || c.securityContext.capabilities.add.all(one, one in {harmless}))",
            "a container adds a capability by which it could take the sidecar's traffic over, or read it. Fix: add "
            "none beyond those of Pod Security's baseline; a service mesh has a CNI plugin in place of NET_ADMIN",
        ),
        Check(
            "variables.others.all(c, !has(c.ports) || c.ports.all(p, !has(p.hostPort)))",
            "a container opens a hostPort, and could be reached on the node past the sidecar. Fix: take the hostPort "
            "out; call the model by its Service",
        ),
        Check(
            "variables.volumes.all(v, !has(v.hostPath))",
            "the pod mounts a hostPath, by which the sidecar's files on the node could be read or changed. Fix: use a "
            "PersistentVolumeClaim",
        ),
    ]


_CHECKS = tuple(checks())
_identity_checks = lru_cache(maxsize=16)(identity_checks)  # the settings change once in a release
