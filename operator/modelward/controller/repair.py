"""Mends what can be mended by itself: pods that run unwatched, and ReplicaSets that gave up while nobody injected.

A pod is evicted, never deleted: PodDisruptionBudgets hold. And only where what takes its place gets its sidecar; a pod
that nothing would make anew, or that would be refused, is told of and left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import WEBHOOK_CONFIGURATION, WEBHOOK_SERVICE
from modelward.planner.injection import InjectionError, inject
from modelward.planner.names import KubeObject
from modelward.planner.pod_policy import NEW_PODS
from modelward.planner.sidecar import (
    CONTAINER_NAME,
    INJECT_ENABLED,
    INJECT_LABEL,
    MODEL_LABEL,
    SYSTEM_NAMESPACE,
    config_map_name,
)
from modelward.rules.judge import policy_name
from modelward.wording import rfc3339

TOUCHED_ANNOTATION = "modelward.io/touched"
_MAX_EVICTED = 20  # in one look
_MAX_TOUCHED = 100
_LOOKS_BETWEEN_SWEEPS = 3


@dataclass(frozen=True)
class Candidate:
    """An unwatched pod that something would make anew.

    Attributes:
        pod: as the API server has it.
        model: its ModelDeployment's name.
        owner: uid of its controller.
        controller: the same for people, such as `ReplicaSet wdbc-7f`.
    """

    pod: KubeObject
    model: str
    owner: str
    controller: str


class Repair:
    """Evicts pods and touches ReplicaSets."""

    def __init__(self, cluster: Cluster, recorder: Recorder, clock: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._clock = clock
        self._held: dict[str, str] = {}  # by uid: why a pod was not evicted, told once
        self._injects = False  # whether the webhook was there at the last sweep
        self._touched = True
        self._looks = 0

    async def evict(
        self, candidates: Sequence[Candidate], coming_up: Collection[str], protected: Collection[str]
    ) -> None:
        """Evict the pods that a policy wants repaired: one of each controller at a time.

        Args:
            candidates: the unwatched pods.
            coming_up: uids of controllers of which a watched pod is not ready yet: theirs wait.
            protected: the namespaces in which the webhook sees every pod.
        """
        if not candidates:
            self._held.clear()
            return
        policies = [*await self._cluster.find("ClusterDataPolicy"), *await self._cluster.find("DataPolicy")]
        repairing = {policy_name(policy) for policy in policies if policy["spec"].get("repair")}
        if not repairing:
            return
        busy = set(coming_up)
        held = {}
        evicted = 0
        for one in candidates:
            model = await self._cluster.get("ModelDeployment", one.pod["metadata"]["namespace"], one.model)
            if model is None or repairing.isdisjoint((model.get("status") or {}).get("policies", ())):
                continue
            if one.owner in busy or evicted >= _MAX_EVICTED:
                continue
            busy.add(one.owner)
            why = await self._hindrance(one, protected) or await self._evict(one)
            if why:
                held[one.pod["metadata"]["uid"]] = why
                if self._held.get(one.pod["metadata"]["uid"]) != why:
                    await self._recorder.record(one.pod, "Warning", "RepairHeld", f"not evicted yet: {why}")
                continue
            evicted += 1
            told = f"evicted pod {one.pod['metadata']['name']}, for {one.controller} to make it anew with its sidecar"
            for about in (one.pod, model):
                await self._recorder.record(about, "Normal", "PodRepaired", told)
        self._held = held

    async def _hindrance(self, one: Candidate, protected: Collection[str]) -> str:
        """Say why the pod that would come in its place would not be watched, or not come at all."""
        metadata = one.pod["metadata"]
        injected = (metadata.get("labels") or {}).get(INJECT_LABEL) == INJECT_ENABLED
        if not injected and metadata["namespace"] not in protected:
            return f"the template of {one.controller} lacks the label {INJECT_LABEL}: {INJECT_ENABLED}"
        spec = {key: value for key, value in one.pod["spec"].items() if key != "ephemeralContainers"}
        try:
            inject({"metadata": metadata, "spec": spec}, image="any", config_key="any")
        except InjectionError as error:
            return f"the pod in its place would be refused: {error.reasons[0]}"
        if await self._cluster.get("ConfigMap", metadata["namespace"], config_map_name(one.model)) is None:
            return f"the ModelDeployment {one.model} is not made yet: see its condition Ready"
        if not await self.webhook_answers():
            return "modelward's webhook, which adds the sidecar, is not there"
        return ""

    async def _evict(self, one: Candidate) -> str:
        try:
            await self._cluster.evict(one.pod)
        except ApiError as error:
            if error.status in (404, 409):
                return ""  # gone meanwhile
            if error.status in (403, 429, 500):  # 500: more than one budget covers the pod
                return error.message
            raise
        return ""

    async def webhook_answers(self) -> bool:
        """Tell whether new pods get their sidecar."""
        configuration = await self._cluster.get("MutatingWebhookConfiguration", "", WEBHOOK_CONFIGURATION)
        deployment = await self._cluster.get("Deployment", SYSTEM_NAMESPACE, WEBHOOK_SERVICE)
        available = ((deployment or {}).get("status") or {}).get("availableReplicas", 0)
        return configuration is not None and bool(available)

    async def touch_backed_off(self, protected: Collection[str]) -> None:
        """Have ReplicaSets try again at once whose pods were refused while the webhook was away.

        Their controller waits longer after each refusal, up to a quarter of an hour; a change makes it look at once.
        Looked for when the webhook has come back, until none is left, and now and then for those refused when it was
        slow for a moment.
        """
        before, self._injects = self._injects, await self.webhook_answers()
        self._looks += 1
        if not self._injects or (before and not self._touched and self._looks % _LOOKS_BETWEEN_SWEEPS):
            return
        places = [("", MODEL_LABEL), ("", f"{INJECT_LABEL}={INJECT_ENABLED},!{MODEL_LABEL}")]
        places += [(namespace, f"!{MODEL_LABEL},{INJECT_LABEL}!={INJECT_ENABLED}") for namespace in sorted(protected)]
        backed_off: list[KubeObject] = []
        for namespace, selector in places:
            async for page in self._cluster.pages("ReplicaSet", namespace, selector):
                backed_off += [item for item in page if _backed_off(item)][: _MAX_TOUCHED - len(backed_off)]
        self._touched = bool(backed_off)
        for item in backed_off:
            change = {"metadata": {"annotations": {TOUCHED_ANNOTATION: rfc3339(self._clock())}}}
            try:
                await self._cluster.merge(item, change)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise


def _backed_off(replica_set: KubeObject) -> bool:
    """Whether its last pod was refused for the one reason that goes away when the webhook is back."""
    conditions = (replica_set.get("status") or {}).get("conditions") or ()
    told = (one.get("message", "") for one in conditions if (one["type"], one["status"]) == ("ReplicaFailure", "True"))
    return any(NEW_PODS in text and f"has no {CONTAINER_NAME}" in text for text in told)
