"""Events of what a look at a model's sidecars found that its status does not tell of yet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from modelward.controller.events import Recorder
from modelward.planner.names import KubeObject
from modelward.planner.sightings import MAX_TOLD, Seen, news


async def tell(recorder: Recorder, raw: KubeObject, seen: Seen, before: Mapping[str, Any]) -> None:
    """Record them, those of quarantines first; of a model so many an hour are, and the rest is told of by one.

    Args:
        recorder: records them.
        raw: the ModelDeployment.
        seen: what the look gave.
        before: `status.monitoring` as it was told last.
    """
    record = partial(recorder.record, raw, "Warning", heard=True)
    sightings, quarantined = news(seen, before)
    for held in quarantined:
        who = f"{held.client} (issuer {held.issuer or 'none'})"
        message = f"{who} is refused until {held.until}, for what {held.reason} found"
        await record("ClientQuarantined", message, topic=f"{held.client}\n{held.issuer}")
    for one in sightings:
        await record("AnomalyDetected", one.sentence, topic="\n".join(one.key))
    others = seen.sightings[MAX_TOLD:]
    if others and seen.anomalies > before.get("anomalies", 0):
        message = f"{len(others)} more clients and detectors with {sum(one.count for one in others)} anomalies"
        await record("AnomalyDetected", message, topic="others")
    await recorder.settle(raw)
