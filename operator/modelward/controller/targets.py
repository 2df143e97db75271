"""Protects workloads that run already: looks them up, marks their pods, watches them, and gives them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.observe import observe
from modelward.planner.drift import covers
from modelward.planner.exposure import leading_past, leading_to
from modelward.planner.names import KubeObject, namespace_of
from modelward.planner.observation import Obstacle
from modelward.planner.plan import Settings
from modelward.planner.rollout import rollout, sharing
from modelward.planner.sidecar import MODEL_LABEL
from modelward.planner.target import KINDS, Target, claimant, missing, pod_selector, pods_of, target
from modelward.planner.target_marks import FIELD_MANAGER, application, applied_by_lists, held, operations


@dataclass(frozen=True)
class Found:
    """What was found of the workload that `spec.targetRef` names.

    Attributes:
        item: the workload, None where it is not there.
        target: how it is to be protected, None where something stands in the way.
        obstacle: what stands in the way.
        pods: its pods, marked or not.
        services: all of the namespace.
    """

    item: KubeObject | None = None
    target: Target | None = None
    obstacle: Obstacle | None = None
    pods: tuple[KubeObject, ...] = ()
    services: tuple[KubeObject, ...] = ()

    @property
    def protected(self) -> bool:
        """Whether its pods are marked already."""
        return self.item is not None and held(self.item)

    @property
    def described(self) -> list[KubeObject]:
        """Its pods as they are before the sidecar takes the place of the port.

        What a Service chooses are labels of pods, and a framework adds labels of its own to those of the template.
        """
        templates = pods_of(self.item) if self.item else []
        return [*templates, *({**templates[0], "metadata": pod["metadata"]} for pod in self.pods[:1])]

    @property
    def replicas(self) -> int | None:
        """Among how many pods a rate limit is divided while the server that counts for all of them is away."""
        return sharing(self.item, self.pods) if self.item and self.target else None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names of the Services of others by which its sidecar is called."""
        return leading_to(self.services, self.described, self.target.ports) if self.target else ()


class Targets:
    """The workloads of the cluster, as far as ModelDeployments name them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def look_up(self, md: ModelDeployment, settings: Settings) -> Found:
        """Return what a ModelDeployment's `spec.targetRef` names; nothing where it has none.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        ref = md.spec.target_ref
        if ref is None:
            return Found()
        item = await self._cluster.get(ref.kind, namespace_of(md), ref.name)
        if item is None or "deletionTimestamp" in item["metadata"]:
            return Found(obstacle=missing(ref))
        rival = claimant(item)
        if rival not in ("", md.metadata.name) and await self._claims(namespace_of(md), rival, item):
            said = f"{ref.kind} {ref.name} is protected by ModelDeployment {rival} already: delete one of the two"
            return Found(item, obstacle=Obstacle("TargetTaken", said))
        result = target(md, ref, item, settings)
        if isinstance(result, Obstacle):
            return Found(item, obstacle=result)
        pods = await self._pods(item, namespace_of(md), md.metadata.name)
        return Found(item, result, None, tuple(pods), tuple(await self._cluster.find("Service", namespace_of(md))))

    async def protect(self, found: Target) -> bool:
        """Mark the pods of a workload; return whether anything was written."""
        return await self._mark(found.item, found.labels)

    async def seen(self, md: ModelDeployment, found: Found, settings: Settings, now: datetime) -> dict[str, Any]:
        """Return what is to be seen of a workload, by the names of `planner.observation.Observation`."""
        item = found.item
        if item is None or found.target is None:
            return {}
        observed = await observe(found.pods, found.target.ports, settings, now)
        return {
            "target": rollout(item, found.pods),
            "target_name": {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": item["metadata"]["name"]},
            "selector": pod_selector(item, md.metadata.name),
            "waiting": observed.waiting,
            "unwatched": observed.unwatched,
            "probed": observed.probed,
            "reachable": observed.reachable,
            "past": leading_past(found.services, found.described, found.target.ports),
        }

    async def release(self, namespace: str, model: str) -> None:
        """Give back every workload that was protected by a ModelDeployment which is gone, or names it no more."""
        for kind in KINDS:
            for item in await self._marked(kind, namespace, model):
                await self._mark(item, {})

    async def release_other(self, namespace: str, model: str, named: dict[str, str]) -> None:
        """Give back the one workload that was protected before `spec.targetRef` named another."""
        item = await self._cluster.get(named["kind"], namespace, named["name"])
        if item is not None and held(item) and claimant(item) == model:
            await self._mark(item, {})

    async def _mark(self, item: KubeObject, labels: dict[str, str] | Any) -> bool:
        if applied_by_lists(item):
            changes = operations(item, labels)
            if changes:
                await self._cluster.json_patch(item, changes, FIELD_MANAGER)
            return bool(changes)
        wanted = application(item, labels)
        if labels and covers(item, wanted):
            return False
        await self._cluster.apply(wanted, FIELD_MANAGER)
        return True

    async def _claims(self, namespace: str, model: str, item: KubeObject) -> bool:
        """Whether the ModelDeployment that a workload is marked for is there, and names it."""
        raw = await self._cluster.get("ModelDeployment", namespace, model)
        ref = (raw or {}).get("spec", {}).get("targetRef") or {}
        return bool(ref.get("kind") == item["kind"] and ref.get("name") == item["metadata"]["name"])

    async def _marked(self, kind: str, namespace: str, model: str) -> Sequence[KubeObject]:
        try:
            found = await self._cluster.find(kind, namespace, {MODEL_LABEL: model})
        except ApiError as error:
            if error.status == 404:  # the framework is not installed
                return ()
            raise
        return [item for item in found if held(item)]

    async def _pods(self, item: KubeObject, namespace: str, model: str) -> list[KubeObject]:
        selector = pod_selector(item, model)
        return await self._cluster.find("Pod", namespace, selector=selector) if selector else []
