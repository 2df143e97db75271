"""Has models tested: makes the Job when a test is due, brings it its token, fetches its report, and keeps it.

Nothing that matters is kept in memory. What came of the last run is in the model's status, the whole report in a
ConfigMap; a Job says what it was asked, and only the controller can write one. So a controller that takes over goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec

from modelward import errand, securitytest
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import canonical
from modelward.attack.report import MAX_BYTES, ReportError, SecurityTestReport, read
from modelward.controller.apply import NameTakenError, ensure
from modelward.controller.asking import Asked, Asker, AskingError
from modelward.controller.certificates import issue, issue_client
from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installed
from modelward.controller.observe import waiting_because
from modelward.controller.security_test_metrics import security_test_metrics
from modelward.planner.names import KubeObject, controls, metadata, namespace_of, ours
from modelward.planner.own_job import OF_JOB_LABEL, job_failure
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate
from modelward.planner.security_test import (
    CONTAINER_NAME,
    KIND,
    REQUEST_ANNOTATION,
    due,
    host_name,
    is_test,
    job_name,
    request_of,
    rule_of_tester,
    security_test_job,
    security_test_name,
    security_test_network_policy,
    security_test_secret,
    url_of,
)
from modelward.planner.security_test_report import (
    REPORT_KEY,
    errored_status,
    following,
    report_map,
    security_test_status,
)
from modelward.planner.sidecar import JOB_FOR_LABEL, JOB_LABEL, MODEL_LABEL
from modelward.planner.tested import LastTest, asked_of, subject_digest, tools_digest
from modelward.planner.upstream import port_of
from modelward.securitytest import Errand, Request

AT_ONCE = 4
"""Tests of a whole cluster that run at the same time."""
OF_NAMESPACE = 3
"""And of one namespace: a Job whose pod does not start, for want of a quota, lasts half an hour."""
_CLIENT_NAME = "security-test.modelward.internal"  # no access rule names it
_CLIENT_VALIDITY = timedelta(seconds=2 * securitytest.SECONDS)


@dataclass(frozen=True)
class Loaded:
    """A pod whose sidecar answers: where, and the digest of the configuration that it goes by."""

    address: str
    configuration: str


class Sidecars(Protocol):
    """Who asks models' sidecars."""

    async def loaded(self, raw: KubeObject) -> list[Loaded]:
        """Return some of a model's ready pods, and which configuration each of them goes by."""

    async def authorities(self, raw: KubeObject) -> bytes:
        """Return who vouches for a model's serving certificate, PEM."""


class SecurityTests:
    """Brings the security tests about that owners and policies ask for."""

    def __init__(
        self,
        cluster: Cluster,
        installed: Callable[[], Installed],
        sidecars: Sidecars,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        port: int = errand.PORT,
    ) -> None:
        self._cluster = cluster
        self._installed = installed
        self._sidecars = sidecars
        self._clock = clock
        self._asker = Asker(lambda: installed().signing_key.sign, port)
        self._told: dict[tuple[str, str], Mapping[str, Any]] = {}  # of each model, for metrics
        self._beginning = asyncio.Lock()  # models are looked at side by side, and each counts the others' Jobs

    async def look(
        self,
        md: ModelDeployment,
        raw: KubeObject,
        policies: Sequence[KubeObject],
        references: References,
        pods: Sequence[Mapping[str, Any]],
    ) -> LastTest:
        """Return what is known of a model's test, once what there is to fetch was fetched.

        Raises:
            ApiError: the API server refused or did not answer.
        """
        place = (namespace_of(md), md.metadata.name)
        asked = asked_of(md, policies)
        if asked is None:
            self._told.pop(place, None)
            return LastTest()
        last: Mapping[str, Any] | None = (raw.get("status") or {}).get("lastSecurityTest")
        found = LastTest(asked, subject_digest(md, references, pods), last)
        jobs = await self._cluster.find("Job", place[0], {MODEL_LABEL: place[1], JOB_LABEL: KIND})
        for job in sorted(jobs, key=lambda one: str(one["metadata"].get("creationTimestamp", ""))):
            found = await self._settle(md, raw, job, found)
        if found.last is not None:
            self._told[place] = found.last
        return found

    async def begin(
        self, md: ModelDeployment, raw: KubeObject, policies: Sequence[KubeObject], tested: LastTest, configuration: str
    ) -> LastTest:
        """Begin a test where one is due, and nothing keeps it from being done; return what is to be said of it.

        Args:
            md: the ModelDeployment.
            raw: the same as the API server has it.
            policies: those that govern it.
            tested: what `look` has found.
            configuration: digest of what its sidecars are to go by: others are not tested.

        Raises:
            ApiError: the API server refused or did not answer.
            NameTakenError: an object of that name is somebody else's.
        """
        settings = self._installed().settings
        tools = tools_digest(policies, settings.sidecar_image, settings.jobs_image)
        what = due(tested, tools, md.metadata.uid or "", self._clock())
        if tested.asked is None or tested.now or what is None:
            return tested
        if rule_of_tester(md) is None:
            return replace(
                tested, now="a test is due, and nobody may ask: no rule of spec.access lets anyone Infer", waits=True
            )
        if not settings.jobs_image:
            return replace(tested, now="a test is due, and this installation names no image for Jobs", waits=True)
        full = await self._full(namespace_of(md))
        if full:  # before any sidecar is asked: after an upgrade all models of a cluster are due at once
            return _waits_for(tested, full)
        ready = [one for one in await self._sidecars.loaded(raw) if one.configuration == configuration]
        if not ready:
            told = "a test is due, and no ready pod goes by the latest configuration yet"
            return replace(tested, now=told, waits=not tested.gated)
        request = Request(
            f"{namespace_of(md)}/{md.metadata.name}",
            md.metadata.uid or "",
            tested.asked.suite,
            tested.subject,
            tools,
            what.run,
        )
        authority = self._installed().authority
        pair = issue(authority, [host_name(namespace_of(md), md.metadata.name)], self._clock())
        async with self._beginning:
            full = await self._full(namespace_of(md))
            if full:
                return _waits_for(tested, full)
            for item in (
                security_test_network_policy(md),
                security_test_secret(md, ServingCertificate(pair.chain, pair.key, authority.bundle)),
                security_test_job(md, request, ready[0].address, settings.jobs_image, settings.config_key),
            ):
                await ensure(self._cluster, item)
        return replace(tested, now=f"Job {job_name(md.metadata.name, request)} was made: {what.why}")

    def gone(self, namespace: str, name: str) -> None:
        """Forget a model that is deleted."""
        self._told.pop((namespace, name), None)

    def metrics(self) -> dict[str, tuple[str, dict[str, float]]]:
        """Return what is told to Prometheus; see `health.Metrics`."""
        return security_test_metrics(self._told)

    async def _full(self, namespace: str) -> str:
        """Which tests have to end before another may begin; empty: none."""
        jobs = await self._cluster.find("Job", labels={JOB_LABEL: KIND})
        places = [job["metadata"]["namespace"] for job in jobs if not _over(job)]
        if len(places) >= AT_ONCE:
            return f"{AT_ONCE} others"
        return f"{OF_NAMESPACE} others of this namespace" if places.count(namespace) >= OF_NAMESPACE else ""

    async def _settle(self, md: ModelDeployment, raw: KubeObject, job: KubeObject, found: LastTest) -> LastTest:
        """Take in what there is of a Job that was not taken in yet."""
        request, last = request_of(job, md), found.last
        if request is None or not ours(job, {"metadata": metadata(md, job["metadata"]["name"])}):
            return found
        if last is not None and last.get("run") == request.digest:
            return found
        if job["spec"]["template"]["spec"]["containers"][0]["image"] != self._installed().settings.jobs_image:
            return found  # of the version before: its pod is none of ours by now, and a test by this one is due
        if not _over(job):
            return await self._ask(md, raw, job, request, found)
        made = job["metadata"].get("creationTimestamp", "")
        if last is not None and made and datetime.fromisoformat(made) < datetime.fromisoformat(last["finishedAt"]):
            return found  # one of before
        report = await self._kept(md, request)
        if report is not None:  # fetched by a controller that did not come to say so
            return replace(found, last=self._status(md, request, report, last))
        pods = await self._pods(md, job)
        return self._errored(found, md, request, job_failure(job, pods, CONTAINER_NAME) or "its Job left no report")

    async def _pods(self, md: ModelDeployment, job: KubeObject) -> list[KubeObject]:
        which = {OF_JOB_LABEL: job["metadata"]["name"], JOB_FOR_LABEL: md.metadata.name}
        pods = await self._cluster.find("Pod", namespace_of(md), which)
        image = self._installed().settings.jobs_image
        return [pod for pod in pods if controls(job["metadata"]["uid"], pod) and is_test(pod, image)]

    async def _ask(
        self, md: ModelDeployment, raw: KubeObject, job: KubeObject, request: Request, found: LastTest
    ) -> LastTest:
        """Ask the pod of a Job how far it is: tell it what to do, or take its report."""
        name, pods = job["metadata"]["name"], await self._pods(md, job)
        running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        for address in (pod["status"]["podIP"] for pod in running if pod["status"].get("podIP")):
            whom = Asked(
                address,
                request.model,
                host_name(namespace_of(md), md.metadata.name),
                self._installed().authority.bundle,
            )
            try:
                answer = await self._asker.ask(whom, "GET", securitytest.PATH, max_bytes=MAX_BYTES)
                if answer.status == 404:
                    errand_ = await self._errand(md, raw, request, address)
                    answer = await self._asker.ask(whom, "POST", securitytest.PATH, msgspec.json.encode(errand_))
            except AskingError:
                continue  # it does not listen yet
            if answer.status == 200 and answer.headers.get(errand.DIGEST_HEADER) == request.digest:
                return await self._take(md, whom, request, answer.content, found)
            return replace(found, now=f"Job {name} runs")
        waits = "; ".join(reason for pod in pods for reason in waiting_because(pod))
        if not pods:
            waits = f"it has no pod yet; where it gets none, `kubectl describe job {name}` says why"
        return replace(found, now=f"Job {name} begins" + (f": {waits}" if waits else ""))

    async def _errand(self, md: ModelDeployment, raw: KubeObject, request: Request, address: str) -> Errand:
        installed, now = self._installed(), self._clock()
        stranger, *tokens = (
            securitytest.token(installed.signing_key.sign, request, number, address, now.timestamp())
            for number in (securitytest.STRANGER, *range(1, securitytest.CALLERS + 1))
        )
        in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
        asks = in_transit is not None and in_transit.mode == "MutualTLS"
        pair = issue_client(installed.authority, _CLIENT_NAME, now, _CLIENT_VALIDITY) if asks else None
        manifest = {key: value for key, value in canonical(md).items() if key != "status"}
        return Errand(
            request,
            url_of(md),
            (await self._sidecars.authorities(raw)).decode("utf-8", "replace"),
            tuple(tokens),
            stranger,
            manifest,
            port_of(md) or 0,
            pair.chain.decode() if pair else "",
            pair.key.decode() if pair else "",
        )

    async def _take(
        self, md: ModelDeployment, whom: Asked, request: Request, content: bytes, found: LastTest
    ) -> LastTest:
        """Take a report, as hostile: it is held to what was asked, and kept before the Job may end."""
        try:
            report = read(content)
        except ReportError as error:
            return self._errored(found, md, request, f"what the Job reports is refused: {error}")
        if report.suite != request.suite:
            return self._errored(found, md, request, f"the Job reports of the suite {report.suite}")
        try:
            await ensure(self._cluster, report_map(md, request, report))
        except NameTakenError as error:
            return self._errored(found, md, request, f"its report has no place: {error}")
        with suppress(AskingError):  # then it waits until its time is over
            await self._asker.ask(whom, "DELETE", securitytest.PATH)
        return replace(found, last=self._status(md, request, report, found.last))

    async def _kept(self, md: ModelDeployment, request: Request) -> SecurityTestReport | None:
        """The report of this very run, if it was kept."""
        name = security_test_name(md.metadata.name)
        there = await self._cluster.get("ConfigMap", namespace_of(md), name)
        if there is None or not ours(there, {"metadata": metadata(md, name)}):
            return None
        if (there["metadata"].get("annotations") or {}).get(REQUEST_ANNOTATION) != request.to_bytes().decode():
            return None
        try:
            return read(str((there.get("data") or {}).get(REPORT_KEY, "")).encode())
        except ReportError:
            return None

    def _status(
        self, md: ModelDeployment, request: Request, report: SecurityTestReport, before: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        return following(security_test_status(request, report, _image(md), self._clock()), before)

    def _errored(self, found: LastTest, md: ModelDeployment, request: Request, why: str) -> LastTest:
        return replace(found, last=errored_status(request, why, _image(md), self._clock(), found.last))


def _waits_for(tested: LastTest, others: str) -> LastTest:
    return replace(tested, now=f"a test is due, and waits until one of {others} has ended", waits=True)


def _image(md: ModelDeployment) -> str:
    return md.spec.model.image if md.spec.model else ""


def _over(job: KubeObject) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)
