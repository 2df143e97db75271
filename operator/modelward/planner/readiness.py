"""What is seen of a model beyond its manifest: what the rules that are enforced at readiness judge by."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from modelward.api.lineage import problems


def observations(
    raw: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    now: datetime,
    verified_by: Collection[str] = (),
) -> dict[str, Any]:
    """Return what was seen, by the names of `catalogue.Observation`.

    Args:
        raw: the ModelDeployment as the API server has it.
        pods: the specs of the pod templates that it runs by; none: they are not known, and not judged.
        now: the time, for the age of the security test.
        verified_by: whose signatures on the lineage were verified. No signature is read by this version: a policy that
            asks for one keeps its models from being ready.
    """
    seen: dict[str, Any] = {
        "lineage": {"problems": problems(raw["metadata"].get("annotations") or {})},
        "signature": {"verifiedBy": sorted(verified_by)},
        "securityTest": _security_test(raw, now),
    }
    if pods:
        seen["pods"] = [dict(pod) for pod in pods]
    return seen


def _security_test(raw: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    last = (raw.get("status") or {}).get("lastSecurityTest")
    if not last:
        return {"outcome": "None", "ageDays": 0}
    age = now - datetime.fromisoformat(last["finishedAt"])
    return {"outcome": last["outcome"], "ageDays": max(math.ceil(age / timedelta(days=1)), 0)}
