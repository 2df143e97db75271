"""A workload that runs already: what it says of its pods, and whether they can be protected.

How the marks come to the workload is told by `planner.target_marks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.workload import TargetRef
from modelward.planner.injection import InjectionError, Pod, inject
from modelward.planner.names import KubeObject
from modelward.planner.observation import Obstacle
from modelward.planner.plan import Settings, runtime
from modelward.planner.sidecar import (
    HTTPS_PORT,
    INJECT_ENABLED,
    INJECT_LABEL,
    METRICS_PORT,
    MODEL_LABEL,
    PORT_LABEL,
    RUNTIME_LABEL,
)
from modelward.planner.target_frameworks import (
    INFERENCE_SERVICE,
    SELDON_DEPLOYMENT,
    SERVER,
    SERVERS,
    kserve_limits,
    seldon_limits,
)
from modelward.planner.target_marks import TEMPLATES, at

KINDS = (*TEMPLATES, INFERENCE_SERVICE, SELDON_DEPLOYMENT)
"""Kinds that `spec.targetRef` may name."""

_DEFAULT_PORTS = {INFERENCE_SERVICE: 8080, SELDON_DEPLOYMENT: 8000}
"""Where KServe's model servers and Seldon's orchestrator listen when their manifests say nothing."""


@dataclass(frozen=True)
class Target:
    """A workload that is to be protected, as it was found.

    Attributes:
        item: the workload.
        port: of its model server.
        ports: every TCP port by which its model server may be reached, that port included.
        labels: what its pods are to be marked with.
    """

    item: KubeObject
    port: int
    ports: tuple[int, ...]
    labels: Mapping[str, str]


def missing(ref: TargetRef) -> Obstacle:
    """Return what is to be said of a workload that is not there."""
    return Obstacle(
        "TargetMissing", f"spec.targetRef names {ref.kind} {ref.name}, which is not in this namespace: create it"
    )


def identity(item: KubeObject) -> tuple[str, str, str, str]:
    """Return API version, kind, namespace and name of an object, as a manifest or the API server gives it."""
    metadata = item.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    named = (item.get("apiVersion"), item.get("kind"), metadata.get("namespace") or "default", metadata.get("name"))
    version, kind, namespace, name = map(str, named)
    return version, kind, namespace, name


def claimant(item: KubeObject) -> str:
    """Return the ModelDeployment that a workload's pods are marked for; an empty string where they are not."""
    return next((found for pod in pods_of(item) if (found := _labels(pod).get(MODEL_LABEL))), "")


def target(md: ModelDeployment, ref: TargetRef, item: KubeObject, settings: Settings) -> Target | Obstacle:
    """Return how a workload is to be protected, or what stands in the way of it.

    Args:
        md: the ModelDeployment.
        ref: its `spec.targetRef`.
        item: the workload that it names.
        settings: what the installation decides.
    """
    try:
        return _target(md, ref, item, settings)
    except (AttributeError, KeyError, TypeError):  # from a file, or of a framework whose schema lets anything in
        return Obstacle("TargetUnsuitable", f"{_named(item)} is not valid for its kind: correct its spec")


def _target(md: ModelDeployment, ref: TargetRef, item: KubeObject, settings: Settings) -> Target | Obstacle:
    owner = next((one for one in item["metadata"].get("ownerReferences", ()) if one.get("controller")), None)
    if owner:
        fix = "name that one instead" if owner["kind"] in KINDS else "its controller would undo what is done to it"
        return Obstacle("TargetTaken", f"{_named(item)} belongs to {owner['kind']} {owner['name']}: {fix}")
    found = _ports(ref, item)
    if isinstance(found, Obstacle):
        return found
    port, ports = found
    labels = {
        INJECT_LABEL: INJECT_ENABLED,
        MODEL_LABEL: md.metadata.name,
        PORT_LABEL: str(port),
        RUNTIME_LABEL: runtime(md, settings),
    }
    result = Target(item, port, ports, labels)
    limits = [*_limits(ref, item), *_not_to_be_injected(result, settings)]
    if limits:
        return Obstacle("TargetUnsuitable", f"{_named(item)}: {'; '.join(limits)}")
    return _fixed(result) if _is_fixed(item) else result


def pods_of(item: KubeObject) -> list[Pod]:
    """Return what a workload says of its pods: one pod template, or several where a framework has several."""
    kind, spec = item["kind"], item["spec"]
    if kind == INFERENCE_SERVICE:
        predictor = spec.get("predictor") or {}
        servers = [{"name": SERVER, **predictor[part]} for part in SERVERS if predictor.get(part)]
        containers = [*servers, *(predictor.get("containers") or ())]
        return [{"metadata": predictor, "spec": {**predictor, "containers": containers}}]
    if kind == SELDON_DEPLOYMENT:
        nothing: list[KubeObject] = [{}]
        return [
            {"metadata": predictor, "spec": component.get("spec") or {}}
            for predictor in spec.get("predictors", ())
            for component in predictor.get("componentSpecs") or nothing
        ]
    return [at(item, TEMPLATES[kind])]


def pod_selector(item: KubeObject, model: str) -> str:
    """Return the label selector of a workload's pods, marked or not, as the API server takes it."""
    kind, name = item["kind"], item["metadata"]["name"]
    if kind == INFERENCE_SERVICE:
        return f"serving.kserve.io/inferenceservice={name},component=predictor"
    if kind == SELDON_DEPLOYMENT:
        return f"seldon-deployment-id={name}"
    if kind == "CronJob":  # its Jobs have selectors of their own
        return f"{MODEL_LABEL}={model}"
    selector = item["spec"].get("selector") or {}
    equal = [f"{key}={value}" for key, value in selector.get("matchLabels", {}).items()]
    return ",".join([*equal, *map(_requirement, selector.get("matchExpressions", ()))])


def _requirement(requirement: Mapping[str, Any]) -> str:
    key, values = requirement["key"], ",".join(requirement.get("values", ()))
    match requirement["operator"]:
        case "In":
            return f"{key} in ({values})"
        case "NotIn":
            return f"{key} notin ({values})"
        case "Exists":
            return str(key)
        case _:
            return f"!{key}"


def _ports(ref: TargetRef, item: KubeObject) -> tuple[int, tuple[int, ...]] | Obstacle:
    """The model server's port, and all that its containers declare."""
    containers = [part for pod in pods_of(item) for part in pod.get("spec", {}).get("containers") or ()]
    if ref.container_name:
        containers = [part for part in containers if part.get("name") == ref.container_name]
        if not containers:
            return Obstacle(
                "TargetUnsuitable",
                f"{_named(item)} has no container {ref.container_name}: correct spec.targetRef.containerName",
            )
    declared = sorted({port for container in containers for port in _declared(container)})
    default = _DEFAULT_PORTS.get(item["kind"])
    port = ref.port or (declared[0] if len(declared) == 1 else None if declared else default)
    if port is None:
        found = f"its containers declare {', '.join(map(str, declared))}" if declared else "no container declares one"
        return Obstacle("TargetUnsuitable", f"{_named(item)}: which port the model listens on is unclear ({found}): "
                        "give spec.targetRef.port")  # fmt: skip
    if port in (HTTPS_PORT, METRICS_PORT):
        return Obstacle(
            "TargetUnsuitable",
            f"{_named(item)}: the sidecar itself listens on {port}: let the model listen on another port",
        )
    served = [part for part in containers if port in _declared(part)]
    beside = {other for part in served for other in _declared(part)}
    return port, (port, *sorted(beside - {port}))


def _declared(container: Mapping[str, Any]) -> set[int]:
    return {
        port["containerPort"]
        for port in container.get("ports") or ()
        if port.get("protocol", "TCP") == "TCP" and port["containerPort"] not in (HTTPS_PORT, METRICS_PORT)
    }


def _limits(ref: TargetRef, item: KubeObject) -> list[str]:
    if item["kind"] == INFERENCE_SERVICE:
        return kserve_limits(item)
    if item["kind"] == SELDON_DEPLOYMENT:
        return seldon_limits(ref, item)
    return []


def _not_to_be_injected(found: Target, settings: Settings) -> Iterator[str]:
    """Why the webhook would refuse the pods: to be known before they are marked, or the workload would stand still."""
    for pod in pods_of(found.item):
        marked = {**pod, "metadata": {**pod.get("metadata", {}), "labels": {**_labels(pod), **found.labels}}}
        try:
            inject(marked, image=settings.sidecar_image, config_key=settings.config_key)
        except InjectionError as error:
            yield from error.reasons
        for container in pod.get("spec", {}).get("containers") or ():
            for port in container.get("ports") or ():
                if port.get("hostPort") and port["containerPort"] in found.ports[1:]:
                    yield f"port {port['containerPort']} is open on the node (hostPort). Fix: take the hostPort out"


def _is_fixed(item: KubeObject) -> bool:
    """Whether the pod template can be changed no more: a Job's, but for labels while it is suspended and unstarted."""
    waits = item["spec"].get("suspend") and not item.get("status", {}).get("startTime")
    return item["kind"] == "Job" and not waits


def _fixed(found: Target) -> Target | Obstacle:
    """A fixed template protects its pods when it was marked from the beginning; the marks it has are all it can get."""
    there, wanted = _labels(pods_of(found.item)[0]), found.labels
    if all(there.get(key) == wanted[key] for key in (INJECT_LABEL, MODEL_LABEL)):
        return replace(found, labels={key: there[key] for key in wanted if key in there})
    return Obstacle(
        "TargetImmutable",
        f"{_named(found.item)} runs already, and the pod template of a Job cannot be changed: delete it and create it "
        f"anew with the labels {INJECT_LABEL}: {INJECT_ENABLED} and {MODEL_LABEL}: {wanted[MODEL_LABEL]} in its pod "
        "template, or suspended (spec.suspend: true) until it is protected",
    )


def _named(item: KubeObject) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _labels(pod: Mapping[str, Any]) -> dict[str, str]:
    return (pod.get("metadata") or {}).get("labels") or {}
