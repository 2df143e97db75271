"""The status of a DataPolicy or ClusterDataPolicy: whether it is in force, what it excuses now, and whom it governs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from modelward.api.datapolicy import MAX_POLICIES
from modelward.planner.names import KubeObject
from modelward.rules.catalogue import catalogue
from modelward.wording import one_line, rfc3339

ENDS_SOON = timedelta(days=7)
"""How long before its end an exception is warned of."""
_PROJECTED = ("rules", "names", "namespaces", "reason", "approvedBy", "expires")


@dataclass(frozen=True)
class Examined:
    """What was found of a policy.

    Attributes:
        invalid: rules of its own that cannot be enforced as they stand, a sentence each.
        doubtful: rules that the API server enforces, and whose types it doubts, a sentence each.
        governed: for each ModelDeployment, the policies that govern it and how many rules of each it breaks.
        name: the policy as the governed name it, `judge.policy_name`.
        neighbours: DataPolicies in its namespace, itself among them.
    """

    invalid: Sequence[str] = ()
    doubtful: Sequence[str] = ()
    governed: Iterable[Mapping[str, int]] = ()
    name: str = ""
    neighbours: int = 0


class News(NamedTuple):
    """Something worth an Event: a word for programs, a sentence for people."""

    reason: str
    message: str


def policy_status(policy: KubeObject, found: Examined, now: datetime) -> dict[str, Any]:
    """Return the whole status of a policy.

    Args:
        policy: the policy as the API server has it, with the status it had.
        found: what was found of it.
        now: the time, for exceptions that end.
    """
    counts = [violations[found.name] for violations in found.governed if found.name in violations]
    active = active_exceptions(policy, now)
    conditions = [_condition(policy, "Ready", *_ready(policy, found, active), now)]
    if policy["spec"].get("rules"):
        conditions.append(_condition(policy, "RulesValid", *_rules_valid(found), now))
    ending = [_told(exception) for exception in active if exception.get("endsSoon")]
    if ending:  # bad news is there only while it is true
        conditions.append(_condition(policy, "ExceptionsEnding", "True", "EndsWithin7Days", "; ".join(ending), now))
    idle = [f"{_told(exception)}: {why}" for exception in active if (why := _idle(policy, exception))]
    if idle:
        conditions.append(_condition(policy, "ExceptionsIdle", "True", "MatchesNothing", "; ".join(idle), now))
    if found.neighbours > MAX_POLICIES:
        message = f"the namespace has {found.neighbours} DataPolicies, {MAX_POLICIES} is the most: put them into fewer"
        conditions.append(_condition(policy, "TooManyPolicies", "True", "LimitExceeded", message, now))
    return {
        "conditions": conditions,
        "observedGeneration": policy["metadata"].get("generation", 0),
        "activeExceptions": active,
        "governed": len(counts),
        "violations": sum(counts),
    }


def news(policy: KubeObject, after: Mapping[str, Any], now: datetime) -> list[News]:
    """Return what is worth an Event in a new status; each is news once, however often one looks.

    Args:
        policy: the policy, with the status it had.
        after: the status it is given.
        now: the time, for exceptions that ended.
    """
    before = policy.get("status") or {}
    told = []
    invalid = _find(after, "RulesValid")
    if invalid.get("status") == "False" and invalid["message"] != _find(before, "RulesValid").get("message"):
        told.append(News("InvalidRule", invalid["message"]))
    told += [
        News(kind, _find(after, kind)["message"])
        for kind in ("TooManyPolicies", "ExceptionsIdle")
        if _find(after, kind).get("message") not in (None, _find(before, kind).get("message"))
    ]
    known = {_identity(exception): exception for exception in before.get("activeExceptions", ())}
    told += [
        News("ExceptionExpired", f"{_told(exception)}: it counts no more, and its models are judged")
        for exception in policy["spec"].get("exceptions", ())
        if _identity(exception) in known and _ends(exception) <= now
    ]
    told += [
        News("ExceptionEnding", f"{_told(exception)}: mend the models, or have it approved anew")
        for exception in after["activeExceptions"]
        if exception.get("endsSoon") and not known.get(_identity(exception), {}).get("endsSoon")
    ]
    return told


def active_exceptions(policy: KubeObject, now: datetime) -> list[dict[str, Any]]:
    """Return the exceptions that have not ended, as the rules compare them: the same fields, written the same."""
    active = []
    for exception in policy["spec"].get("exceptions", ()):
        if (ends := _ends(exception)) > now:
            kept = {key: exception[key] for key in _PROJECTED if key in exception}
            # Said either way: the API server fills the default in, and the status would seem to have changed.
            active.append({**kept, "endsSoon": ends - ENDS_SOON <= now})
    return active


def next_change(policy: KubeObject, now: datetime) -> datetime | None:
    """Return when an exception next ends or is to be warned of; None when there is none to come."""
    ends = [_ends(exception) for exception in policy["spec"].get("exceptions", ())]
    moments = [*ends, *(end - ENDS_SOON for end in ends if end > now)]
    return min((moment for moment in moments if moment > now), default=None)


def _ends(exception: Mapping[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(exception["expires"])
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)  # unreadable: it excuses nothing
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _identity(exception: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*(tuple(exception.get(key, ())) for key in ("rules", "names", "namespaces")), exception["expires"])


def _told(exception: Mapping[str, Any]) -> str:
    rules, names = (", ".join(exception.get(key, ())) or "nothing" for key in ("rules", "names"))
    approved = f", approved by {exception['approvedBy']}" if exception.get("approvedBy") else ""
    return one_line(f"the exception from {rules} for {names}{approved} ends {exception['expires']}", 300)


def _idle(policy: KubeObject, exception: Mapping[str, Any]) -> str:
    """Say why an exception excuses nothing, though it has not ended; empty where it may."""
    needed = ("rules", "names", "namespaces") if policy["kind"] == "ClusterDataPolicy" else ("rules", "names")
    empty = [key for key in needed if not exception.get(key)]
    if empty:
        return f"{' and '.join(empty)} is empty, which matches nothing"
    known = {rule.id for rule in catalogue()} | {own["id"] for own in policy["spec"].get("rules", ())}
    unknown = [rule for rule in exception["rules"] if rule not in known]
    return f"there is no rule {', '.join(unknown)}" if unknown else ""


def _ready(policy: KubeObject, found: Examined, active: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    if found.invalid:
        return "False", "InvalidRule", "; ".join(found.invalid[:5])
    count = sum(not _idle(policy, exception) for exception in active)
    excused = f", {count} exception(s) count now" if count else ""
    return "True", "InForce", f"enforcement {policy['spec'].get('enforcement', 'Enforce')}{excused}"


def _rules_valid(found: Examined) -> tuple[str, str, str]:
    if found.invalid:
        return "False", "InvalidRule", "; ".join((*found.invalid, *found.doubtful)[:5])
    if found.doubtful:
        return "False", "TypeWarning", "; ".join(found.doubtful[:5])
    return "True", "Compiled", "the API server takes every rule"


def _condition(policy: KubeObject, kind: str, truth: str, reason: str, message: str, now: datetime) -> dict[str, Any]:
    before = _find(policy.get("status") or {}, kind)
    return {
        "type": kind,
        "status": truth,
        "reason": reason,
        "message": one_line(message),
        "lastTransitionTime": before["lastTransitionTime"] if before.get("status") == truth else rfc3339(now),
        "observedGeneration": policy["metadata"].get("generation", 0),
    }


def _find(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((item for item in status.get("conditions") or () if item["type"] == kind), {})
