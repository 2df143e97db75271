"""A model with all that bears on it, read from the API server: policies, what they say of it, and what it refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelward.api.lineage import places
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import references_of
from modelward.api.validate import canonical
from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installed
from modelward.controller.ledger import Ledger
from modelward.controller.security_tests import SecurityTests
from modelward.controller.targets import Found, Targets
from modelward.planner.audit import key_places
from modelward.planner.deployment import pod_spec
from modelward.planner.names import KubeObject, namespace_of
from modelward.planner.observation import Obstacle
from modelward.planner.readiness import observations
from modelward.planner.references import References
from modelward.planner.report import judged
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.planner.signatures import Signatures, signatures, trust_names
from modelward.planner.target import pods_of
from modelward.planner.tested import LastTest
from modelward.planner.unsupported import unsupported
from modelward.rules.judge import Review, Verdict, judge, judge_readiness, policy_name


@dataclass(frozen=True)
class Judgement:
    """What the policies say of a model's manifest.

    Attributes:
        review: what was judged.
        verdict: what was found.
        policies: those that govern it.
    """

    review: Review
    verdict: Verdict
    policies: tuple[KubeObject, ...]


@dataclass(frozen=True)
class Case:
    """A model with all that bears on it: what its policies say, those that govern it, and what it refers to."""

    md: ModelDeployment
    raw: KubeObject
    verdict: Verdict
    policies: tuple[KubeObject, ...]
    references: References
    found: Found
    readiness: Verdict
    signatures: Signatures
    test: LastTest

    @property
    def obstacle(self) -> Obstacle | None:
        """What keeps the model from being made or changed."""
        fields = unsupported(self.md, self.policies)
        if fields:
            return Obstacle("NotSupported", f"declared, and not honoured by this version: {', '.join(fields)}")
        if self.verdict.violations:
            return Obstacle("PolicyViolation", "; ".join(item.line for item in self.verdict.violations[:5]))
        missing = self.references.missing(references_of(self.md))
        if missing:
            lacks = "; ".join(map(self.references.lack, missing[:5]))
            return Obstacle("ReferenceMissing", f"{lacks}: create it in the same namespace")
        return self.found.obstacle

    @property
    def to_be_stopped(self) -> bool:
        """Whether a policy that is broken asks that what runs be stopped."""
        broken = {violation.policy for violation in self.verdict.violations}
        stopping = (one for one in self.policies if one["spec"].get("onViolation") == "Stop")
        return any(policy_name(policy) in broken for policy in stopping)


class Cases:
    """Reads what bears on one ModelDeployment at a time, anew each time."""

    def __init__(
        self,
        cluster: Cluster,
        installed: Callable[[], Installed],
        clock: Callable[[], datetime],
        ledger: Ledger,
        targets: Targets,
        tests: SecurityTests,
    ) -> None:
        self._cluster = cluster
        self._installed = installed
        self._clock = clock
        self._ledger = ledger
        self._targets = targets
        self._tests = tests

    async def judgement(self, md: ModelDeployment) -> Judgement:
        """Judge by policies read now: those that the API server judged by may be older than the object."""
        namespace = namespace_of(md)
        cluster_wide, namespaced, place = await asyncio.gather(
            self._cluster.find("ClusterDataPolicy"),
            self._cluster.find("DataPolicy", namespace),
            self._cluster.get("Namespace", "", namespace),
        )
        policies = [*cluster_wide, *namespaced]
        review = Review(
            object=canonical(md),
            namespace=namespace,
            namespace_labels=((place or {}).get("metadata") or {}).get("labels") or {},
            now=self._clock(),
        )
        verdict = judge(review, policies)
        governing = tuple(one for one in policies if policy_name(one) in verdict.policies)
        return Judgement(review, verdict, governing)

    async def of(self, md: ModelDeployment, raw: KubeObject) -> Case:
        """Read and judge all that bears on a model; what is said of it is kept in the ledger.

        Args:
            md: the ModelDeployment.
            raw: the same as the API server has it.
        """
        judged_now = await self.judgement(md)
        review, verdict, governing = judged_now.review, judged_now.verdict, judged_now.policies
        found = await self._targets.look_up(md, self._installed().settings)
        references = await self._references(md, governing)
        image = md.spec.model.image if md.spec.model else ""
        # In a thread: others must not wait while what a model's owner has written is tried with every key.
        signed = await asyncio.to_thread(signatures, md.metadata.annotations, governing, references, review.now, image)
        pods = _pods(md, found)
        test = await self._tests.look(md, raw, governing, references, pods)
        seen = observations(raw, pods, review.now, signed.observed(), test.standing)
        readiness = judge_readiness(review, governing, seen)
        said = judged(md.metadata.name, review.namespace, verdict + readiness, governing, review.now, seen)
        self._ledger.put(review.namespace, md.metadata.name, said)
        return Case(md, raw, verdict, governing, references, found, readiness, signed, test)

    async def _references(self, md: ModelDeployment, policies: Sequence[KubeObject]) -> References:
        wanted = {(reference.kind, reference.name) for reference in references_of(md)}
        wanted |= set(places(md.metadata.annotations)) if trust_names(policies) else set()
        found: dict[str, dict[str, Any]] = {"ConfigMap": {}, "Secret": {}}
        for kind, name in sorted(wanted):
            item = await self._cluster.get(kind, namespace_of(md), name)
            if item is not None:
                found[kind][name] = item
        fields = (one for policy in policies for one in policy["spec"].get("fields", ()))
        return References(
            found["ConfigMap"],
            found["Secret"],
            self._installed().authority.bundle.decode(),
            await self._system_maps({one["hierarchy"] for one in fields if one.get("hierarchy")}),
            trust=await self._system_maps(trust_names(policies)),
            audit=await self._audit_keys(policies),
        )

    async def _audit_keys(self, policies: Sequence[KubeObject]) -> dict[tuple[str, str], KubeObject]:
        found = {place: await self._cluster.get("ConfigMap", *place) for place in key_places(policies)}
        return {place: item for place, item in found.items() if item is not None}

    async def _system_maps(self, names: Collection[str]) -> dict[str, KubeObject]:
        found = {name: await self._cluster.get("ConfigMap", SYSTEM_NAMESPACE, name) for name in sorted(names)}
        return {name: item for name, item in found.items() if item is not None}


def _pods(md: ModelDeployment, found: Found) -> list[KubeObject]:
    """Return the specs of the pod templates that a model runs by: modelward's own, or those of its target."""
    if md.spec.model:
        return [pod_spec(md, md.spec.model)]
    templates = pods_of(found.item) if found.item else ()
    return [template["spec"] for template in templates if isinstance(template.get("spec"), dict)]
