"""Services that lead to a model's own ports, past its sidecar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelward.planner.names import KubeObject
from modelward.planner.sidecar import HTTPS_PORT


def leading_past(
    services: Iterable[KubeObject], pods: Sequence[Mapping[str, Any]], ports: Sequence[int], uid: str | None
) -> tuple[str, ...]:
    """Return the Services that lead past the sidecar, a sentence each with the remedy.

    Those of other controllers (KServe's, Seldon's) are left out: nobody can change them, and they lead nowhere as long
    as the model's ports are shut, which is tried.

    Args:
        services: all of the namespace.
        pods: pods or pod templates of the workload, as they are before the sidecar takes the place of the port.
        ports: of the model server; the first is the one whose place the sidecar takes.
        uid: of the ModelDeployment, whose own Service leads to the sidecar.
    """
    return tuple(
        f"Service {service['metadata']['name']} leads to port {target}: let targetPort be {HTTPS_PORT}, or delete it"
        for service in services
        if _is_somebodys(service, uid) and any(_chooses(service, pod) for pod in pods)
        for target in _targets(service, pods, ports)
    )


def _is_somebodys(service: KubeObject, uid: str | None) -> bool:
    owners = service["metadata"].get("ownerReferences", ())
    return not any(owner.get("controller") or owner["uid"] == uid for owner in owners)


def _chooses(service: KubeObject, pod: Mapping[str, Any]) -> bool:
    selector = service["spec"].get("selector") or {}
    labels = (pod.get("metadata") or {}).get("labels") or {}
    # A headless Service forwards nothing: its name stands for the pods' addresses, on which the ports are tried.
    forwards = service["spec"].get("clusterIP") != "None"
    return bool(selector) and forwards and selector.items() <= labels.items()


def _targets(service: KubeObject, pods: Sequence[Mapping[str, Any]], ports: Sequence[int]) -> Iterable[str]:
    names = {
        port["name"]
        for pod in pods
        for container in (pod.get("spec") or {}).get("containers") or ()
        for port in container.get("ports") or ()
        if "name" in port and port["containerPort"] in ports[1:]
    }
    for port in service["spec"].get("ports", ()):
        target = port.get("targetPort", port["port"])
        if port.get("protocol", "TCP") == "TCP" and (target in ports or target in names):
            yield str(target)
