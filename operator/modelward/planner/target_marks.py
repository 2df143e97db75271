"""The marks that a workload's pods are protected by, and how they are given and taken back.

Nothing of a workload is changed but labels: of its pod template, which the webhook goes by, and one of its own, by
which the controller finds it again. They are applied server-side (KEP-555) by a field manager of their own, so that
what is taken back is exactly what was given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.sidecar import INJECT_LABEL, MODEL_LABEL, PORT_LABEL, RUNTIME_LABEL
from modelward.planner.target_frameworks import INFERENCE_SERVICE, SELDON_DEPLOYMENT

FIELD_MANAGER = "modelward-target"

Path = tuple[str | int, ...]

_TEMPLATE: Path = ("spec", "template")
TEMPLATES: dict[str, Path] = {
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", *_TEMPLATE),
}
"""Where the pod template of each of Kubernetes' own kinds is."""


def marks(item: KubeObject) -> list[Path]:
    """Return where the labels of a workload's pods are."""
    kind = item["kind"]
    if kind == INFERENCE_SERVICE:
        return [("spec", "predictor", "labels")]
    if kind == SELDON_DEPLOYMENT:
        return [("spec", "predictors", index, "labels") for index in range(len(item["spec"].get("predictors", ())))]
    return [(*TEMPLATES[kind], "metadata", "labels")]


def applied_by_lists(item: KubeObject) -> bool:
    """Tell whether labels lie within a list without keys, which server-side apply could only take over as a whole."""
    return bool(item["kind"] == SELDON_DEPLOYMENT)


def application(item: KubeObject, labels: Mapping[str, str]) -> KubeObject:
    """Return what is applied to a workload to mark its pods; with no labels, to take every mark back.

    It names the very object and the version of it that was looked at: nothing is made anew by it, and nothing that
    somebody else changed in between is overwritten.
    """
    metadata: KubeObject = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    out: KubeObject = {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata}
    if labels:
        metadata["labels"] = {MODEL_LABEL: labels[MODEL_LABEL]}
        for path in marks(item):
            _put(out, path, dict(labels))
    return out


def operations(item: KubeObject, labels: Mapping[str, str]) -> list[KubeObject]:
    """Return the same as a JSON patch (RFC 6902); empty where nothing is to change."""
    own = {MODEL_LABEL: labels[MODEL_LABEL]} if labels else {}
    changes = [
        operation
        for path, wanted in (
            (("metadata", "labels"), own),
            *((path, dict(labels)) for path in marks(item)),
        )
        for operation in _label_operations(item, path, wanted)
    ]
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": item["metadata"]["resourceVersion"]}
    return [version, *changes] if changes else []


def marked(item: KubeObject, labels: Mapping[str, str]) -> KubeObject:
    """Return a workload as it is once its pods are marked."""
    out = copy.deepcopy(item)
    for path, wanted in (
        (("metadata", "labels"), {MODEL_LABEL: labels[MODEL_LABEL]}),
        *((p, labels) for p in marks(item)),
    ):
        at(out, path[:-1])[path[-1]] = {**at(item, path), **wanted}
    return out


def held(item: KubeObject) -> bool:
    """Tell whether a workload has marks that the controller gave it."""
    managers = {entry.get("manager") for entry in item["metadata"].get("managedFields", ())}
    return FIELD_MANAGER in managers and item["metadata"].get("labels", {}).get(MANAGED_BY_LABEL) != MANAGER


def at(item: Any, path: Path) -> Any:
    """Return what is at a path; an empty object where there is nothing."""
    for step in path:
        inside = item.get(step) if isinstance(item, dict) else item[step]
        item = {} if inside is None else inside
    return item


def _put(item: KubeObject, path: Path, value: Any) -> None:
    for step in path[:-1]:
        item = item.setdefault(str(step), {})
    item[str(path[-1])] = value


def _label_operations(item: KubeObject, path: Path, wanted: dict[str, str]) -> Iterator[KubeObject]:
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    there = at(item, path)
    if wanted and not there:
        yield {"op": "add", "path": pointer, "value": wanted}
        return
    for key, value in wanted.items():
        if there.get(key) != value:
            yield {"op": "add", "path": f"{pointer}/{key.replace('/', '~1')}", "value": value}
    if not wanted:
        for key in (INJECT_LABEL, MODEL_LABEL, PORT_LABEL, RUNTIME_LABEL):
            if key in there:
                yield {"op": "remove", "path": f"{pointer}/{key.replace('/', '~1')}"}
