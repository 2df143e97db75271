"""kopf, as far as it is used here: it finds the resources, lists and watches them, and survives what streams suffer.

Only event handlers are registered. kopf's other kinds keep progress in annotations and block deletion by finalizers;
these leave no trace on anybody's objects. Everything heard goes to `Operator.saw`, which returns at once, so kopf's
workers are never held up and need no limit.
"""

from __future__ import annotations

from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from modelward.api.base import GROUP
from modelward.controller.operator import Operator
from modelward.planner.sidecar import MODEL_LABEL

_WATCHED = (
    ("ModelDeployment", GROUP, "modeldeployments"),
    ("DataPolicy", GROUP, "datapolicies"),
    ("ClusterDataPolicy", GROUP, "clusterdatapolicies"),
    ("Namespace", "", "namespaces"),
    ("Deployment", "apps", "deployments"),
    ("StatefulSet", "apps", "statefulsets"),
    ("DaemonSet", "apps", "daemonsets"),
    ("Job", "batch", "jobs"),
    ("CronJob", "batch", "cronjobs"),
    ("InferenceService", "serving.kserve.io", "inferenceservices"),
    ("SeldonDeployment", "machinelearning.seldon.io", "seldondeployments"),
)
_MARKED = _WATCHED[4:]  # of these only what belongs to a ModelDeployment; ReplicaSets follow their Deployments


def registry(operator: Operator) -> kopf.OperatorRegistry:
    """Return the handlers: every change of what is watched is told to the operator."""
    handlers = kopf.OperatorRegistry()
    for kind, group, plural in _WATCHED:
        _listen(handlers, operator, kind, group, plural)
    kopf.on.login(registry=handlers)(_login)
    return handlers


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # events are written by `events.Recorder`, which counts repeats
    chosen.queueing.idle_timeout = 0.1  # a worker is a task for each object: let it go when there is nothing to tell
    for _, group, plural in _MARKED:
        chosen.watching.label_selectors[group, plural] = MODEL_LABEL
    chosen.process.ultimate_exiting_timeout = 20
    return chosen


async def watch(operator: Operator) -> None:
    """Watch until told to stop by a signal, or until kopf gives up."""
    await kopf.operator(
        registry=registry(operator),
        settings=settings(),
        identity=Identity("modelward-controller"),  # kopf would ask for the user's name, and an image's user has none
        standalone=True,  # the Lease decides who leads
        clusterwide=True,
    )


def _listen(handlers: kopf.OperatorRegistry, operator: Operator, kind: str, group: str, plural: str) -> None:
    @kopf.on.event(group, plural, registry=handlers, id=f"saw-{plural}")
    async def saw(event: kopf.RawEvent, **_: Any) -> None:
        operator.saw(kind, event["object"], gone=event["type"] == "DELETED")


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
