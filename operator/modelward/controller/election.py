"""Leader election by a Lease (coordination.k8s.io/v1), with the periods that Kubernetes' own components use.

The holder renews every 2 s and gives up when it could not for 10 s; others take over when they have seen no renewal
for 15 s by their own clock. The difference is what keeps two from leading at once; clocks need not agree.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelward.controller.cluster import ApiError, Cluster
from modelward.planner.names import KubeObject

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Periods:
    """How long a lease lasts, when a holder that cannot renew it gives up, and how often each tries; in seconds."""

    lease: float = 15.0
    deadline: float = 10.0
    retry: float = 2.0


class Election:
    """One candidate for a Lease."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        periods: Periods = Periods(),
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._periods = periods
        self._clock = time.monotonic
        self._observed: tuple[Any, float] = (None, 0.0)

    async def won(self) -> None:
        """Return when this candidate leads."""
        while not await self._try():  # noqa: ASYNC110 - the Lease is in the cluster: there is nothing to wait on
            await asyncio.sleep(self._periods.retry)
        log.info("leads as %s", self._identity)

    async def lost(self) -> None:
        """Renew the Lease; return when it could not be renewed in time or another holds it."""
        renewed = self._clock()
        while self._clock() - renewed < self._periods.deadline:
            await asyncio.sleep(self._periods.retry)
            try:
                async with asyncio.timeout(self._periods.deadline - self._periods.retry):
                    holds = await self._try()
            except TimeoutError:
                continue
            if holds:
                renewed = self._clock()
        log.error("lost the Lease %s", self._name)

    async def release(self) -> None:
        """Let the next one lead at once."""
        try:
            lease = await self._cluster.get("Lease", self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._cluster.replace(lease)
        except ApiError as error:
            log.warning("the Lease was not released, it runs out by itself: %s", error)

    async def _try(self) -> bool:
        """Take or renew the Lease; every write says which version it replaces, so only one candidate gets through."""
        try:
            lease = await self._cluster.get("Lease", self._namespace, self._name)
            if lease is None:
                await self._cluster.create(self._taken(None))
                return True
            if self._held_by_another(lease):
                return False
            await self._cluster.replace(self._taken(lease))
        except ApiError as error:
            if error.status != 409:  # another was faster
                log.warning("the Lease could not be taken or renewed: %s", error)
            return False
        return True

    def _held_by_another(self, lease: KubeObject) -> bool:
        spec = lease["spec"]
        if spec.get("holderIdentity", "") in ("", self._identity):
            return False
        version, since = self._observed
        if version != lease["metadata"]["resourceVersion"]:
            self._observed = (lease["metadata"]["resourceVersion"], self._clock())
            return True
        return bool(self._clock() - since < spec.get("leaseDurationSeconds", self._periods.lease))

    def _taken(self, lease: KubeObject | None) -> KubeObject:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = lease["spec"] if lease else {}
        keeps = before.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._periods.lease),
            "acquireTime": before.get("acquireTime", now) if keeps else now,
            "renewTime": now,
            "leaseTransitions": before.get("leaseTransitions", 0) + (0 if keeps or not lease else 1),
        }
        head: KubeObject = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        metadata = lease["metadata"] if lease else {"namespace": self._namespace, "name": self._name}
        return {**head, "metadata": metadata, "spec": spec}
