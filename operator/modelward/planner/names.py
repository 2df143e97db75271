"""Names, labels and ownership that every object of a model shares."""

from __future__ import annotations

from typing import Any

from modelward.api.base import API_VERSION
from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.sidecar import MODEL_LABEL

FIELD_MANAGER = "modelward-controller"
NAME_LABEL = "app.kubernetes.io/name"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGER = "modelward"

KubeObject = dict[str, Any]
"""A Kubernetes object as JSON has it."""


def host_names(namespace: str, model: str) -> tuple[str, ...]:
    """Host names by which a model is called within the cluster, the preferred one first."""
    return (f"{model}.{namespace}.svc", f"{model}.{namespace}.svc.cluster.local", f"{model}.{namespace}")


def namespace_of(md: ModelDeployment) -> str:
    """The namespace of a ModelDeployment; a manifest may leave it out."""
    return md.metadata.namespace or "default"


def labels(md: ModelDeployment) -> dict[str, str]:
    """Labels of every object that is made for a model; its pods carry them, and selectors use them all."""
    return _labels(md.metadata.name)


def _labels(model: str) -> dict[str, str]:
    return {NAME_LABEL: model, MANAGED_BY_LABEL: MANAGER, MODEL_LABEL: model}


def selector(md: ModelDeployment) -> dict[str, str]:
    """Labels that choose a model's pods; those of a workload that runs already keep the other labels they have."""
    return labels(md) if md.spec.model else {MODEL_LABEL: md.metadata.name}


def metadata(md: ModelDeployment, name: str) -> dict[str, Any]:
    """Metadata of an object that lives and dies with its ModelDeployment."""
    return owned(namespace_of(md), md.metadata.name, md.metadata.uid, name)


def owned(namespace: str, model: str, uid: str | None, name: str) -> dict[str, Any]:
    """The same, of an object `name`, for who has no more of the ModelDeployment than this."""
    out: dict[str, Any] = {"name": name, "namespace": namespace, "labels": _labels(model)}
    if uid:  # a manifest in a file has none yet
        owner = {"apiVersion": API_VERSION, "kind": "ModelDeployment", "name": model, "uid": uid}
        out["ownerReferences"] = [{**owner, "controller": True}]
    return out


def controls(uid: str | None, item: KubeObject) -> bool:
    """Tell whether the owner with this uid controls an object."""
    owners = item["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == uid and owner.get("controller") for owner in owners)


def ours(there: KubeObject, wanted: KubeObject) -> bool:
    """Tell whether an object is ours: it says so, and no other owner controls it (an orphan is taken up again)."""
    labels, wanted_labels = there["metadata"].get("labels", {}), wanted["metadata"].get("labels", {})
    if labels.get(MANAGED_BY_LABEL) != MANAGER or labels.get(MODEL_LABEL) != wanted_labels.get(MODEL_LABEL):
        return False
    owners = {owner["uid"] for owner in wanted["metadata"].get("ownerReferences", ())}
    return all(
        owner["uid"] in owners or not owner.get("controller") for owner in there["metadata"].get("ownerReferences", ())
    )
