"""Has baselines fitted in the cluster: makes the Job, fetches what it fitted, checks it, and keeps it in a Secret.

Nothing that matters is kept in memory. What was fitted for which request is written on the Secret; a Job is named by
its request, so another data set, policy or list of columns is another Job, and the same one is never run twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from modelward import errand
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY
from modelward.controller.apply import ensure
from modelward.controller.asking import Asked, Asker, AskingError
from modelward.controller.certificates import issue
from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installed
from modelward.controller.observe import waiting_because
from modelward.errand import FitRequest
from modelward.planner.dataset import Dataset, DatasetError
from modelward.planner.fit_job import (
    CONTAINER_NAME,
    DIGEST_ANNOTATION,
    baseline_name,
    baseline_secret,
    fit_job,
    fit_network_policy,
    fit_secret,
    host_name,
    is_fit,
    job_name,
    not_allowed,
)
from modelward.planner.fit_request import dataset_of, fit_request
from modelward.planner.names import KubeObject, controls, metadata, namespace_of, ours
from modelward.planner.observation import Obstacle
from modelward.planner.own_job import OF_JOB_LABEL, job_failure
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate
from modelward.planner.sidecar import JOB_FOR_LABEL
from modelward.privacy.hierarchy import HierarchyError

_REMEMBERED = 4096


class Fits:
    """Brings the baselines about that ModelDeployments want fitted."""

    def __init__(
        self,
        cluster: Cluster,
        installed: Callable[[], Installed],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        port: int = errand.PORT,
    ) -> None:
        self._cluster = cluster
        self._installed = installed
        self._clock = clock
        self._asker = Asker(lambda: installed().signing_key.sign, port, seconds=30.0)
        self._sound: OrderedDict[tuple[object, ...], None] = OrderedDict()  # what was looked at and found well

    async def baseline(
        self, md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References
    ) -> bytes | Obstacle:
        """Return the baseline that was fitted for a model as it is now, or why there is none yet.

        Raises:
            ApiError: the API server refused or did not answer.
            NameTakenError: an object of that name is somebody else's.
        """
        settings = self._installed().settings
        try:
            dataset, request = dataset_of(md), fit_request(md, policies, references)
        except DatasetError as error:
            return Obstacle("BaselineFitFailed", f"spec.monitoring.baseline.dataset: {error}")
        except HierarchyError as error:
            return Obstacle("ReferenceUnusable", str(error))
        if why := not_allowed(dataset, settings.access.datasets):
            return Obstacle("AddressNotAllowed", f"spec.monitoring.baseline.dataset: {why}")
        kept = await self._kept(md, request)
        if kept is not None:
            return kept
        if not settings.jobs_image:
            return Obstacle(
                "BaselineFitFailed", "this installation names no image for Jobs: set the chart's value images.jobs"
            )
        job = await self._cluster.get("Job", namespace_of(md), job_name(md.metadata.name, request))
        if job is None:
            await self._begin(md, request, dataset)
            return Obstacle("BaselineFitting", f"Job {job_name(md.metadata.name, request)} was made")
        return await self._look(md, request, job)

    @staticmethod
    def request(md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References) -> FitRequest | None:
        """Return what is to be fitted for a model as it is now; None: it cannot be said."""
        try:
            return fit_request(md, policies, references)
        except (DatasetError, HierarchyError):
            return None

    async def _kept(self, md: ModelDeployment, request: FitRequest) -> bytes | None:
        """What was fitted for this request before, as long as it is what this version can use."""
        name = baseline_name(md.metadata.name)
        there = await self._cluster.get("Secret", namespace_of(md), name)
        if there is None or not ours(there, {"metadata": metadata(md, name)}):
            return None
        if (there["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION) != request.digest:
            return None
        content = References(secrets={name: there}).content("Secret", name, BASELINE_KEY)
        return content if content and not await self._fault(content, request, md) else None

    async def _begin(self, md: ModelDeployment, request: FitRequest, dataset: Dataset) -> None:
        """Make the Job, and before it whatever its pod needs and is held by."""
        installed = self._installed()
        settings = installed.settings
        host = host_name(namespace_of(md), md.metadata.name)
        pair = issue(installed.authority, [host], self._clock())
        certificate = ServingCertificate(pair.chain, pair.key, installed.authority.bundle)
        datasets = settings.access.datasets
        for item in (
            fit_network_policy(md, request, datasets),
            fit_secret(md, request, certificate, datasets),
            fit_job(md, request, dataset, settings.jobs_image, settings.config_key),
        ):
            await ensure(self._cluster, item)

    async def _look(self, md: ModelDeployment, request: FitRequest, job: KubeObject) -> bytes | Obstacle:
        name = job["metadata"]["name"]
        if not ours(job, {"metadata": metadata(md, name)}):
            return Obstacle("NameTaken", f"Job {name} was not made for this ModelDeployment: delete it")
        # Who else writes a pod may give it these labels and this owner; not JOB_LABEL, which admission keeps.
        pods = await self._cluster.find("Pod", namespace_of(md), {OF_JOB_LABEL: name, JOB_FOR_LABEL: md.metadata.name})
        image = job["spec"]["template"]["spec"]["containers"][0]["image"]
        pods = [pod for pod in pods if controls(job["metadata"]["uid"], pod) and is_fit(pod, image)]
        told = job_failure(job, pods, CONTAINER_NAME)
        if told:
            return Obstacle("BaselineFitFailed", f"Job {name}: {told}")
        running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
        for pod in running:
            if pod["status"].get("podIP"):
                found = await self._fetch(md, request, pod["status"]["podIP"])
                if found is not None:
                    return found
        waits = "; ".join(reason for pod in pods for reason in waiting_because(pod))
        return Obstacle(
            "BaselineFitting", f"Job {name} {'runs' if running else 'waits'}" + (f": {waits}" if waits else "")
        )

    async def _fetch(self, md: ModelDeployment, request: FitRequest, address: str) -> bytes | Obstacle | None:
        """Fetch a baseline; None where the pod does not answer, as it does not while it fits."""
        namespace, name = namespace_of(md), md.metadata.name
        whom = Asked(address, request.model, host_name(namespace, name), self._installed().authority.bundle)
        try:
            answer = await self._asker.ask(whom, "GET", errand.BASELINE, max_bytes=errand.MAX_BASELINE_BYTES)
        except AskingError as error:
            return Obstacle("BaselineFitFailed", f"the baseline: {error}") if "bytes" in str(error) else None
        if answer.status != 200 or answer.headers.get(errand.DIGEST_HEADER) != request.digest:
            return None  # it is for what was asked before: its Secret was read before it was written anew
        fault = await self._fault(answer.content, request, md)
        if fault:
            return Obstacle("BaselineFitFailed", f"what the Job fitted is refused: {fault}")
        await ensure(self._cluster, baseline_secret(md, request, BASELINE_KEY, answer.content))
        with contextlib.suppress(AskingError):  # then it waits until its time is over
            await self._asker.ask(whom, "DELETE", errand.BASELINE)
        return answer.content

    async def _fault(self, content: bytes, request: FitRequest, md: ModelDeployment) -> str:
        """What is wrong with a baseline; nothing where it may go into a signed configuration."""
        detectors = tuple((one.type, one.false_positive_rate) for one in _detectors(md))
        key = (hashlib.sha256(content).digest(), request.digest, detectors)
        if key in self._sound:
            return ""
        fault = await asyncio.to_thread(_fault_of, content, request, detectors)
        if not fault:
            self._sound[key] = None
            if len(self._sound) > _REMEMBERED:
                self._sound.popitem(last=False)
        return fault


def _detectors(md: ModelDeployment) -> Sequence[Any]:
    return md.spec.monitoring.detectors if md.spec.monitoring else ()


def _fault_of(content: bytes, request: FitRequest, detectors: Sequence[tuple[str, float]]) -> str:
    # numpy is for those who fit
    from modelward.detect.baseline import BaselineError, from_bytes  # noqa: PLC0415
    from modelward.detect.detectors import ENSEMBLE, KINDS  # noqa: PLC0415

    if len(content) > errand.MAX_BASELINE_BYTES:
        return f"it has {len(content):,} bytes, and a Secret holds {errand.MAX_BASELINE_BYTES:,}"
    try:
        baseline = from_bytes(content)
        for detector, rate in detectors:
            if detector in (*KINDS, ENSEMBLE):  # the others learn as they go
                baseline.threshold(detector, rate)
    except BaselineError as error:
        return str(error)
    if request.columns and tuple(baseline.columns) != request.columns:
        return "its columns are not those that were asked for"
    if request.sha256 and baseline.origin.data_sha256 != request.sha256:
        return "it was fitted on other data"
    return ""
