"""Reconciles policies: their status, and their own rules as ValidatingAdmissionPolicies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime

from modelward.controller.apply import ensure
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import WEBHOOK_CONFIGURATION
from modelward.controller.queue import GoneError
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.policy_status import next_expiry, policy_status
from modelward.rules.admission_policy import custom_policies
from modelward.rules.judge import policy_name, rule_problems

COMPONENT = {"app.kubernetes.io/component": "custom-rules", "app.kubernetes.io/part-of": "modelward"}
_KINDS = ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")  # a binding goes before what it binds


class Policies:
    """Reconciles one policy at a time, and sweeps up after those that are gone."""

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        governed: Callable[[], Collection[Mapping[str, int]]],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._governed = governed
        self._clock = clock

    async def reconcile(self, kind: str, namespace: str, name: str) -> float | None:
        """Bring a policy's own rules about and tell its status; return in how many seconds to look again.

        Raises:
            GoneError: there is no such policy any more.
            ApiError: the API server refused or did not answer; to be tried again.
        """
        policy = await self._cluster.get(kind, namespace, name)
        if policy is None:
            await self.sweep()
            raise GoneError
        problems = rule_problems(policy) or await self._enforce(policy)
        now = self._clock()
        status = policy_status(policy, problems, self._governed(), policy_name(policy), now)
        before = policy.get("status") or {}
        if status != before:
            await self._cluster.merge(policy, {"status": status}, "status")
            if problems and _reason(before) != "InvalidRule":
                await self._recorder.record(policy, "Warning", "InvalidRule", problems[0])
        ends = next_expiry(policy, now)
        return (ends - now).total_seconds() + 1 if ends else None

    async def sweep(self) -> None:
        """Delete the admission policies whose policy, or whose last rule, is gone."""
        policies = [
            *await self._cluster.find("ClusterDataPolicy"),
            *await self._cluster.find("DataPolicy"),
        ]
        wanted = {item["metadata"]["name"] for policy in policies for item in custom_policies(policy)}
        for kind in _KINDS:
            for item in await self._cluster.find(kind, labels={**COMPONENT, MANAGED_BY_LABEL: MANAGER}):
                if item["metadata"]["name"] not in wanted:
                    await self._cluster.delete(item)

    async def _enforce(self, policy: KubeObject) -> list[str]:
        """Apply the policy's own rules; return why the API server does not take them."""
        items = custom_policies(policy)
        if not items:
            if _is_news(policy):
                await self.sweep()
            return []
        # They go with the installation, not to refuse what nobody is there to explain any more.
        installation = await self._cluster.get("MutatingWebhookConfiguration", "", WEBHOOK_CONFIGURATION)
        try:
            for item in items:
                await ensure(self._cluster, _managed(item, installation))
        except ApiError as error:
            if error.status in (400, 422):
                return [f"spec.rules: the API server does not take them: {error.message}"]
            raise
        return []


def _managed(item: KubeObject, owner: KubeObject | None) -> KubeObject:
    metadata = {**item["metadata"], "labels": {**item["metadata"].get("labels", {}), MANAGED_BY_LABEL: MANAGER}}
    if owner is not None:
        reference = {key: owner["metadata"][key] for key in ("name", "uid")}
        metadata["ownerReferences"] = [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], **reference}]
    return {**item, "metadata": metadata}


def _is_news(policy: KubeObject) -> bool:
    """Whether this generation was not seen before: rules taken out leave an admission policy behind."""
    return bool((policy.get("status") or {}).get("observedGeneration") != policy["metadata"].get("generation"))


def _reason(status: KubeObject) -> str:
    return next((item["reason"] for item in status.get("conditions", ()) if item["type"] == "Ready"), "")
