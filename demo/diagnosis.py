"""What to look at when a step is not as told: gathered at once, so that nobody has to ask for it."""

from __future__ import annotations

from demo.kubectl import Cluster, NotAsToldError

SYSTEM = "modelward-system"
LINES = 15


def diagnosis(cluster: Cluster, *namespaces: str) -> str:
    """Return the state of modelward and of some namespaces: pods, conditions, warnings, last words."""
    parts = [_pods(cluster, SYSTEM)]
    for namespace in namespaces:
        parts += [
            _section(cluster, "get", "modeldeployments", "-n", namespace),
            _pods(cluster, namespace),
            _section(cluster, "get", "events", "-n", namespace, "--sort-by=.lastTimestamp", tail=LINES),
        ]
    parts += [
        _section(cluster, "-n", SYSTEM, "get", "events", "--field-selector=type=Warning", tail=LINES),
        *(
            _section(cluster, "-n", SYSTEM, "logs", f"deployment/modelward-{process}", f"--tail={LINES}")
            for process in ("controller", "admission")
        ),
    ]
    return "\n\n".join(parts)


def _section(cluster: Cluster, *args: str, tail: int = 40) -> str:
    output = cluster.kubectl(*args, timeout=20)
    lines = output.text.splitlines()[-tail:] or ["(nothing)"]
    return "\n".join([f"$ {output.command}", *(f"  {line}" for line in lines)])


def _pods(cluster: Cluster, namespace: str) -> str:
    """Pods, and the last words of those that are not ready."""
    sections = [_section(cluster, "-n", namespace, "get", "pods", "-o", "wide")]
    for pod in _not_ready(cluster, namespace)[:3]:
        sections.append(_section(cluster, "-n", namespace, "describe", "pod", pod, tail=25))
        sections.append(_section(cluster, "-n", namespace, "logs", pod, "--all-containers", f"--tail={LINES}"))
    return "\n\n".join(sections)


def _not_ready(cluster: Cluster, namespace: str) -> list[str]:
    try:
        pods = cluster.get("pods", "-n", namespace)["items"]
    except NotAsToldError:
        return []
    return [
        pod["metadata"]["name"]
        for pod in pods
        if {"type": "Ready", "status": "True"}
        not in [{key: item[key] for key in ("type", "status")} for item in pod["status"].get("conditions", [])]
    ]
