"""The verdict on a ModelDeployment: every rule of every policy that governs it, by the very expressions that the API
server evaluates.

`modelward check`, the webhook and the controller all call `judge`; `judge_readiness` judges by the rules that need to
have seen the model run. An expression that cannot be evaluated is a violation, never a pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from modelward.api.expression import Activation, CelError, Expression
from modelward.api.printable import printable
from modelward.rules import scope
from modelward.rules.catalogue import EnforcedAt, Rule, catalogue

MAX_LINE = 400
MAX_FOUND = 160
MAX_DENIAL = 5 * 1024


@dataclass(frozen=True)
class Review:
    """A ModelDeployment that is to be judged.

    Attributes:
        object: the object as the API server would store it (defaults applied).
        old: what it replaces, or None for a new one.
        namespace: where it is.
        namespace_labels: the labels of that namespace.
        now: the time, for exceptions.
    """

    object: dict[str, Any]
    old: dict[str, Any] | None = None
    namespace: str = "default"
    namespace_labels: dict[str, str] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold: which, who asks, where, what was found, how to mend it."""

    rule: str
    title: str
    severity: str
    policy: str
    field: str
    found: str
    fix: str

    @property
    def line(self) -> str:
        """The violation on one line, of bounded length."""
        text = f"{self.rule} {self.field}: {self.found}. Fix: {self.fix} (asked by {self.policy})"
        text = " ".join(text.split())
        return text if len(text) <= MAX_LINE else text[: MAX_LINE - 3] + "..."


@dataclass(frozen=True)
class Verdict:
    """What the policies say, split by how they are enforced."""

    violations: tuple[Violation, ...] = ()
    warnings: tuple[Violation, ...] = ()
    audits: tuple[Violation, ...] = ()
    policies: tuple[str, ...] = ()

    @property
    def everything(self) -> tuple[Violation, ...]:
        """All violations, however enforced."""
        return self.violations + self.warnings + self.audits

    def __add__(self, other: Verdict) -> Verdict:
        """Return both verdicts as one, each policy named once."""
        return Verdict(
            self.violations + other.violations,
            self.warnings + other.warnings,
            self.audits + other.audits,
            tuple(dict.fromkeys(self.policies + other.policies)),
        )


@lru_cache(maxsize=512)
def _user_expression(text: str) -> Expression:
    return Expression(text)  # a policy owner's; bounded, unlike our own


def policy_name(policy: dict[str, Any]) -> str:
    """Return `Kind/name`, or `Kind/namespace/name`, of a policy."""
    metadata = policy["metadata"]
    namespace = metadata.get("namespace")
    middle = f"{namespace}/" if policy["kind"] == "DataPolicy" and namespace else ""
    return f"{policy['kind']}/{middle}{metadata['name']}"


def judge(review: Review, policies: Sequence[dict[str, Any]]) -> Verdict:
    """Judge an object by the rules that are enforced at admission, of every policy that governs it.

    Args:
        review: the object and its surroundings.
        policies: DataPolicies and ClusterDataPolicies as the API server stores them.
    """
    return _judged(review, policies, "admission", {})


def judge_readiness(review: Review, policies: Sequence[dict[str, Any]], observed: Mapping[str, Any]) -> Verdict:
    """Judge an object by the rules that are enforced at readiness, as far as what they need was seen.

    Args:
        review: the object and its surroundings.
        policies: DataPolicies and ClusterDataPolicies as the API server stores them.
        observed: what was seen, by the names of `catalogue.Observation`; a rule that needs another is left out.
    """
    return _judged(review, policies, "readiness", observed)


def _judged(
    review: Review, policies: Sequence[dict[str, Any]], stage: EnforcedAt, observed: Mapping[str, Any]
) -> Verdict:
    rules = [rule for rule in catalogue() if rule.enforced_at == stage and rule.observes in (None, *observed)]
    base = {
        "observed": dict(observed),
        "object": _with_creation_time(review),
        "oldObject": review.old,
        "namespaceObject": {"metadata": {"name": review.namespace, "labels": review.namespace_labels}},
        "request": {"namespace": review.namespace, "operation": "CREATE" if review.old is None else "UPDATE"},
    }
    found: dict[str, list[Violation]] = {"Enforce": [], "Warn": [], "Audit": []}
    governing = []
    for policy in policies:
        if policy["kind"] == "DataPolicy" and policy["metadata"].get("namespace") != review.namespace:
            continue
        data = {**base, "params": policy}
        if not _governs(policy, data):
            continue
        governing.append(policy_name(policy))
        custom = policy["spec"].get("rules", ()) if stage == "admission" else ()
        found[policy["spec"].get("enforcement", "Enforce")].extend(_violations(policy, data, rules, custom))
    return Verdict(tuple(found["Enforce"]), tuple(found["Warn"]), tuple(found["Audit"]), tuple(governing))


def _with_creation_time(review: Review) -> dict[str, Any]:
    if review.old is not None:
        return review.object
    now = review.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**review.object, "metadata": {**review.object["metadata"], "creationTimestamp": now}}


def _governs(policy: dict[str, Any], data: dict[str, Any]) -> bool:
    conditions = [scope.NOT_BEING_DELETED, scope.CHANGED, scope.SELECTED]
    if policy["kind"] == "ClusterDataPolicy":
        conditions.append(scope.NAMESPACE_SELECTED)
    activation = Activation(data)
    return all(Expression.compiled(condition).holds(activation) for condition in conditions)


def _violations(
    policy: dict[str, Any], data: dict[str, Any], rules: Sequence[Rule], custom: Sequence[dict[str, Any]]
) -> Iterator[Violation]:
    excused = scope.excused_rules(cluster=policy["kind"] == "ClusterDataPolicy")
    try:
        lists: list[list[str]] = Expression.compiled(excused).value(data)
    except CelError:
        lists = []  # an exception that cannot be read excuses nothing
    excused_ids = {rule_id for ids in lists for rule_id in ids}
    activation = Activation(data)
    name = policy_name(policy)
    for rule in rules:
        if rule.id not in excused_ids and not _passes(rule, activation):
            found = _found(Expression.compiled(rule.message), activation)
            yield Violation(rule.id, rule.title, rule.severity, name, rule.field, found, rule.fix)
    for own in custom:
        if own["id"] not in excused_ids:
            yield from _custom_violations(own, activation, name)


def _passes(rule: Rule, activation: Activation) -> bool:
    try:
        applies = Expression.compiled(rule.applies).holds(activation)
        return not applies or Expression.compiled(rule.expression).holds(activation)
    except CelError:
        return False


def _found(message: Expression, activation: Activation) -> str:
    try:
        text = " ".join(message.text_of(activation).split())
    except CelError:
        return "what was found cannot be shown"
    text = printable(text[: MAX_FOUND + 1])
    return text if len(text) <= MAX_FOUND else text[: MAX_FOUND - 3] + "..."


def _custom_violations(custom: dict[str, Any], activation: Activation, policy: str) -> Iterator[Violation]:
    try:
        if _user_expression(custom["expression"]).holds(activation):
            return
        found = _found(_user_expression(custom["message"]), activation)
    except CelError as error:
        found = f"the rule could not be evaluated ({error})"
    yield Violation(custom["id"], custom["id"], "medium", policy, "spec", found, custom.get("fix", ""))


def merged(violations: Sequence[Violation]) -> tuple[Violation, ...]:
    """Return each violation once, however many policies ask for it; `policy` names them all."""
    grouped: dict[tuple[str, str, str], list[Violation]] = {}
    for violation in violations:
        grouped.setdefault((violation.rule, violation.field, violation.found), []).append(violation)
    return tuple(replace(same[0], policy=", ".join(one.policy for one in same)) for same in grouped.values())


def denial(verdict: Verdict, who: str) -> str:
    """Write a refusal for a terminal: a head, then a line a violation, bounded as Kubernetes asks.

    Args:
        verdict: with at least one violation.
        who: the object, such as `ModelDeployment clinic/wdbc`.
    """
    violations = merged(verdict.violations)
    count = len(violations)
    lines = [f"{who} breaks {count} rule{'s' if count > 1 else ''}:"]
    size = len(lines[0])
    for index, violation in enumerate(violations):
        line = f"  {violation.line}"
        size += len(line.encode()) + 1
        if size > MAX_DENIAL - 80:
            lines.append(f"  ... and {count - index} more: `modelward check` lists them all")
            break
        lines.append(line)
    return "\n".join(lines)


def rule_problems(policy: dict[str, Any]) -> list[str]:
    """Return what is wrong with a policy's own rules, a sentence each; empty when all compile."""
    problems = []
    for index, custom in enumerate(policy["spec"].get("rules", ())):
        for part in ("expression", "message"):
            try:
                _user_expression(custom[part])
            except CelError as error:
                problems.append(f"spec.rules[{index}].{part} ({custom['id']}) is not valid CEL: {error}")
    return problems
