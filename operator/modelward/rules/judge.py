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
from modelward.rules.catalogue import EnforcedAt
from modelward.rules.prepared import PreparedPolicy, prepare, rules_at

MAX_LINE = 400
MAX_FOUND = 160
NOT_SHOWN = "what was found cannot be shown"
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
        """The violation on one line of bounded length, with who asks."""
        return _bounded(f"{self._told} (asked by {self.policy})")

    @property
    def short_line(self) -> str:
        """The same without who asks, for where that is said once for many."""
        return _bounded(self._told)

    @property
    def _told(self) -> str:
        return f"{self.rule} {self.field}: {self.found}." + (f" Fix: {self.fix}" if self.fix else "")


def _bounded(text: str) -> str:
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


def judge(review: Review, policies: Sequence[dict[str, Any] | PreparedPolicy]) -> Verdict:
    """Judge an object by the rules that are enforced at admission, of every policy that governs it.

    Args:
        review: the object and its surroundings.
        policies: DataPolicies and ClusterDataPolicies as the API server stores them, or prepared for many reviews.
    """
    return _judged(review, policies, "admission", {})


def judge_readiness(
    review: Review, policies: Sequence[dict[str, Any] | PreparedPolicy], observed: Mapping[str, Any]
) -> Verdict:
    """Judge an object by the rules that are enforced at readiness, as far as what they need was seen.

    Args:
        review: the object and its surroundings.
        policies: DataPolicies and ClusterDataPolicies as the API server stores them, or prepared for many reviews with
            the rules of this stage that need nothing else.
        observed: what was seen, by the names of `catalogue.Observation`; a rule that needs another is left out.
    """
    return _judged(review, policies, "readiness", observed)


def _judged(
    review: Review,
    policies: Sequence[dict[str, Any] | PreparedPolicy],
    stage: EnforcedAt,
    observed: Mapping[str, Any],
) -> Verdict:
    rules = rules_at(stage, observed)
    base = {
        "observed": dict(observed),
        "object": _with_creation_time(review),
        "oldObject": review.old,
        "namespaceObject": {"metadata": {"name": review.namespace, "labels": review.namespace_labels}},
        "request": {"namespace": review.namespace, "operation": "CREATE" if review.old is None else "UPDATE"},
    }
    found: dict[str, list[Violation]] = {"Enforce": [], "Warn": [], "Audit": []}
    governing = []
    for item in policies:
        prepared = item if isinstance(item, PreparedPolicy) else prepare(item, rules)
        policy = prepared.policy
        if policy["kind"] == "DataPolicy" and policy["metadata"].get("namespace") != review.namespace:
            continue
        activation = Activation({**base, "params": policy})
        if not _governs(prepared, activation):
            continue
        governing.append(policy_name(policy))
        custom = policy["spec"].get("rules", ()) if stage == "admission" else ()
        found[policy["spec"].get("enforcement", "Enforce")].extend(_violations(prepared, activation, custom))
    return Verdict(tuple(found["Enforce"]), tuple(found["Warn"]), tuple(found["Audit"]), tuple(governing))


def _with_creation_time(review: Review) -> dict[str, Any]:
    if review.old is not None:
        return review.object
    now = review.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**review.object, "metadata": {**review.object["metadata"], "creationTimestamp": now}}


def _governs(prepared: PreparedPolicy, activation: Activation) -> bool:
    try:
        return prepared.governs.holds(activation)
    except CelError:
        return True  # such as an integer that CEL has no room for: nothing escapes its policy by being odd


def _violations(
    prepared: PreparedPolicy, activation: Activation, custom: Sequence[dict[str, Any]]
) -> Iterator[Violation]:
    compliant = _holds(prepared.all_hold, activation)
    if compliant and not custom:
        return
    excused_ids = _excused(prepared, activation)
    name = policy_name(prepared.policy)
    for rule in () if compliant else prepared.rules:
        if rule.id in excused_ids:
            continue
        if rule.id in prepared.unclear or not _holds(Expression.compiled(rule.expression), activation):
            found = _found(Expression.compiled(rule.message), activation)
            yield Violation(rule.id, rule.title, rule.severity, name, rule.field, found, rule.fix)
    for own in custom:
        if own["id"] not in excused_ids:
            yield from _custom_violations(own, activation, name)


def _excused(prepared: PreparedPolicy, activation: Activation) -> set[str]:
    if prepared.excused is None:
        return set()
    try:
        rules: list[list[str]] = prepared.excused.value(activation)
    except CelError:
        return set()  # an exception that cannot be read excuses nothing
    return {rule_id for ids in rules for rule_id in ids}


def _holds(expression: Expression, activation: Activation) -> bool:
    try:
        return expression.holds(activation)
    except CelError:
        return False


def _found(message: Expression, activation: Activation) -> str:
    try:
        text = " ".join(message.text_of(activation).split())
    except CelError:
        return NOT_SHOWN
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
    """Write a refusal for a terminal: who asks, then a line a violation, bounded as Kubernetes asks.

    Args:
        verdict: with at least one violation.
        who: the object, such as `ModelDeployment clinic/wdbc`.
    """
    groups: dict[str, list[Violation]] = {}
    for violation in merged(verdict.violations):
        groups.setdefault(violation.policy, []).append(violation)
    count = sum(map(len, groups.values()))
    lines = [f"{who} breaks {count} rule{'s' if count > 1 else ''}{_of_one(groups)}:"]
    size, told = len(lines[0]), 0
    for policy, violations in groups.items():
        new = [f"{len(violations)} of {_joined(policy)}:"] if len(groups) > 1 else []
        for violation in violations:
            new.append(f"  {violation.short_line}")
            size += sum(len(line.encode()) + 1 for line in new)
            if size > MAX_DENIAL - 80:
                lines.append(f"  ... and {count - told} more: `modelward check` lists them all")
                return "\n".join(lines)
            lines += new
            told += 1
            new = []
    return "\n".join(lines)


def _of_one(groups: dict[str, list[Violation]]) -> str:
    """The policies, where the same ask for everything."""
    return f" of {_joined(next(iter(groups)))}" if len(groups) == 1 else ""


def _joined(policies: str) -> str:
    return _bounded(" and ".join(policies.split(", ")))


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
