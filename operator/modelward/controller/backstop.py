"""Finds refusals by the API server itself, of which nobody told: the webhook was down, or has no part in them.

The API server says how many there were, not of what. What was counted is kept in a ConfigMap, so that a restart tells
neither twice nor too little.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from modelward.controller.apply import ensure
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.events import Recorder
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.refusals import CHECKS, STARTED, Known, Reading, Refusals, addresses, follow, read, together
from modelward.wording import rfc3339

CONFIG_MAP = "modelward-refusals"
KEY = "known.json"
_POLICY, _BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
_HEAD = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": _POLICY}
_OWN_RULES = "modelward-custom-"

log = logging.getLogger(__name__)


class Backstop:
    """Looks at the API server's metrics, and records one Event for each policy that refused something."""

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        namespace: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._namespace = namespace
        self._clock = clock
        self._known: Known | None = None
        self._may_look: bool | None = None

    async def reconcile(self) -> None:
        """Look once.

        Raises:
            ApiError: the API server did not answer, or not as it should; to be tried again.
        """
        before = self._known if self._known is not None else await self._kept()
        try:
            readings = await self._readings()
        except ApiError as error:
            if error.status not in (401, 403):
                raise
            self._tell(may_look=False)
            return
        self._tell(may_look=True)
        known, found = before, []
        for reading in readings:
            known, more = follow(known, reading, self._clock())
            found += more
        for one in together(found):
            await self._record(one)
        if found or known.denied.keys() != before.denied.keys():
            await ensure(self._cluster, self._config_map(known))
        self._known = known

    async def _readings(self) -> list[Reading]:
        """Ask every API server for its own counts; where they cannot be reached one by one, the one that answers."""
        servers = await self._servers()
        answers = await asyncio.gather(*map(self._reading, servers), return_exceptions=True)
        there = []
        for server, answer in zip(servers, answers, strict=True):
            if isinstance(answer, Reading):
                there.append(answer)
            elif isinstance(answer, ApiError):
                log.debug("%s is not asked: %s", server, answer)
            else:
                raise answer
        return there or [await self._reading("")]

    async def _servers(self) -> list[str]:
        try:
            return addresses(await self._cluster.get("EndpointSlice", "default", "kubernetes") or {})
        except ApiError as error:
            if error.status != 403:
                raise
            return []

    async def _reading(self, server: str) -> Reading:
        try:
            return read(await self._cluster.lines("metrics", (CHECKS, STARTED), server))
        except ValueError as error:
            raise ApiError(0, "GET metrics", str(error)) from error

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        total = self._known.total if self._known else {}
        watched = {} if self._may_look is None else {"": float(self._may_look)}
        return {
            "modelward_backstop_refusals_total": (
                "Validations of admission policies that failed in the API server, past the webhook.",
                {f'{{policy="{policy}"}}': count for policy, count in total.items()},
            ),
            "modelward_backstop_watched": ("Whether the API server's metrics may be read.", watched),
        }

    async def _kept(self) -> Known:
        there = await self._cluster.get("ConfigMap", self._namespace, CONFIG_MAP)
        if there is None:
            return Known()
        try:
            return Known.loaded((there.get("data") or {}).get(KEY, ""))
        except ValueError as error:
            log.warning("ConfigMap %s cannot be read (%s): refusals are told anew", CONFIG_MAP, error)
            return Known()

    async def _record(self, found: Refusals) -> None:
        policy = await self._cluster.get(_POLICY, "", found.policy)
        about: KubeObject = policy or {**_HEAD, "metadata": {"name": found.policy}}  # it may be gone since
        # Those with a policy of ours as the parameter are the webhook's to explain, which is asked first.
        kind = (about.get("spec") or {}).get("paramKind", {}).get("kind", "")
        why = " (the webhook, which is asked first, gave no answer)" if kind.endswith("DataPolicy") else ""
        if found.policy.startswith(_OWN_RULES):
            about = await self._owner(kind, found.policy) or about
        message = (
            f"the API server itself refused{why}: {found.failed} validation(s) of {found.policy} failed since"
            f" {rfc3339(found.since)}, perhaps several a request; no details are known here, the audit log has them"
        )
        await self._recorder.record(about, "Warning", "PolicyViolation", message, topic=found.policy)

    async def _owner(self, kind: str, name: str) -> KubeObject | None:
        """Return the DataPolicy or ClusterDataPolicy whose own rules an admission policy holds."""
        binding = await self._cluster.get(_BINDING, "", name) or {}
        reference = (binding.get("spec") or {}).get("paramRef") or {}
        if not kind or "name" not in reference:
            return None
        return await self._cluster.get(kind, reference.get("namespace", ""), reference["name"])

    def _config_map(self, known: Known) -> KubeObject:
        labels = {"app.kubernetes.io/part-of": "modelward", MANAGED_BY_LABEL: MANAGER}
        metadata = {"name": CONFIG_MAP, "namespace": self._namespace, "labels": labels}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: known.dumped()}}

    def _tell(self, *, may_look: bool) -> None:
        if not may_look and self._may_look is not False:
            log.warning(
                "the API server's metrics may not be read, so refusals by it alone are not found: grant `get` on the"
                " nonResourceURL /metrics, or set backstop.watchRefusals=false"
            )
        self._may_look = may_look
