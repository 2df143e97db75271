"""Each model's verdict by framework, by the evaluator that `check`, the webhook and the controller share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from modelward.api.lineage import problems
from modelward.reporting.document import OUTCOMES, Finding, Outcome, Place, Verdicts
from modelward.reporting.sources import Object, said
from modelward.rules.catalogue import Rule, catalogue, frameworks, place_title
from modelward.rules.excused import excused
from modelward.rules.judge import Review, Verdict, Violation, judge, judge_readiness, merged, policy_name
from modelward.rules.prepared import PreparedPolicy, prepare

_MAX_FINDINGS = 64
_LEVELS = (("violation", "violations"), ("warning", "warnings"), ("audit", "audits"))


class Bench:
    """The policies, made ready to judge many models."""

    def __init__(self, policies: Sequence[Object], now: datetime) -> None:
        self._now = now
        self._policies = [dict(policy) for policy in policies]
        later = [rule for rule in catalogue() if rule.enforced_at == "readiness"]
        self._later = later
        self._at_admission = [prepare(policy) for policy in self._policies]
        self._asked = {
            policy_name(one.policy): {rule.id for rule in (*one.rules, *prepare(one.policy, later).rules)}
            for one in self._at_admission
        }
        self._at_readiness: dict[tuple[str, ...], list[PreparedPolicy]] = {}

    def judge(self, model: Object, labels: Mapping[str, str] | None) -> Verdicts:
        """Judge a model.

        Args:
            model: as the API server stores it, with its status.
            labels: those of its namespace; None where they are not known: the cluster's policies that its status names
                then govern it, whatever namespaces they select.
        """
        namespace = model["metadata"].get("namespace") or "default"
        known = {**(labels or {}), "kubernetes.io/metadata.name": namespace}
        review = Review({**model, "metadata": dict(model["metadata"])}, None, namespace, known, self._now)
        at_admission = self._at_admission if labels is not None else self._named(model)
        first = judge(review, at_admission)
        observed = _observed(model)
        verdict = first + judge_readiness(review, self._prepared(observed, first), observed)
        findings = [
            _finding(level, violation) for level, part in _LEVELS for violation in merged(getattr(verdict, part))
        ]
        told = {one.rule for one in findings}
        findings += [one for one in _told_by_status(model) if one.rule not in told]
        findings += self._excused(review, first)
        return Verdicts(
            policies=first.policies,
            findings=tuple(findings[:_MAX_FINDINGS]),
            frameworks=self._by_framework(model, first, findings, observed),
        )

    def _named(self, model: Object) -> list[PreparedPolicy]:
        names = set((model.get("status") or {}).get("policies") or ())
        kept = []
        for one in self._at_admission:
            if one.policy["kind"] == "DataPolicy" or policy_name(one.policy) in names:
                spec = {key: value for key, value in one.policy["spec"].items() if key != "namespaceSelector"}
                kept.append(prepare({**one.policy, "spec": spec}) if len(spec) < len(one.policy["spec"]) else one)
        return kept

    def _prepared(self, observed: Mapping[str, Any], first: Verdict) -> list[PreparedPolicy]:
        key = tuple(sorted(observed))
        if key not in self._at_readiness:
            rules = [rule for rule in self._later if rule.observes in (None, *observed)]
            self._at_readiness[key] = [prepare(policy, rules) for policy in self._policies]
        return [one for one in self._at_readiness[key] if policy_name(one.policy) in first.policies]

    def _excused(self, review: Review, verdict: Verdict) -> list[Finding]:
        name = review.object["metadata"]["name"]
        concerned = [
            policy
            for policy in self._policies
            if policy_name(policy) in verdict.policies
            and any(name in one.get("names", ()) for one in policy["spec"].get("exceptions", ()))
        ]
        return [
            _finding("excused", one.violation, f"until {one.expires}, approved by {one.approved_by}: {one.reason}")
            for one in excused(review, concerned, verdict)
        ]

    def _by_framework(
        self, model: Object, verdict: Verdict, findings: Sequence[Finding], observed: Mapping[str, Any]
    ) -> dict[str, dict[Outcome, tuple[str, ...]]]:
        asked = set().union(*(self._asked[name] for name in verdict.policies))
        broken = {one.rule for one in findings if one.level != "excused"}
        let_go = {one.rule for one in findings if one.level == "excused"}
        judged = _judged_by_the_controller(model)

        def outcome(rule: Rule) -> Outcome:
            if rule.id in broken:
                return "fails"
            if rule.id in let_go:
                return "excused"
            if rule.id not in asked:
                return "notAsked"
            seen = rule.enforced_at == "admission" or rule.observes in (None, *observed) or judged
            return "passes" if seen else "unseen"

        found: dict[str, dict[Outcome, list[str]]] = {name: {kind: [] for kind in OUTCOMES} for name in frameworks()}
        for rule in catalogue():
            kind = outcome(rule)
            for name in dict.fromkeys(place.partition("-")[0] for place in rule.frameworks):
                found[name][kind].append(rule.id)
        return {name: {kind: tuple(rules) for kind, rules in kinds.items() if rules} for name, kinds in found.items()}


def places(verdicts: Sequence[Verdicts]) -> tuple[Place, ...]:
    """Return each framework's places with how many models pass all that is asked there, fail any, or are not asked."""
    told = []
    outcomes = [
        {rule: kind for kinds in one.frameworks.values() for kind, rules in kinds.items() for rule in rules}
        for one in verdicts
    ]
    for framework, rest in ((name, place) for name, one in frameworks().items() for place in one.places):
        place = f"{framework}-{rest}"
        rules = tuple(rule.id for rule in catalogue() if place in rule.frameworks)
        failing = passing = 0
        for one in outcomes:
            kinds = {one[rule] for rule in rules}
            failing += "fails" in kinds
            passing += "fails" not in kinds and not kinds <= {"notAsked"}
        told.append(
            Place(
                framework=framework,
                place=rest,
                title=place_title(place),
                rules=rules,
                passing=passing,
                failing=failing,
                not_asked=len(verdicts) - passing - failing,
            )
        )
    return tuple(told)


def _observed(model: Object) -> dict[str, Any]:
    """What the model itself shows of what rules at readiness ask."""
    return {"lineage": {"problems": problems(model["metadata"].get("annotations") or {})}}


def _judged_by_the_controller(model: Object) -> bool:
    """Whether the controller has judged this very generation by what it saw of the model's pods."""
    status = model.get("status") or {}
    generation = model["metadata"].get("generation")
    return bool(generation and status.get("observedGeneration") == generation and status.get("replicas"))


def _finding(level: Any, violation: Violation, excuse: str = "") -> Finding:
    return Finding(
        level=level,
        rule=violation.rule,
        title=violation.title,
        severity=violation.severity,
        policy=violation.policy,
        field=said(violation.field),
        found=said(violation.found),
        fix=said(violation.fix),
        excuse=said(excuse),
    )


def _told_by_status(model: Object) -> list[Finding]:
    """What the controller found that only it can see."""
    titles = {rule.id: rule for rule in catalogue() if rule.enforced_at == "readiness"}
    told = []
    for one in (model.get("status") or {}).get("violations") or ():
        rule = titles.get(one.get("rule", ""))
        if rule is not None:
            found, _, fix = str(one.get("message", "")).partition(". Fix: ")
            told.append(
                Finding(
                    level="violation",
                    rule=rule.id,
                    title=rule.title,
                    severity=rule.severity,
                    policy=said(one.get("policy", "")),
                    field=said(one.get("field", "")),
                    found=said(found),
                    fix=said(fix),
                )
            )
    return told
