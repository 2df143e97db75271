"""Puts the sidecar into a pod: what the webhook does to a pod in scope, and `modelward inject` to a manifest.

Idempotent, and careful with what others put into the pod: their containers stay in their order, and as they are but
for the declared port of a model server that ran before modelward came (`planner.takeover`). The sidecar comes first
among the init containers, so that it is up before anything else runs; one that stands elsewhere already is left there,
or two injectors that both want the first place would never agree.
"""

from __future__ import annotations

import re
from typing import Any

from modelward.api.base import LABEL_PATTERN, MAX_NAME
from modelward.planner import genuine
from modelward.planner.sidecar import (
    CONFIG_VOLUME,
    CONTAINER_NAME,
    INJECT_ENABLED,
    INJECT_LABEL,
    MODEL_ANNOTATION,
    MODEL_LABEL,
    PORT_LABEL,
    TLS_VOLUME,
    TOKEN_PATH,
    sidecar_container,
    sidecar_volumes,
)
from modelward.planner.takeover import taken_over

Pod = dict[str, Any]
"""A Pod, or a workload's pod template: what has `metadata` and `spec`."""

_SHARED_WITH_HOST = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace")
_MAX_PORT = 65535
# What admission plugins of Kubernetes change in every container: that is no sign of a decoy.
_FREE = ("imagePullPolicy", "resources")
_PATCHED = (("metadata", "labels"), ("spec", "initContainers"), ("spec", "containers"), ("spec", "volumes"))


class InjectionError(Exception):
    """A pod that no sidecar can protect as it is, with every reason; each says how to mend it."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def inject(pod: Pod, *, image: str, config_key: str) -> Pod:
    """Return the pod with its sidecar, its volumes and its labels; the pod given is left as it is.

    Args:
        pod: a Pod or a pod template that names its model by label or by annotation.
        image: image of the sidecar, by digest.
        config_key: base64 of the public key that sidecar configurations are signed with.

    Raises:
        InjectionError: the pod names no model, or would let others reach into its sidecar or past it.
    """
    metadata, spec = _mapping(pod, "metadata"), _mapping(pod, "spec")
    inits, volumes = _objects(spec, "initContainers"), _objects(spec, "volumes")
    model, reasons = _model(metadata)
    port, unclear = _port(metadata)
    reasons += [*unclear, *_ways_around(spec, inits)]
    if reasons:
        raise InjectionError(reasons)
    labels = {**_mapping(metadata, "labels"), INJECT_LABEL: INJECT_ENABLED, MODEL_LABEL: model}
    spec = {
        **spec,
        "initContainers": _with_sidecar(inits, sidecar_container(model, image, config_key)),
        "volumes": _with_volumes(volumes, sidecar_volumes(model)),
    }
    if port:
        spec["containers"] = taken_over(_objects(spec, "containers"), port)
    injected = {**pod, "metadata": {**metadata, "labels": labels}, "spec": spec}
    # What the API server is going to refuse a moment later is refused here, with every reason at once.
    faults = genuine.faults(injected, image, config_key)
    if faults:
        raise InjectionError(faults)
    return injected


def json_patch(before: Pod, after: Pod) -> list[dict[str, Any]]:
    """Return the JSON patch (RFC 6902) from a pod to what `inject` made of it; empty when nothing changed.

    "add" puts a member in place whether it was there or not; the pod must have `metadata` and `spec`.
    """
    return [
        {"op": "add", "path": f"/{part}/{field}", "value": after[part][field]}
        for part, field in _PATCHED
        if before[part].get(field) != after[part].get(field)
    ]


def _mapping(parent: dict[str, Any], field: str) -> dict[str, Any]:
    value = parent.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InjectionError([f"{field} is not an object. Fix: write it as Kubernetes' reference of Pod says"])
    return value


def _objects(spec: dict[str, Any], field: str) -> list[dict[str, Any]]:
    value = spec.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InjectionError([f"{field} is not a list of objects. Fix: write it as Kubernetes' reference of Pod says"])
    return value


def _model(metadata: dict[str, Any]) -> tuple[str, list[str]]:
    label = _mapping(metadata, "labels").get(MODEL_LABEL)
    annotation = _mapping(metadata, "annotations").get(MODEL_ANNOTATION)
    model = label or annotation
    if not model:
        fix = f"Fix: name its ModelDeployment with the annotation {MODEL_ANNOTATION}"
        return "", [f"the pod is in scope of modelward and names no model. {fix}"]
    if label and annotation and label != annotation:
        fix = "Fix: keep one of the two"
        return "", [f"the label {MODEL_LABEL} says {label} and the annotation {MODEL_ANNOTATION} {annotation}. {fix}"]
    if not isinstance(model, str) or len(model) > MAX_NAME or not re.fullmatch(LABEL_PATTERN, model):
        fix = f"Fix: give the name of a ModelDeployment in this namespace: {MAX_NAME} of a-z, 0-9 and - at most"
        return "", [f"{str(model)[:MAX_NAME]!r} cannot be the name of a ModelDeployment. {fix}"]
    return model, []


def _port(metadata: dict[str, Any]) -> tuple[int, list[str]]:
    """The port whose place the sidecar takes: that of a workload that ran before it; 0 where none is named."""
    label = _mapping(metadata, "labels").get(PORT_LABEL, "")
    if not label:
        return 0, []
    if not isinstance(label, str) or not re.fullmatch("[1-9][0-9]{0,4}", label) or int(label) > _MAX_PORT:
        return 0, [f"the label {PORT_LABEL} says {str(label)[:MAX_NAME]!r}. Fix: give the model server's port"]
    return int(label), []


def _ways_around(spec: dict[str, Any], inits: list[dict[str, Any]]) -> list[str]:
    reasons = [
        f"spec.{field} lets others reach the model past its sidecar. Fix: take it out"
        for field in _SHARED_WITH_HOST
        if spec.get(field)
    ]
    containers = _objects(spec, "containers")
    reasons += [
        f"spec.containers[{index}] has the name {CONTAINER_NAME}, which belongs to modelward. Fix: give it another"
        for index, container in enumerate(containers)
        if container.get("name") == CONTAINER_NAME
    ]
    reasons += [
        f"the container {container.get('name')} mounts {mount['name']}, which belongs to the sidecar alone. "
        "Fix: take the volumeMount out"
        for container in (*inits, *containers)
        if container.get("name") != CONTAINER_NAME
        for mount in _objects(container, "volumeMounts")
        if mount.get("name") in (CONFIG_VOLUME, TLS_VOLUME)
    ]
    return reasons


def _with_sidecar(inits: list[dict[str, Any]], sidecar: dict[str, Any]) -> list[dict[str, Any]]:
    if not any(container.get("name") == CONTAINER_NAME for container in inits):
        return [sidecar, *inits]
    # An older sidecar, or a decoy: the genuine one takes its place.
    return [
        sidecar if container.get("name") == CONTAINER_NAME and not _is_genuine(container, sidecar) else container
        for container in inits
    ]


def _is_genuine(found: dict[str, Any], sidecar: dict[str, Any]) -> bool:
    mounts = [mount for mount in _objects(found, "volumeMounts") if mount.get("mountPath") != TOKEN_PATH]
    return {**found, "volumeMounts": mounts, **{field: sidecar[field] for field in _FREE}} == sidecar


def _with_volumes(volumes: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wanted = {volume["name"]: volume for volume in ours}
    kept = [wanted.pop(str(volume.get("name")), volume) for volume in volumes]
    return [*kept, *wanted.values()]
