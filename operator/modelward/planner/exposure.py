"""Services of others that choose a model's pods: those that lead to its sidecar, and those that lead past it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.sidecar import HTTPS_PORT, MODEL_LABEL

_MAX_SERVICES = 16  # whose names a certificate bears


def leading_past(
    services: Iterable[KubeObject], pods: Sequence[Mapping[str, Any]], ports: Sequence[int]
) -> tuple[str, ...]:
    """Return the Services that lead past the sidecar, a sentence each with the remedy.

    Those of other controllers (KServe's, Seldon's) are left out: nobody can change them, and they lead nowhere as long
    as the model's ports are shut, which is tried.

    Args:
        services: all of the namespace.
        pods: pods or pod templates of the workload, as they are before the sidecar takes the place of the port.
        ports: of the model server; the first is the one whose place the sidecar takes.
    """
    return tuple(
        f"Service {service['metadata']['name']} leads to port {target}: give it targetPort {HTTPS_PORT}, or delete it"
        for service in services
        if _is_somebodys(service) and any(_chooses(service, pod) for pod in pods)
        for target in _targets(service, pods, ports)
    )


def leading_to(
    services: Iterable[KubeObject], pods: Sequence[Mapping[str, Any]], ports: Sequence[int]
) -> tuple[str, ...]:
    """Return the names of the Services by which the sidecar is called, so that its certificate can bear them.

    Args:
        services: all of the namespace.
        pods: as in `leading_past`.
        ports: as in `leading_past`.
    """
    targets = (HTTPS_PORT, *_names(pods, ports[:1]))
    found = sorted(
        service["metadata"]["name"]
        for service in services
        if not _is_ours(service)
        and any(_chooses(service, pod) for pod in pods)
        and any(port.get("targetPort", port["port"]) in targets for port in service["spec"].get("ports", ()))
    )
    return tuple(found[:_MAX_SERVICES])


def _is_ours(service: KubeObject) -> bool:
    labels = service["metadata"].get("labels", {})
    return labels.get(MANAGED_BY_LABEL) == MANAGER and MODEL_LABEL in labels


def _is_somebodys(service: KubeObject) -> bool:
    """Whether people made it, who can change it."""
    return not _is_ours(service) and not any(
        owner.get("controller") for owner in service["metadata"].get("ownerReferences", ())
    )


def _chooses(service: KubeObject, pod: Mapping[str, Any]) -> bool:
    selector = service["spec"].get("selector") or {}
    labels = (pod.get("metadata") or {}).get("labels") or {}
    # A headless Service forwards nothing: its name stands for the pods' addresses, on which the ports are tried.
    forwards = service["spec"].get("clusterIP") != "None"
    return bool(selector) and forwards and selector.items() <= labels.items()


def _names(pods: Sequence[Mapping[str, Any]], ports: Sequence[int]) -> set[str]:
    """The names under which containers declare these ports."""
    return {
        port["name"]
        for pod in pods
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
        if "name" in port and port["containerPort"] in ports
    }


def _targets(service: KubeObject, pods: Sequence[Mapping[str, Any]], ports: Sequence[int]) -> Iterable[str]:
    names = _names(pods, ports[1:])
    for port in service["spec"].get("ports", ()):
        target = port.get("targetPort", port["port"])
        if port.get("protocol", "TCP") == "TCP" and (target in ports or target in names):
            yield str(target)
