"""What of a verdict depends on the policy alone, worked out once for each version of a policy.

A review then evaluates the rules that the policy asks for and no other, and all of them as one conjunction: most
objects break nothing, and calling the evaluator costs as much as most expressions do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from modelward.api.expression import Activation, CelError, Expression
from modelward.rules import scope
from modelward.rules.catalogue import EnforcedAt, Rule, catalogue


@dataclass(frozen=True)
class PreparedPolicy:
    """A policy, and what follows from it for every object.

    Attributes:
        policy: as the API server stores it; it must not change any more.
        governs: CEL that is true where the policy governs an object at all.
        excused: CEL that gives the lists of rules that exceptions excuse; None without exceptions.
        rules: the rules that the policy asks for, of those it was prepared with.
        unclear: ids of those of which the policy cannot be told whether it asks for them; they count as broken.
        all_hold: CEL that is true where every one of these rules holds. Where it is not, or fails, each is asked.
    """

    policy: dict[str, Any]
    governs: Expression
    excused: Expression | None
    rules: tuple[Rule, ...]
    unclear: frozenset[str]
    all_hold: Expression


def rules_at(stage: EnforcedAt, observed: Collection[str] = ()) -> list[Rule]:
    """Return the catalogue's rules of a stage, without those that need what was not observed."""
    return [rule for rule in catalogue() if rule.enforced_at == stage and rule.observes in (None, *observed)]


def prepare(policy: dict[str, Any], rules: Sequence[Rule] | None = None) -> PreparedPolicy:
    """Prepare a policy for many reviews.

    Args:
        policy: as the API server stores it.
        rules: those that it may ask for; all that are enforced at admission where none are given.
    """
    cluster = policy["kind"] == "ClusterDataPolicy"
    conditions = [scope.NOT_BEING_DELETED, scope.CHANGED, scope.SELECTED]
    if cluster:
        conditions.append(scope.NAMESPACE_SELECTED)
    excused = Expression.compiled(scope.excused_rules(cluster=cluster)) if policy["spec"].get("exceptions") else None
    params = Activation({"params": policy})
    asked = [(rule, _applies(rule, params)) for rule in (rules_at("admission") if rules is None else rules)]
    wanted = tuple(rule for rule, applies in asked if applies is not False)
    unclear = frozenset(rule.id for rule, applies in asked if applies is None)
    expressions = ("false",) if unclear else tuple(rule.expression for rule in wanted)
    return PreparedPolicy(policy, _all(tuple(conditions)), excused, wanted, unclear, _all(expressions))


def _applies(rule: Rule, params: Activation) -> bool | None:
    try:
        return Expression.compiled(rule.applies).holds(params)
    except CelError:
        return None


@lru_cache(maxsize=64)  # policies ask for the same few sets of rules
def _all(expressions: tuple[str, ...]) -> Expression:
    return Expression(" && ".join(f"({expression})" for expression in expressions) or "true")
