"""The OpenReports `Report` of a namespace (openreports.io/v1alpha1): what its policies say of its models, in 4 KiB.

One object a namespace, whose size depends neither on how many models there are nor on how often they were judged:
results are aggregated by policy and rule, the gravest first. When not all of them fit, the last result says how many
are left out; `summary` counts every one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

from modelward import wording
from modelward.planner.names import KubeObject
from modelward.planner.policy_status import active_exceptions
from modelward.rules.judge import Verdict, Violation, policy_name
from modelward.rules.prepared import prepare, rules_at
from modelward.wording import one_line

API_VERSION = "openreports.io/v1alpha1"
NAME = "modelward"
MAX_BYTES = 4096
_ADDED_BYTES = 1280  # what is put to it: owner, digest, uid, times, who manages which field
_NAMED = 3  # models that a result names
_GRAVITY = {"fail": 0, "error": 1, "warn": 2, "high": 0, "medium": 1, "low": 2}

Result = Literal["fail", "error", "warn"]


class Broken(NamedTuple):
    """A rule that a model breaks: of which policy, and whether that refuses it or only warns."""

    policy: str
    rule: str
    result: Result
    severity: str
    title: str


@dataclass(frozen=True)
class Judged:
    """What the policies say of one ModelDeployment.

    Attributes:
        policies: those that govern it, as `judge.policy_name` names them.
        broken: the rules that it breaks, once for each policy that asks.
        passed: how many rules that were asked of it hold, counted once for each policy that asks.
        excused: how many were not asked of it thanks to an exception.
    """

    policies: tuple[str, ...] = ()
    broken: tuple[Broken, ...] = ()
    passed: int = 0
    excused: int = 0

    @cached_property
    def violations(self) -> dict[str, int]:
        """How many rules of each policy that governs the model it breaks."""
        return {name: sum(one.policy == name for one in self.broken) for name in self.policies}


UNREADABLE = Judged(broken=(Broken("modelward", "SCHEMA", "error", "high", "not a ModelDeployment of this version"),))
"""What is said of an object that this version cannot read, and so cannot judge."""


def judged(
    name: str,
    namespace: str,
    verdict: Verdict,
    governing: Iterable[KubeObject],
    now: datetime,
    observed: Collection[str] = (),
) -> Judged:
    """Sum up a verdict.

    Args:
        name: the ModelDeployment.
        namespace: where it is.
        verdict: what was said of it, at admission and at readiness.
        governing: the policies that govern it.
        now: the time, for exceptions.
        observed: what was seen of it, by the names of `catalogue.Observation`: the rules of readiness that were judged.
    """
    enforced = [_broken(violation, "fail") for violation in verdict.violations]
    others = [_broken(violation, "warn") for violation in (*verdict.warnings, *verdict.audits)]
    broken = tuple(dict.fromkeys((*enforced, *others)))
    passed = excused = 0
    for policy in governing:
        rules, of = _asked(policy, observed), policy_name(policy)
        let_off = rules & _excused(policy, name, namespace, now)
        excused += len(let_off)
        passed += len(rules - let_off - {one.rule for one in broken if one.policy == of})
    return Judged(verdict.policies, broken, passed, excused)


def report(namespace: str, models: Mapping[str, Judged], unwatched: int = 0) -> KubeObject:
    """Return the Report of a namespace.

    Args:
        namespace: where it is to be.
        models: what was said of each ModelDeployment in it, by name.
        unwatched: how many pods in it should be watched by a sidecar and are not; each counts as a failure.
    """
    results = [*_unwatched(unwatched), *(_result(one, names) for one, names in _groups(models))]
    everything = Counter(one.result for model in models.values() for one in model.broken)
    out: KubeObject = {
        "apiVersion": API_VERSION,
        "kind": "Report",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/part-of": "modelward", "app.kubernetes.io/component": "report"},
        },
        "source": "modelward",
        "scope": {"apiVersion": "v1", "kind": "Namespace", "name": namespace},
        "summary": {
            "pass": sum(model.passed for model in models.values()),
            "fail": everything["fail"] + unwatched,
            "warn": everything["warn"],
            "error": everything["error"],
            "skip": sum(model.excused for model in models.values()),
        },
    }
    for listed in range(len(results), -1, -1):
        out["results"] = results[:listed] + _left_out(results[listed:])
        if _size(out) <= MAX_BYTES - _ADDED_BYTES:
            break
    return out


def _broken(violation: Violation, result: Result) -> Broken:
    return Broken(violation.policy, violation.rule, result, violation.severity, violation.title)


def _asked(policy: KubeObject, observed: Collection[str]) -> frozenset[str]:
    """Return the rules that a policy asks for: of the catalogue, and its own."""
    own = (custom["id"] for custom in policy["spec"].get("rules", ()))
    asking = {key: value for key, value in policy["spec"].items() if key not in ("rules", "exceptions", "selector")}
    return frozenset(own) | _of_catalogue(json.dumps([policy["kind"], asking], sort_keys=True), frozenset(observed))


@lru_cache(maxsize=256)  # many models are governed by few policies
def _of_catalogue(policy: str, observed: frozenset[str]) -> frozenset[str]:
    kind, spec = json.loads(policy)
    rules = [*rules_at("admission"), *rules_at("readiness", observed)]
    return frozenset(rule.id for rule in prepare({"kind": kind, "spec": spec}, rules).rules)


def _excused(policy: KubeObject, name: str, namespace: str, now: datetime) -> frozenset[str]:
    cluster = policy["kind"] == "ClusterDataPolicy"
    return frozenset(
        rule
        for exception in active_exceptions(policy, now)
        if name in exception.get("names", ()) and (not cluster or namespace in exception.get("namespaces", ()))
        for rule in exception.get("rules", ())
    )


def _groups(models: Mapping[str, Judged]) -> list[tuple[Broken, list[str]]]:
    """Return each broken rule with the models that break it, the gravest first."""
    groups: dict[Broken, list[str]] = {}
    for name in sorted(models):
        for one in models[name].broken:
            groups.setdefault(one, []).append(name)
    return sorted(
        groups.items(),
        key=lambda item: (_GRAVITY[item[0].result], _GRAVITY.get(item[0].severity, 3), -len(item[1]), item[0]),
    )


def _result(one: Broken, names: Sequence[str]) -> dict[str, Any]:
    return {
        "policy": one.policy,
        "rule": one.rule,
        "result": one.result,
        "severity": one.severity,
        "scored": one.result != "warn",
        "message": one_line(f"{one.title}: not so for {wording.names(names, _NAMED)}", 256),
        "properties": {"count": str(len(names))},
    }


def _unwatched(pods: int) -> list[dict[str, Any]]:
    if not pods:
        return []
    message = "pods run that no sidecar watches: the Events SidecarMissing name them"
    head = {"policy": "modelward", "rule": "SIDECAR-MISSING", "result": "fail", "severity": "high", "scored": True}
    return [{**head, "message": message, "properties": {"count": str(pods)}}]


def _left_out(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if not results:
        return []
    count = sum(int(result["properties"]["count"]) for result in results)
    worst = min((result["result"] for result in results), key=lambda result: _GRAVITY[result])
    message = (
        f"{len(results)} more rules, broken {count} times, are not listed here; summary counts them, and"
        " `kubectl get modeldeployments -o yaml` tells them"
    )
    properties = {"rules": str(len(results)), "count": str(count)}
    return [
        {"policy": "modelward", "rule": "NOT-LISTED", "result": worst, "message": message, "properties": properties}
    ]


def _size(item: KubeObject) -> int:
    return len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode())
