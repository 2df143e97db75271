"""Events of core/v1: one object for each thing told, whose count rises when it is told again.

Of what sidecars say (`heard`) so many are written an hour, and the rest is told of by one Event that counts.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.event_budget import AGAIN, NEW, EventBudget
from modelward.planner.names import FIELD_MANAGER, KubeObject
from modelward.wording import one_line, rfc3339

_REMEMBERED = 4096
_MAX_MESSAGE = 1024  # Kubernetes' own bound

log = logging.getLogger(__name__)


class Recorder:
    """Records events. An event that cannot be written is logged: nothing depends on it."""

    def __init__(self, cluster: Cluster, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._cluster = cluster
        self._clock = clock
        self._counts: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._budget = EventBudget(clock)

    async def record(
        self,
        about: KubeObject,
        kind: Literal["Normal", "Warning"],
        reason: str,
        message: str,
        *,
        topic: str = "",
        heard: bool = False,
    ) -> None:
        """Record an event about an object, in its namespace (in `default` where it has none).

        Args:
            about: the object.
            kind: whether it is bad news.
            reason: a word for programs.
            message: a sentence for people.
            topic: what makes two of a reason one, where their messages differ; the last message stands.
            heard: a sidecar said so, which may lie: no more than so many of these an hour are recorded about an object.
        """
        event = self._event(about, kind, reason, one_line(message, _MAX_MESSAGE), topic)
        if heard and not self._budget.take(_who(about), event["metadata"]["name"]):
            return
        await self._write(event, 1)

    async def settle(self, about: KubeObject) -> None:
        """Record how many events about an object were too many, if there are any and it was not told just now."""
        owed = self._budget.owed(_who(about))
        if owed:
            message = (
                f"{owed} more Events of what its sidecars tell were not written, since this was told last: {NEW} new"
                f" ones are in an hour, and {AGAIN} again. status.monitoring and the sidecars' access logs tell more"
            )
            await self._write(self._event(about, "Warning", "EventsWithheld", message, "withheld"), owed)

    async def _write(self, event: KubeObject, times: int) -> None:
        reason, metadata = event["reason"], event["metadata"]
        key = (metadata["namespace"], metadata["name"])
        before = self._counts.pop(key, 0)
        count = before + times
        event["count"] = times
        try:
            if not before:
                count = await self._first(event)
            else:
                await self._repeat(event, count)
        except ApiError as error:
            log.warning("event %s not recorded: %s", reason, error)
        self._counts[key] = count
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)

    async def _first(self, event: KubeObject) -> int:
        try:
            await self._cluster.create(event)
        except ApiError as error:
            if error.status != 409:
                raise
            count = 1 + int(event["count"])  # told by the controller before this one
            await self._repeat(event, count)
            return count
        return int(event["count"])

    async def _repeat(self, event: KubeObject, count: int) -> None:
        try:
            latest = {"lastTimestamp": event["lastTimestamp"], "message": event["message"]}
            await self._cluster.merge(event, {"count": count, **latest})
        except ApiError as error:
            if error.status != 404:
                raise
            await self._cluster.create(event)  # events are deleted after an hour

    def _event(self, about: KubeObject, kind: str, reason: str, message: str, topic: str) -> KubeObject:
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        told = "\n".join((about["kind"], metadata.get("uid", ""), reason, topic or message))
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        now = rfc3339(self._clock())
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{digest}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", ""),
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": f"modelward.io/{FIELD_MANAGER.removeprefix('modelward-')}",
        }


def _who(about: KubeObject) -> str:
    metadata = about["metadata"]
    return metadata.get("uid") or f"{about['kind']} {metadata.get('namespace', '')} {metadata['name']}"
