"""What tells of it afterwards: events, metrics, the access log."""

from __future__ import annotations

import json
from typing import Any

from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.screen import Screen

METRICS = 9090
SIDECAR = "modelward-sidecar"


def pods_of(cluster: Cluster, namespace: str, model: str) -> list[str]:
    """Return the names of the pods that serve a model."""
    found = cluster.get("pods", "-n", namespace, "-l", f"modelward.io/model={model}")
    return [item["metadata"]["name"] for item in found["items"] if "deletionTimestamp" not in item["metadata"]]


def metrics_path(namespace: str, pod: str) -> str:
    """Return the path at which the API server passes a pod's metrics on."""
    return f"/api/v1/namespaces/{namespace}/pods/{pod}:{METRICS}/proxy/metrics"


def metric_lines(cluster: Cluster, namespace: str, pod: str, *names: str) -> list[str]:
    """Return the lines of some metrics of a pod's sidecar, those at zero left out."""
    output = cluster.kubectl("get", "--raw", metrics_path(namespace, pod)).expect_ok()
    return [line for line in output.stdout.splitlines() if line.startswith(names) and float(line.rsplit(" ", 1)[1]) > 0]


def access_log_line(cluster: Cluster, namespace: str, model: str, request: str) -> dict[str, Any]:
    """Return the access-log record of a request.

    Raises:
        NotAsToldError: there is none after ten seconds.
    """

    def find() -> dict[str, Any] | None:
        for pod in pods_of(cluster, namespace, model):
            log = cluster.kubectl("-n", namespace, "logs", pod, "-c", SIDECAR, "--tail=200").expect_ok().stdout
            for line in log.splitlines():
                if request in line:
                    record: dict[str, Any] = json.loads(line)
                    return record
        return None

    return wait_for(f"an access-log line of request {request}", find, timeout=10)


def show_events(screen: Screen, cluster: Cluster, refused: str) -> None:
    """Show the events of refusals."""
    screen.step(
        "Who was refused, and why",
        "Each refusal leaves an event: where the object was meant to be, and beside the policy that asked.",
    )
    command = ("get", "events", "-A", "--field-selector=reason=PolicyViolation")

    def told() -> bool | None:
        return True if refused in cluster.kubectl(*command).expect_ok().stdout else None

    with screen.waiting("Waiting for the event") as tick:
        wait_for(f"an event PolicyViolation that names {refused}", told, timeout=20, tick=tick)
    output = cluster.kubectl(*command).expect_ok()
    screen.command(output.command)
    screen.output(output.text, keep=12)
    screen.good(f"the refusal of {refused} is on record")


def show_measurements(screen: Screen, cluster: Cluster, namespace: str, model: str, requests: dict[str, str]) -> None:
    """Show the metrics and the access-log lines that tell of the requests made.

    Args:
        screen: where to.
        cluster: which.
        namespace: of the model.
        model: its name.
        requests: what each request was, by its id.
    """
    screen.step(
        "What the sidecar kept of it",
        "Counters for the monitoring, without a caller or a value in them; and a line a request in the access log: who"
        " asked what, when, from where and why, and what came of it. No value of a patient in either.",
    )
    names = ("modelward_requests_total", "modelward_access_denied_total", "modelward_anomalies_total")
    counted = 0
    for pod in pods_of(cluster, namespace, model):
        lines = metric_lines(cluster, namespace, pod, *names)
        if lines:
            screen.command(f"kubectl get --raw {metrics_path(namespace, pod)} | grep ^modelward_")
            screen.output("\n".join(lines))
        counted += sum("modelward_anomalies_total" in line for line in lines)
    if not counted:
        raise NotAsToldError("no sidecar counted the anomaly that it blocked")
    screen.command(f"kubectl -n {namespace} logs -l modelward.io/model={model} -c {SIDECAR}")
    for request, what in requests.items():
        record = access_log_line(cluster, namespace, model, request)
        screen.output(json.dumps(record))
        screen.good(f"{what}: status {record['status']} is on record")
