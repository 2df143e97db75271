"""The status of a DataPolicy or ClusterDataPolicy: whether it is in force, what it excuses now, and whom it governs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from modelward.planner.names import KubeObject
from modelward.planner.status import one_line, rfc3339


def policy_status(
    policy: KubeObject, problems: Sequence[str], governed: Iterable[Mapping[str, int]], name: str, now: datetime
) -> dict[str, Any]:
    """Return the whole status of a policy.

    Args:
        policy: the policy as the API server has it, with the status it had.
        problems: what is wrong with its own rules, a sentence each.
        governed: for each ModelDeployment, the policies that govern it and how many rules of each it breaks.
        name: the policy as the governed name it, `judge.policy_name`.
        now: the time, for exceptions that end.
    """
    counts = [violations[name] for violations in governed if name in violations]
    active = active_exceptions(policy, now)
    return {
        "conditions": [_ready(policy, problems, active, now)],
        "observedGeneration": policy["metadata"].get("generation", 0),
        "activeExceptions": active,
        "governed": len(counts),
        "violations": sum(counts),
    }


def active_exceptions(policy: KubeObject, now: datetime) -> list[dict[str, Any]]:
    """Return the exceptions that have not ended, as the rules compare them: the same fields, written the same."""
    kept = ("rules", "names", "namespaces", "expires")
    return [
        {key: exception[key] for key in kept if key in exception}
        for exception in policy["spec"].get("exceptions", ())
        if _ends(exception) > now
    ]


def next_expiry(policy: KubeObject, now: datetime) -> datetime | None:
    """Return when the next exception ends, or None when there is none to end."""
    ends = [_ends(exception) for exception in policy["spec"].get("exceptions", ())]
    return min((end for end in ends if end > now), default=None)


def _ends(exception: Mapping[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(exception["expires"])
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)  # unreadable: it excuses nothing
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _ready(
    policy: KubeObject, problems: Sequence[str], active: Sequence[dict[str, Any]], now: datetime
) -> dict[str, Any]:
    if problems:
        truth, reason, message = "False", "InvalidRule", "; ".join(problems[:5])
    else:
        excused = f", {len(active)} exception(s) count now" if active else ""
        truth, reason = "True", "InForce"
        message = f"enforcement {policy['spec'].get('enforcement', 'Enforce')}{excused}"
    before = next((item for item in _conditions(policy) if item["type"] == "Ready"), None)
    changed = before["lastTransitionTime"] if before and before["status"] == truth else rfc3339(now)
    return {
        "type": "Ready",
        "status": truth,
        "reason": reason,
        "message": one_line(message),
        "lastTransitionTime": changed,
        "observedGeneration": policy["metadata"].get("generation", 0),
    }


def _conditions(policy: KubeObject) -> list[dict[str, Any]]:
    return list((policy.get("status") or {}).get("conditions") or ())
