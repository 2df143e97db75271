"""The condition Monitored: whether what watches a model does what was declared, and what it found.

False: the watch is not what was declared (its baseline is stale, the inputs have become others, a detector flags more
or less than it was asked to). True: it is, whatever it found. Unknown: nobody can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelward.api.lineage import lineage
from modelward.api.modeldeployment import ModelDeployment
from modelward.detect.origin import Known
from modelward.planner.sightings import Seen, shown
from modelward.wording import names, sentences

RECENT_SECONDS = 3600.0
"""For so long the condition tells of anomalies, as the API server keeps Events."""
# What was told by a look at the sidecars, and stands until there is another.
_OF_A_LOOK = ("DetectorsWatching", "SidecarsSilent", "Drifted", "RateOff", "Quarantined", "AnomaliesSeen")
_NAMED = 3


@dataclass(frozen=True)
class Watch:
    """What the condition is made of besides the manifest.

    Attributes:
        seen: what the last look at the sidecars gave; None: there was none since the controller began.
        baseline: where the baseline comes from; None: there is none, or it does not say.
        max_age_days: how old it may be by the policies; None: as old as it likes.
        before: the condition as it was told last.
    """

    seen: Seen | None = None
    baseline: Known | None = None
    max_age_days: int | None = None
    before: dict[str, Any] | None = None


def max_age_days(policies: Sequence[dict[str, Any]]) -> int | None:
    """Return how old a baseline may be by the strictest of some policies; None where none says."""
    asked = [((one["spec"].get("require") or {}).get("monitoring") or {}).get("baselineMaxAgeDays") for one in policies]
    return min((days for days in asked if days is not None), default=None)


def monitored(md: ModelDeployment, watch: Watch, now: datetime) -> tuple[Any, str, str]:
    """Return the condition of a model that declares detectors and has nothing in its way."""
    monitoring = md.spec.monitoring
    kinds = ", ".join(one.type for one in monitoring.detectors) if monitoring else ""
    declared = f"{kinds}; on an anomaly: {monitoring.on_anomaly if monitoring else ''}"
    stale = _stale(md, watch, now)
    seen = watch.seen
    if seen is None or not seen.asked:
        if stale:
            return "False", "BaselineStale", stale
        before = watch.before or {}
        if seen is None and before.get("reason") in _OF_A_LOOK:
            return before["status"], before["reason"], before["message"]
        return "True", "DetectorsConfigured", declared
    if len(seen.silent) == seen.asked:
        return "Unknown", "SidecarsSilent", f"no sidecar tells what it found: {names(seen.silent, _NAMED)}"
    found = [
        ("False", "BaselineStale", stale),
        ("False", "Drifted", _drifted(seen)),
        ("False", "RateOff", _off(seen)),
        ("True", "Quarantined", _quarantined(seen)),
        ("True", "AnomaliesSeen", _anomalies(seen, now)),
    ]
    told = [one for one in found if one[2]]
    if seen.silent:
        told.append(("True", "DetectorsWatching", f"not telling: {names(seen.silent, _NAMED)}"))
    if not told:
        return "True", "DetectorsWatching", declared
    return told[0][0], told[0][1], "; ".join(message for _, _, message in told)


def _stale(md: ModelDeployment, watch: Watch, now: datetime) -> str:
    if watch.baseline is None:
        return ""
    _, at, declared = lineage(md.metadata.annotations).get("dataset", "").rpartition("@sha256:")
    of = {watch.baseline.data_sha256, watch.baseline.lineage.rpartition("@sha256:")[2]}
    if at and declared not in of:
        return (
            f"the baseline was fitted on sha256:{watch.baseline.data_sha256}, and the lineage annotation dataset names"
            f" sha256:{declared}: fit it anew, with --lineage where its data is a part of that"
        )
    if watch.max_age_days is None:
        return ""
    try:
        age = now - datetime.fromisoformat(watch.baseline.fitted)
    except (ValueError, TypeError):
        return (
            f"the baseline does not say when it was fitted, and a policy wants none older than {watch.max_age_days}"
            " days: fit it anew with --fitted"
        )
    if age > timedelta(days=watch.max_age_days):
        return (
            f"the baseline was fitted at {watch.baseline.fitted}, and a policy wants none older than"
            f" {watch.max_age_days} days: fit it anew"
        )
    return ""


def _drifted(seen: Seen) -> str:
    worst = [f"{shown(one.feature)} ({shown(one.test)} {one.score:.2g} times its threshold)" for one in seen.drifted]
    return f"inputs are no longer like the baseline: {names(worst, _NAMED)}" if worst else ""


def _off(seen: Seen) -> str:
    told = [f"{shown(one.detector)} flags {one.observed:.2%} of rows, asked {one.asked:.2%}" for one in seen.off]
    return sentences(told, _NAMED)


def _quarantined(seen: Seen) -> str:
    held = [f"{one.client} until {one.until} ({one.reason})" for one in seen.quarantined]
    return f"in quarantine: {names(held, _NAMED)}" if held else ""


def _anomalies(seen: Seen, now: datetime) -> str:
    recent = seen.recent(now, RECENT_SECONDS)
    if not recent:
        return ""
    clients = len({(one.client, one.issuer) for one in recent})
    most = [f"{one.client} {one.count} by {one.detector}" for one in recent]
    return f"anomalies of {clients} client{'s' if clients > 1 else ''}: {names(most, _NAMED)}"
