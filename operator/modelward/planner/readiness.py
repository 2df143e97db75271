"""What is seen of a model beyond its manifest: what the rules that are enforced at readiness judge by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from modelward.api.lineage import problems


def observations(
    raw: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    now: datetime,
    signatures: Sequence[Mapping[str, str]] = (),
    test: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what was seen, by the names of `catalogue.Observation`.

    Args:
        raw: the ModelDeployment as the API server has it.
        pods: the specs of the pod templates that it runs by; none: they are not known, and not judged.
        now: the time, for the age of the security test.
        signatures: for each policy that asks for signed lineage, what it lacks: see `Signatures.observed`.
        test: what the last security test of what there is now has found: see `LastTest.standing`.
    """
    seen: dict[str, Any] = {
        "lineage": {"problems": problems(raw["metadata"].get("annotations") or {})},
        "signature": [dict(one) for one in signatures],
        "securityTest": _security_test(test, now),
    }
    if pods:
        seen["pods"] = [dict(pod) for pod in pods]
    return seen


def _security_test(last: Mapping[str, Any] | None, now: datetime) -> dict[str, Any]:
    if not last:
        return {"outcome": "None", "ageDays": 0}
    age = now - datetime.fromisoformat(last["finishedAt"])
    return {"outcome": last["outcome"], "ageDays": max(math.ceil(age / timedelta(days=1)), 0)}
