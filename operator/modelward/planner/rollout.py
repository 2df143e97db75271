"""How far a workload is: how many pods it wants, how many are ready, and whether those are of the latest template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelward.planner.names import KubeObject


@dataclass(frozen=True)
class Rollout:
    """The state of a workload.

    Attributes:
        wanted: pods that there are to be.
        replicas: pods that there are.
        ready: pods that are ready.
        current: whether all of them are of the latest template, as far as the workload replaces them by itself.
        failure: why it does not get on; empty where it does.
        rests: a word for a workload that runs no pod now, and is not to: it has finished, or waits for its time.
    """

    wanted: int
    replicas: int
    ready: int
    current: bool
    failure: str = ""
    rests: str = ""

    @property
    def done(self) -> bool:
        """Whether everything that is wanted is there."""
        return self.current and self.ready >= self.wanted


def rollout(item: KubeObject, pods: Sequence[KubeObject] = ()) -> Rollout:
    """Return the state of a workload.

    Args:
        item: the workload, as the API server has it.
        pods: its pods, for kinds that do not count them.
    """
    return _OF_KIND[item["kind"]](item, pods)


def sharing(item: KubeObject, pods: Sequence[KubeObject] = ()) -> int:
    """Return among how many pods a workload's limits are divided: those wanted, or there if there are more."""
    found = rollout(item, pods)
    return max(found.wanted, found.replicas, 1)


def _seen(item: KubeObject) -> bool:
    """Whether the workload's controller has seen the latest of it."""
    observed = item.get("status", {}).get("observedGeneration", 0)
    return bool(observed >= item["metadata"].get("generation", 0))


def _failure(item: KubeObject) -> str:
    """Say why a workload does not get on: pods that are refused, or that are not ready in time."""
    for condition in item.get("status", {}).get("conditions", ()):
        refused = condition["type"] in ("ReplicaFailure", "Failed") and condition["status"] == "True"
        late = condition["type"] == "Progressing" and condition["status"] == "False"
        if refused or late:
            return str(condition.get("message", condition["type"]))
    return ""


def deployment_rollout(item: KubeObject, _: Sequence[KubeObject] = ()) -> Rollout:
    """Return the state of a Deployment."""
    wanted, status = item["spec"].get("replicas", 1), item.get("status", {})
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    replicas = status.get("replicas", 0)
    return Rollout(wanted, replicas, ready, _seen(item) and replicas <= updated >= wanted, _failure(item))


def _stateful_set(item: KubeObject, _: Sequence[KubeObject]) -> Rollout:
    wanted, status = item["spec"].get("replicas", 1), item.get("status", {})
    by_itself = item["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
    same = status.get("currentRevision") == status.get("updateRevision")
    current = _seen(item) and (same or not by_itself)
    return Rollout(wanted, status.get("replicas", 0), status.get("readyReplicas", 0), current)


def _daemon_set(item: KubeObject, _: Sequence[KubeObject]) -> Rollout:
    status = item.get("status", {})
    wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
    by_itself = item["spec"].get("updateStrategy", {}).get("type", "RollingUpdate") == "RollingUpdate"
    current = _seen(item) and (updated >= wanted or not by_itself)
    return Rollout(wanted, status.get("currentNumberScheduled", 0), status.get("numberReady", 0), current)


def _replica_set(item: KubeObject, _: Sequence[KubeObject]) -> Rollout:
    status = item.get("status", {})
    wanted, ready = item["spec"].get("replicas", 1), status.get("readyReplicas", 0)
    return Rollout(wanted, status.get("replicas", 0), ready, _seen(item), _failure(item))


def _job(item: KubeObject, _: Sequence[KubeObject]) -> Rollout:
    status = item.get("status", {})
    wanted, active, ready = item["spec"].get("parallelism", 1), status.get("active", 0), status.get("ready", 0)
    over = any(
        one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in status.get("conditions", ())
    )
    rests = "Finished" if over else "Suspended" if item["spec"].get("suspend") else ""
    return Rollout(wanted, active, ready, current=True, failure=_failure(item), rests=rests)


def _cron_job(item: KubeObject, pods: Sequence[KubeObject]) -> Rollout:
    rests = "" if item.get("status", {}).get("active") else "Scheduled"
    return Rollout(len(pods), len(pods), _ready(pods), current=True, rests=rests)


def _inference_service(item: KubeObject, pods: Sequence[KubeObject]) -> Rollout:
    wanted = (item["spec"].get("predictor") or {}).get("minReplicas", 1)
    return Rollout(wanted, len(pods), _ready(pods), current=_seen(item))


def _seldon_deployment(item: KubeObject, pods: Sequence[KubeObject]) -> Rollout:
    status, spec = item.get("status", {}), item["spec"]
    counts = [one.get("replicas", spec.get("replicas", 1)) for one in spec.get("predictors", ())]
    failure = str(status.get("description", "")) if status.get("state") == "Failed" else ""
    return Rollout(sum(counts), len(pods), _ready(pods), status.get("state") == "Available", failure)


def _ready(pods: Sequence[KubeObject]) -> int:
    return sum(
        any(one["type"] == "Ready" and one["status"] == "True" for one in pod.get("status", {}).get("conditions", ()))
        for pod in pods
    )


_OF_KIND: dict[str, Callable[[KubeObject, Sequence[KubeObject]], Rollout]] = {
    "Deployment": deployment_rollout,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "ReplicaSet": _replica_set,
    "Job": _job,
    "CronJob": _cron_job,
    "InferenceService": _inference_service,
    "SeldonDeployment": _seldon_deployment,
}
