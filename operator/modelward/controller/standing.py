"""Looks whether the backstop stands: whoever may delete or change an admission policy is asked by none.

What the chart brought is the chart's to put back. It is told of, and what came in meanwhile is found by its pods.
"""

from __future__ import annotations

from functools import cache

from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.planner.drift import covers
from modelward.planner.names import KubeObject
from modelward.planner.pod_policy import pod_policies
from modelward.rules.admission_policy import catalogue_policies
from modelward.wording import names

_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
_COMPONENT = {"app.kubernetes.io/part-of": "modelward", "app.kubernetes.io/component": "backstop"}


class Standing:
    """What of the backstop is missing, or is not what this version brings."""

    def __init__(self, cluster: Cluster, recorder: Recorder, namespace: str) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._namespace = namespace
        self.fallen: tuple[str, ...] = ()
        """Names of policies and bindings, a binding marked so, as of the last look."""

    async def look(self) -> None:
        """Look once, and record an Event on the installation's namespace where something has fallen since.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        there: dict[tuple[str, str], KubeObject] = {}
        for kind in _KINDS:
            for item in await self._cluster.find(kind, labels=_COMPONENT):
                there[kind, item["metadata"]["name"]] = item["spec"]
        before = self.fallen
        self.fallen = tuple(
            f"{name}{' (binding)' if kind == _KINDS[1] else ''}"
            for (kind, name), spec in _wanted().items()
            if not covers(there.get((kind, name)), spec)
        )
        if self.fallen and self.fallen != before:
            place = await self._cluster.get("Namespace", "", self._namespace)
            if place is not None:
                await self._recorder.record(
                    place,
                    "Warning",
                    "BackstopIncomplete",
                    f"missing, or not as this version brings them: {names(self.fallen)}. What they refuse may get in "
                    "while the webhook is down. Fix: install the chart again (helm upgrade)",
                )

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        told = "Admission policies and bindings of the backstop that are missing, or not as this version brings them."
        return {"modelward_backstop_fallen": (told, {"": len(self.fallen)})}


@cache
def _wanted() -> dict[tuple[str, str], KubeObject]:
    manifests = [*catalogue_policies(), *pod_policies()]
    return {(item["kind"], item["metadata"]["name"]): item["spec"] for item in manifests}
