"""Keeps who got each model's answers, as its sidecars tell, in the ConfigMap `<model>.lineage`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from modelward.controller.apply import NameTakenError, ensure
from modelward.controller.cluster import Cluster
from modelward.incidents import Report
from modelward.planner.consumers import Record, gathered, read_record, record_map, record_name, windows_of
from modelward.planner.names import KubeObject

Place = tuple[str, str]

log = logging.getLogger("modelward.controller")


class Lineage:
    """Counts one model's windows at a time; what was counted is written before it is believed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._records: dict[Place, Record] = {}

    def of(self, namespace: str, name: str) -> Record | None:
        """Return what is kept of a model; None: its sidecars were not asked yet."""
        return self._records.get((namespace, name))

    def forget(self, namespace: str, name: str) -> None:
        """A model is gone, and its ConfigMap with it."""
        self._records.pop((namespace, name), None)

    async def take(self, raw: KubeObject, told: Mapping[str, Report | str]) -> bool:
        """Count what a model's pods told, by their names; return whether there are consumers that were not there.

        Raises:
            ApiError: the API server refused or did not answer; nothing is counted then.
        """
        namespace, name = raw["metadata"]["namespace"], raw["metadata"]["name"]
        before = self._records.get((namespace, name))
        if before is None:
            before = read_record(await self._cluster.get("ConfigMap", namespace, record_name(name)))
            self._records[namespace, name] = before
        after = gathered(before, told, windows_of(told))
        if after is before:
            return False
        try:
            await ensure(self._cluster, record_map(raw, after))
        except NameTakenError as error:
            log.warning("%s/%s: who got its answers is kept in memory alone: %s", namespace, name, error)
        self._records[namespace, name] = after
        return {one.key for one in after.consumers} != {one.key for one in before.consumers}
