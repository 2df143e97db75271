"""Workloads that run already, protected on the kind cluster: the example's model server, run by somebody else."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from demo.evidence import SIDECAR
from demo.kubectl import Cluster, NotAsToldError, wait_for
from demo.serving import Door, condition, door, wait_ready
from tests.corpus import Manifest
from tests.e2e.conftest import MODEL_IMAGE, Installed
from tests.e2e.test_life import in_namespace

APP = {"app": "wdbc"}
GUARD = "guard"
SECONDS = 180
SAFE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def template(image: str, **pod: Any) -> Manifest:
    """The example's model server as somebody else would run it."""
    container = {
        "name": "server",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8080}],
        "securityContext": SAFE,
    }
    return {"metadata": {"labels": APP}, "spec": {"containers": [container], **pod}}


def workload(kind: str, namespace: str, spec: Manifest) -> Manifest:
    version = "batch/v1" if kind == "Job" else "apps/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "wdbc", "namespace": namespace}, "spec": spec}


def guard(modelward: Installed, kind: str, namespace: str) -> list[Manifest]:
    """The example's ModelDeployment, for a workload that runs already, with what it refers to."""
    model = copy.deepcopy(in_namespace(modelward.example("model.yaml"), namespace))
    model["metadata"]["name"] = GUARD
    del model["spec"]["model"], model["spec"]["replicas"]
    version = "batch/v1" if kind == "Job" else "apps/v1"
    model["spec"]["targetRef"] = {"apiVersion": version, "kind": kind, "name": "wdbc"}
    return [*(in_namespace(modelward.example(name), namespace) for name in ("jwks.yaml", "baseline.yaml")), model]


def pods(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The pods of the workload that are not on their way out."""
    found = cluster.get("pods", "-n", namespace, "-l", "app=wdbc")["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def watched(pod: dict[str, Any]) -> bool:
    return any(container["name"] == SIDECAR for container in pod["spec"].get("initContainers", ()))


def ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def wait_pods(cluster: Cluster, namespace: str, count: int, *, guarded: bool) -> None:
    def look() -> bool | None:
        found = pods(cluster, namespace)
        seen = [(pod["metadata"]["name"], watched(pod), ready(pod)) for pod in found]
        if len(found) == count and all(watched(pod) is guarded and ready(pod) for pod in found):
            return True
        raise NotAsToldError(f"pods (name, watched, ready): {seen}")

    wait_for(f"{count} ready pods {'with' if guarded else 'without'} the sidecar", look, timeout=SECONDS)


def test_a_deployment_is_protected_called_and_given_back(modelward: Installed, namespace: str) -> None:
    protected_and_given_back(modelward, namespace, "Deployment")


def test_a_stateful_set_is_protected_called_and_given_back(modelward: Installed, namespace: str) -> None:
    protected_and_given_back(modelward, namespace, "StatefulSet")


def protected_and_given_back(modelward: Installed, namespace: str, kind: str) -> None:
    cluster, image = modelward.cluster, modelward.images[MODEL_IMAGE]
    spec: Manifest = {"replicas": 2, "selector": {"matchLabels": APP}, "template": template(image)}
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "wdbc", "namespace": namespace},
        "spec": {"selector": APP, "ports": [{"port": 80, "targetPort": "http"}]},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = "wdbc"
    modelward.apply(workload(kind, namespace, spec), service)
    wait_pods(cluster, namespace, 2, guarded=False)
    before = cluster.get(kind, "wdbc", "-n", namespace)["spec"]

    modelward.apply(*guard(modelward, kind, namespace))
    wait_ready(cluster, namespace, GUARD)
    wait_pods(cluster, namespace, 2, guarded=True)
    told = condition(cluster.get("modeldeployment", GUARD, "-n", namespace), "Bypassable")
    assert (told["status"], told["reason"]) == ("False", "Probed")

    with door(cluster, namespace, GUARD) as way:
        assert way.ask("--expect", "200").status == 200
        assert way.ask("--expect", "401", "--no-token").status == 401
        # The Service of before leads to the sidecar, whose certificate bears its name.
        with cluster.port_forward(namespace, "service/wdbc", 80) as port:
            old = Door(cluster, port, way.ca, f"wdbc.{namespace}.svc")
            assert old.ask("--expect", "200").status == 200
            assert old.ask("--expect", "401", "--no-token").status == 401

    cluster.kubectl("delete", "modeldeployment", GUARD, "-n", namespace).expect_ok()
    wait_pods(cluster, namespace, 2, guarded=False)
    assert cluster.get(kind, "wdbc", "-n", namespace)["spec"] == before


def test_a_job_is_protected_and_finishes_soon_after_its_main_container(modelward: Installed, namespace: str) -> None:
    cluster = modelward.cluster
    shape = template(modelward.images[MODEL_IMAGE], restartPolicy="Never")
    served = "timeout 120 mlserver start /srv/wdbc; true"
    shape["spec"]["containers"][0]["command"] = ["/bin/sh", "-c", served]
    modelward.apply(workload("Job", namespace, {"suspend": True, "template": shape}))
    modelward.apply(*guard(modelward, "Job", namespace))

    def suspended() -> bool | None:
        told = condition(cluster.get("modeldeployment", GUARD, "-n", namespace), "Ready")
        return True if told.get("reason") == "Suspended" else None

    wait_for("the Job is protected, and waits", suspended, timeout=180)
    resume = '{"spec": {"suspend": false}}'
    cluster.kubectl("patch", "job", "wdbc", "-n", namespace, "--type=merge", "-p", resume).expect_ok()
    wait_ready(cluster, namespace, GUARD)
    with door(cluster, namespace, GUARD) as way:
        assert way.ask("--expect", "200").status == 200

    def finished() -> dict[str, Any] | None:
        (pod,) = pods(cluster, namespace)
        job = cluster.get("job", "wdbc", "-n", namespace)
        if not job["status"].get("completionTime"):
            raise NotAsToldError(f"the pod is {pod['status']['phase']}")
        return {"pod": pod, "job": job}

    seen = wait_for("the Job is complete", finished, timeout=SECONDS)
    assert watched(seen["pod"])
    (server,) = seen["pod"]["status"]["containerStatuses"]
    ended = datetime.fromisoformat(server["state"]["terminated"]["finishedAt"])
    completed = datetime.fromisoformat(seen["job"]["status"]["completionTime"])
    assert (completed - ended).total_seconds() <= 5
