"""The sidecar takes the place of the model's port in a pod, so that whatever leads to the port by name leads to it.

Done to the pod and not to its template: it then lasts as long as the sidecar is there, and no longer. A declared port
of a container is no more than a name for a number; that it stands at the model's container does not keep the sidecar,
which shares the pod's address, from being what listens there.
"""

from __future__ import annotations

from typing import Any

from modelward.planner.sidecar import HTTPS_PORT

_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HOOKS = ("postStart", "preStop")
_ASKS = ("httpGet", "tcpSocket")

Container = dict[str, Any]


def taken_over(containers: list[Container], port: int) -> list[Container]:
    """Return the containers with every declaration of a port pointing at the sidecar.

    Probes and hooks go on asking the model itself: where they name the port, they get its number. A second call
    changes nothing.

    Args:
        containers: of a pod.
        port: of the model server.
    """
    return [_taken_over(container, port) for container in containers]


def _taken_over(container: Container, port: int) -> Container:
    ports = container.get("ports")
    if not isinstance(ports, list) or not any(_is_it(item, port) for item in ports):
        return container
    names = {item["name"] for item in ports if _is_it(item, port) and "name" in item}
    moved = [{**item, "containerPort": HTTPS_PORT} if _is_it(item, port) else item for item in ports]
    out = {**container, "ports": moved}
    for probe in _PROBES:
        if isinstance(out.get(probe), dict):
            out[probe] = _asking(out[probe], names, port)
    lifecycle = out.get("lifecycle")
    if isinstance(lifecycle, dict):
        out["lifecycle"] = {
            hook: _asking(handler, names, port) if hook in _HOOKS and isinstance(handler, dict) else handler
            for hook, handler in lifecycle.items()
        }
    return out


def _is_it(item: Any, port: int) -> bool:
    return isinstance(item, dict) and item.get("containerPort") == port and item.get("protocol", "TCP") == "TCP"


def _asking(handler: dict[str, Any], names: set[str], port: int) -> dict[str, Any]:
    return {
        how: {**action, "port": port} if how in _ASKS and isinstance(action, dict) and _named(action, names) else action
        for how, action in handler.items()
    }


def _named(action: dict[str, Any], names: set[str]) -> bool:
    named = action.get("port")
    return isinstance(named, str) and named in names
