"""What has to be reconciled when: the tie between what kopf sees change and the reconcilers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelward.controller.backstop import Backstop
from modelward.controller.cluster import Cluster
from modelward.controller.emitters import Emitters
from modelward.controller.events import Recorder
from modelward.controller.incidents import Incidents
from modelward.controller.installation import Installation, Installed
from modelward.controller.ledger import Ledger
from modelward.controller.lineage import Lineage
from modelward.controller.models import Models
from modelward.controller.policies import Policies
from modelward.controller.queue import GoneError, WorkQueue
from modelward.controller.reports import Reports
from modelward.controller.security_tests import SecurityTests
from modelward.controller.standing import Standing
from modelward.controller.unwatched import SCAN_SECONDS, UnwatchedPods
from modelward.planner.report import Judged
from modelward.planner.sidecar import MODEL_LABEL, PROTECTED_LABEL, SYSTEM_NAMESPACE
from modelward.planner.target import KINDS

RESYNC_SECONDS = 60.0
_LOOK_DELAY_SECONDS = 1.0  # at start all namespaces are heard of one by one
_COUNTING_DELAY_SECONDS = 1.0  # counts follow the models', many of which may change together
_SETTLING_SECONDS = 10.0  # after the start, before every model was judged, a report would tell of a few


class Key(NamedTuple):
    """Names what is to be reconciled."""

    kind: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


INSTALLATION = Key("Installation")
UNWATCHED = Key("Unwatched")
REPORTS = Key("Reports")
BACKSTOP = Key("Backstop")
STANDING = Key("Standing")


@dataclass(frozen=True)
class _Seen:
    """What of an object its reconciling depends on.

    Its status is not: that is what reconciling writes. But for what a policy excuses: when an exception ends, the
    models that it excused are judged again.
    """

    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    leaving: bool
    excuses: str

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> _Seen:
        metadata = item["metadata"]
        return cls(
            metadata.get("generation", 0),
            dict(metadata.get("labels") or {}),
            dict(metadata.get("annotations") or {}),
            "deletionTimestamp" in metadata,
            json.dumps((item.get("status") or {}).get("activeExceptions") or ()),
        )


class Operator:
    """Hears of changes, and has the right things reconciled."""

    def __init__(
        self,
        cluster: Cluster,
        installation: Installation,
        resync_seconds: float = RESYNC_SECONDS,
        *,
        backstop: bool = True,
    ) -> None:
        recorder = Recorder(cluster)
        self._installation = installation
        self._installed: Installed | None = None
        self.unwatched = UnwatchedPods(cluster, recorder, self.installed, self._pods_changed)
        self._ledger = Ledger()
        self._emitters = Emitters(self.installed)
        self._lineage = Lineage(cluster, self._emitters)
        self._incidents = Incidents(cluster, recorder, self.installed, lineage=self._lineage, kept=self._keeps)
        self._tests = SecurityTests(cluster, self.installed, self._incidents)
        self._models = Models(
            cluster,
            recorder,
            self.installed,
            unwatched=self.unwatched.of,
            ledger=self._ledger,
            seen=self._incidents.of,
            lineage=self._lineage,
            tests=self._tests,
        )
        self._policies = Policies(cluster, recorder, self._ledger.governed)
        self._reports = Reports(cluster)
        self._backstop = Backstop(cluster, recorder, installation.namespace) if backstop else None
        self._standing = Standing(cluster, recorder, installation.namespace)
        self._settled = 0.0
        self._queue = WorkQueue(self._reconcile)
        self._looks = WorkQueue(self._look)  # apart: a pod that does not answer must keep no model waiting
        self._resync_seconds = resync_seconds
        self._seen: dict[Key, _Seen] = {}

    def installed(self) -> Installed:
        """What the installation has, as of its last reconciling."""
        if self._installed is None:
            raise RuntimeError("the installation has not been reconciled yet")
        return self._installed

    def _keeps(self, namespace: str, name: str) -> bool:
        return self._models.keeps(namespace, name)  # which are made after what asks

    async def prepare(self) -> None:
        """Bring the installation about; nothing can be made for a model before."""
        self._installed = await self._installation.reconcile()

    def work(self) -> list[Coroutine[None, None, None]]:
        """Return what is to run, side by side, until cancelled."""
        return [*self._queue.work(), *self._looks.work(), self._resync(), self._look_for_unwatched()]

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        installed = self._installed
        expiry = {'{certificate="authority"}': installed.authority.current.expires.timestamp()} if installed else {}
        return {
            "modelward_policy_violations": (
                "Rules that ModelDeployments break now.",
                {f'{{rule="{rule}"}}': count for rule, count in self._ledger.rules().items()},
            ),
            "modelward_unwatched_pods": (
                "Pods that should be watched by a sidecar and are not.",
                {f'{{namespace="{name}"}}': count for name, count in self.unwatched.counts.items()},
            ),
            "modelward_certificate_expiry_seconds": ("When a certificate ends, in Unix time.", expiry),
            **self._incidents.metrics(),
            **self._lineage.metrics(),
            **self._tests.metrics(),
            **self._policies.metrics(),
            **self._reports.metrics(),
            **self._standing.metrics(),
            **(self._backstop.metrics() if self._backstop else {}),
        }

    def saw(self, kind: str, item: Mapping[str, Any], *, gone: bool) -> None:
        """Hear of an object that is there, changed, or is gone."""
        metadata = item["metadata"]
        key = Key(kind, metadata.get("namespace", ""), metadata["name"])
        if kind in KINDS:
            model = (metadata.get("labels") or {}).get(MODEL_LABEL)
            if model:
                self._queue.add(Key("ModelDeployment", key.namespace, model))
            return
        if self._changed(key, item, gone=gone):
            self._react(key)

    def _react(self, key: Key) -> None:
        if key.kind == "Namespace":
            self._queue.add(UNWATCHED, _LOOK_DELAY_SECONDS)
        else:
            self._queue.add(key)
        if key.kind == "ModelDeployment":
            self._looks.add(key)
        if key.kind != "ModelDeployment":
            # A namespace's name is its key's; a cluster-wide policy concerns every namespace.
            place = {"Namespace": key.name, "DataPolicy": key.namespace}.get(key.kind, "")
            for other in self._known("ModelDeployment"):
                if place in ("", other.namespace):
                    self._queue.add(other)

    def _forget(self, key: Key) -> None:
        self._seen.pop(key, None)
        if key.kind == "ModelDeployment":
            self._count(key, self._ledger.drop(key.namespace, key.name), None)

    def _count(self, key: Key, before: Judged | None, after: Judged | None) -> None:
        """Have the counts of a model's policies and of its namespace's report follow what is said of it."""
        if before == after:
            return
        names = {name for said in (before, after) if said for name in said.policies}
        for policy in (*self._known("DataPolicy"), *self._known("ClusterDataPolicy")):
            if str(policy) in names:
                self._queue.add(policy, _COUNTING_DELAY_SECONDS)
        self._report(key.namespace)

    def _report(self, namespace: str) -> None:
        until_settled = self._settled - asyncio.get_running_loop().time()
        self._queue.add(Key("Report", namespace), max(_COUNTING_DELAY_SECONDS, until_settled))

    def _changed(self, key: Key, item: Mapping[str, Any], *, gone: bool) -> bool:
        if gone:
            self._forget(key)
            return True
        seen = _Seen.of(item)
        if self._seen.get(key) == seen:
            return False
        self._seen[key] = seen
        return True

    def _known(self, kind: str) -> list[Key]:
        return [key for key in self._seen if key.kind == kind]

    async def _reconcile(self, key: Key) -> None:
        if key == INSTALLATION:
            await self.prepare()
            return
        if key == UNWATCHED:
            await self._look_at_pods()
            return
        if key == STANDING:
            await self._standing.look()
            return
        if key == BACKSTOP and self._backstop:
            await self._backstop.reconcile()
            return
        if key == REPORTS:
            for namespace in await self._reports.namespaces():
                self._queue.add(Key("Report", namespace))
            return
        if key.kind == "Report":
            unwatched = self.unwatched.counts.get(key.namespace, 0)
            await self._reports.reconcile(key.namespace, self._ledger.within(key.namespace), unwatched)
            return
        try:
            if key.kind == "ModelDeployment":
                again = await self._model(key)
            else:
                again = await self._policies.reconcile(*key)
        except GoneError:  # deleted while the stream was down, perhaps: nobody told
            self._forget(key)
            return
        if again is not None and again < self._resync_seconds:
            self._queue.add(key, again)

    def _protected(self) -> list[str]:
        """Namespaces in which every pod is to be watched."""
        return [
            key.name
            for key, seen in self._seen.items()
            if key.kind == "Namespace"
            and seen.labels.get(PROTECTED_LABEL) == "true"
            and key.name not in ("kube-system", SYSTEM_NAMESPACE)
        ]

    async def _look(self, key: Key) -> None:
        """Ask a model's sidecars what they have to tell, and go on asking for as long as it is there."""
        changed, again = await self._incidents.look(key.namespace, key.name)
        if changed:
            self._queue.add(key)
        if again is not None:
            self._looks.add(key, again)

    def _pods_changed(self, namespace: str, model: str) -> None:
        self._queue.add(Key("ModelDeployment", namespace, model))

    async def _look_at_pods(self) -> None:
        before = self.unwatched.counts
        await self.unwatched.look(self._protected())
        after = self.unwatched.counts
        for namespace in {*before, *after}:
            if before.get(namespace, 0) != after.get(namespace, 0):
                self._report(namespace)

    async def _look_for_unwatched(self) -> None:
        while True:
            await asyncio.sleep(SCAN_SECONDS)
            self._queue.add(UNWATCHED)

    async def _model(self, key: Key) -> float | None:
        before = self._ledger.get(key.namespace, key.name)
        try:
            return await self._models.reconcile(key.namespace, key.name)
        finally:  # it may have been judged, and what is made of that may have failed
            self._count(key, before, self._ledger.get(key.namespace, key.name))

    async def _resync(self) -> None:
        """Look at everything again from time to time.

        Certificates come due and exceptions end without any event, and the ConfigMaps and Secrets that models refer to
        are not watched: that would take the right to list every Secret of the cluster.
        """
        self._settled = asyncio.get_running_loop().time() + _SETTLING_SECONDS
        self._queue.add(REPORTS, _SETTLING_SECONDS)  # of namespaces that lost their last model meanwhile
        while True:
            self._queue.add(STANDING)
            if self._backstop:
                self._queue.add(BACKSTOP)
            await asyncio.sleep(self._resync_seconds)
            self._queue.add(INSTALLATION)
            for key in list(self._seen):
                if key.kind != "Namespace":
                    self._queue.add(key)
                if key.kind == "ModelDeployment":
                    self._queue.add(Key("Report", key.namespace))
