"""Keeps one OpenReports `Report` in each namespace that has models, where the cluster has that kind of resource."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from modelward.controller.apply import ensure
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.installation import with_installation
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER
from modelward.planner.report import API_VERSION, NAME, Judged, report

_LOOK_FOR_KIND_SECONDS = 60.0

log = logging.getLogger(__name__)


class Reports:
    """Writes reports where they changed, and deletes those of namespaces that have no model any more."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._written = 0
        self._available: bool | None = None
        self._looked = 0.0

    async def reconcile(self, namespace: str, models: Mapping[str, Judged], unwatched: int = 0) -> None:
        """Bring the report of a namespace about.

        Args:
            namespace: the namespace.
            models: what was said of each of its models, by name.
            unwatched: how many of its pods no sidecar watches; with no model and no such pod it has no report.

        Raises:
            ApiError: the API server refused or did not answer; to be tried again.
        """
        if not await self._can():
            return
        if models or unwatched:
            wanted = await with_installation(self._cluster, report(namespace, models, unwatched))
            self._written += await ensure(self._cluster, wanted)
            return
        there = await self._cluster.get("Report", namespace, NAME)
        if there is not None and (there["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == MANAGER:
            await self._cluster.delete(there)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that have a report of ours, perhaps from before this controller started."""
        if not await self._can():
            return []
        there = await self._cluster.find("Report", labels={MANAGED_BY_LABEL: MANAGER})
        return [item["metadata"]["namespace"] for item in there]

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        available = {} if self._available is None else {"": float(self._available)}
        return {
            "modelward_reports_written_total": ("Reports written because they changed.", {"": self._written}),
            "modelward_reports_available": (f"Whether the cluster has the reports of {API_VERSION}.", available),
        }

    async def _can(self) -> bool:
        """Tell whether the cluster has Reports, looking once a minute; what is found is logged when it is news."""
        if self._available is not None and self._clock() - self._looked < _LOOK_FOR_KIND_SECONDS:
            return self._available
        try:
            kinds = await self._cluster.kinds(API_VERSION)
        except ApiError as error:
            if error.status != 404:
                raise
            kinds = []
        available = "Report" in kinds
        if available != self._available:
            where = "are kept in each namespace" if available else "are not kept: the CRD is not installed"
            log.info("Reports of %s %s", API_VERSION, where)
        self._available, self._looked = available, self._clock()
        return available
