"""Reconciles policies: their status, and their own rules as ValidatingAdmissionPolicies."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from modelward.controller.apply import ensure
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import with_installation
from modelward.controller.queue import GoneError
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.policy_status import Examined, news, next_change, policy_status
from modelward.rules.admission_policy import custom_policies
from modelward.rules.judge import policy_name, rule_problems
from modelward.wording import one_line

COMPONENT = {"app.kubernetes.io/component": "custom-rules", "app.kubernetes.io/part-of": "modelward"}
_KINDS = ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")  # a binding goes before what it binds
_VALIDATION = re.compile(r"spec\.validations\[(\d+)\]\.(expression|messageExpression)")
_TYPES_CHECKED_SECONDS = 5.0  # what the API server's type checker takes; it runs beside the API server
_MAX_TEXT = 300


class _Fault(NamedTuple):
    """What the API server does not take of a rule: all of it, or its message alone."""

    message_alone: bool
    told: str


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
        self._untaken: dict[str, tuple[int, dict[int, _Fault]]] = {}
        self._told: dict[str, tuple[int, int]] = {}

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
        untaken, written = await self._enforce(policy)
        found = Examined(
            invalid=[*rule_problems(policy), *(fault.told for fault in untaken.values())],
            doubtful=await self._doubts(policy, untaken),
            governed=self._governed(),
            name=policy_name(policy),
            neighbours=len(await self._cluster.find(kind, namespace)) if namespace else 0,
        )
        now = self._clock()
        status = policy_status(policy, found, now)
        before = policy.get("status") or {}
        if status != before:
            dropped = {key: None for key in before if key not in status}
            await self._cluster.merge(policy, {"status": {**dropped, **status}}, "status")
            for item in news(policy, status, now):
                await self._recorder.record(policy, "Warning", item.reason, item.message)
        self._told[found.name] = (len(status["activeExceptions"]), len(found.invalid))
        changes = next_change(policy, now)
        again = [(changes - now).total_seconds() + 1] if changes else []
        return min([*again, *([_TYPES_CHECKED_SECONDS] if written else [])], default=None)

    async def sweep(self) -> None:
        """Delete the admission policies whose policy, or whose last rule, is gone."""
        policies = [
            *await self._cluster.find("ClusterDataPolicy"),
            *await self._cluster.find("DataPolicy"),
        ]
        names = {policy_name(policy) for policy in policies}
        self._told = {name: counts for name, counts in self._told.items() if name in names}
        self._untaken = {name: known for name, known in self._untaken.items() if name in names}
        wanted = {item["metadata"]["name"] for policy in policies for item in _compiled(policy, self._refused(policy))}
        for kind in _KINDS:
            for item in await self._cluster.find(kind, labels={**COMPONENT, MANAGED_BY_LABEL: MANAGER}):
                if item["metadata"]["name"] not in wanted:
                    await self._cluster.delete(item)

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        labelled = {f'{{policy="{name}"}}': counts for name, counts in self._told.items()}
        return {
            "modelward_exceptions_active": (
                "Exceptions of a policy that count now.",
                {label: active for label, (active, _) in labelled.items()},
            ),
            "modelward_policy_rules_invalid": (
                "Rules of a policy's own that cannot be enforced as they stand.",
                {label: invalid for label, (_, invalid) in labelled.items()},
            ),
        }

    async def _enforce(self, policy: KubeObject) -> tuple[dict[int, _Fault], bool]:
        """Apply the policy's own rules.

        Returns:
            What the API server does not take of a rule, by the rule's index; and whether anything was written.
        """
        untaken = dict(self._refused(policy))
        while items := _compiled(policy, untaken):
            try:
                written = [await ensure(self._cluster, await with_installation(self._cluster, item)) for item in items]
            except ApiError as error:
                more = _faults(policy, error, untaken)
                if error.status not in (400, 422) or not more:
                    raise
                untaken |= more
                self._untaken[policy_name(policy)] = (policy["metadata"].get("generation", 0), untaken)
            else:
                return untaken, any(written)
        if _is_news(policy) or untaken:
            await self.sweep()
        return untaken, False

    def _refused(self, policy: KubeObject) -> Mapping[int, _Fault]:
        """Return what was refused of this very generation: it is not offered to the API server again."""
        generation, known = self._untaken.get(policy_name(policy), (None, {}))
        return known if generation == policy["metadata"].get("generation", 0) else {}

    async def _doubts(self, policy: KubeObject, untaken: Mapping[int, _Fault]) -> list[str]:
        """Return what the API server's type checker, which knows the schema, says of the policy's own rules."""
        items = _compiled(policy, untaken)
        if not items:
            return []
        there = await self._cluster.get(items[0]["kind"], "", items[0]["metadata"]["name"]) or {}
        status = there.get("status") or {}
        if status.get("observedGeneration") != there.get("metadata", {}).get("generation"):
            return []
        told: dict[int, str] = {}
        for warning in (status.get("typeChecking") or {}).get("expressionWarnings") or ():
            for index, part in _rule_at(policy, warning["fieldRef"], untaken):
                said = f"{_named(policy, index, part)} is doubted by the type checker: {_first(warning['warning'])}"
                told.setdefault(index, said)
        return list(told.values())


def _compiled(policy: KubeObject, untaken: Mapping[int, _Fault]) -> list[KubeObject]:
    speechless = [index for index, fault in untaken.items() if fault.message_alone]
    return custom_policies(policy, [index for index in untaken if index not in speechless], speechless)


def _rule_at(policy: KubeObject, field: str, untaken: Mapping[int, _Fault]) -> list[tuple[int, str]]:
    """Return the index of the rule that a field of the admission policy was made from, and which part; or nothing."""
    place = _VALIDATION.search(field)
    count = len(policy["spec"].get("rules", ()))
    offered = [index for index in range(count) if index not in untaken or untaken[index].message_alone]
    if not place or int(place[1]) >= len(offered):
        return []
    return [(offered[int(place[1])], "expression" if place[2] == "expression" else "message")]


def _faults(policy: KubeObject, error: ApiError, before: Mapping[int, _Fault]) -> dict[int, _Fault]:
    """Return what the API server refused beside what it had refused before."""
    found: dict[int, _Fault] = {}
    for cause in error.causes:
        for index, part in _rule_at(policy, cause.get("field", ""), before):
            why = f"{_named(policy, index, part)} is not taken by the API server: {_first(cause.get('message', ''))}"
            if part == "expression":
                found[index] = _Fault(message_alone=False, told=f"{why}; the webhook and the controller alone judge it")
            elif index not in before:
                found.setdefault(index, _Fault(message_alone=True, told=f"{why}; it is enforced, without its message"))
    return found


def _named(policy: KubeObject, index: int, part: str) -> str:
    return f"spec.rules[{index}].{part} ({policy['spec']['rules'][index]['id']})"


def _first(message: str) -> str:
    """Return the first error that a compiler tells, without the text that it was given and the place within it."""
    _, found, error = message.partition("ERROR: ")
    text = error.split("\n", 1)[0] if found else message
    return one_line(re.sub(r"^<input>:\d+:\d+: ", "", text), _MAX_TEXT)


def _is_news(policy: KubeObject) -> bool:
    """Whether this generation was not seen before: rules taken out leave an admission policy behind."""
    return bool((policy.get("status") or {}).get("observedGeneration") != policy["metadata"].get("generation"))
