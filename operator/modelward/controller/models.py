"""Reconciles ModelDeployments: from what is wanted and what is there, each time anew, to what is to be written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import baseline_reference
from modelward.api.validate import SchemaError, parse
from modelward.controller.apply import NameTakenError, carry_out, ensure
from modelward.controller.cases import Case, Cases
from modelward.controller.certificates import CertificateError
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.emitters import Emitters
from modelward.controller.events import Recorder
from modelward.controller.fits import Fits
from modelward.controller.incidents import Incidents
from modelward.controller.installation import Installed
from modelward.controller.ledger import Ledger
from modelward.controller.lineage import Lineage
from modelward.controller.observe import observe
from modelward.controller.queue import GoneError
from modelward.controller.security_tests import SecurityTests
from modelward.controller.serving import serving_certificate
from modelward.controller.targets import Targets
from modelward.detect.origin import known_of
from modelward.lineage.subject import Fit
from modelward.planner.anonymity import of_requests
from modelward.planner.audit import kept_for
from modelward.planner.auditors_word import word_of, words_of
from modelward.planner.fit_request import fitted_in_cluster
from modelward.planner.monitored import Watch, max_age_days
from modelward.planner.names import KubeObject, controls, labels, namespace_of
from modelward.planner.observation import Observation, Obstacle
from modelward.planner.plan import Material, plan
from modelward.planner.report import UNREADABLE
from modelward.planner.service import service
from modelward.planner.sidecar import config_map_name
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.sightings import Seen
from modelward.planner.status import invalid_status, status, withheld
from modelward.planner.status_news import status_news
from modelward.planner.treatment import treats_otherwise
from modelward.planner.upstream import ports_of
from modelward.privacy.keys import derive

_LOOK_AGAIN_SECONDS = 5.0
_REFUSALS = (400, 403, 413, 422)  # trying again alone mends none of these: quota, admission, size, immutable fields
# Each may be mended without the ModelDeployment changing; a name is also taken while what bore it is being deleted.
_AWAITED = (
    *(
        "BaselineFitting",
        "BaselineFitFailed",
        "ApplyFailed",
        "ReferenceMissing",
        "ReferenceUnusable",
        "AddressNotAllowed",
        "NameTaken",
    ),
    *("TargetMissing", "TargetTaken", "TargetUnsuitable", "TargetImmutable"),
)


class Models:
    """Reconciles one ModelDeployment at a time."""

    def __init__(
        self,
        cluster: Cluster,
        recorder: Recorder,
        installed: Callable[[], Installed],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        unwatched: Callable[[str, str], tuple[str, ...]] = lambda *_: (),
        ledger: Ledger | None = None,
        fits: Fits | None = None,
        seen: Callable[[str, str], Seen | None] = lambda *_: None,
        lineage: Lineage | None = None,
        tests: SecurityTests | None = None,
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._installed = installed
        self._clock = clock
        self._unwatched = unwatched  # names of a model's pods that run without their sidecar
        self._ledger = ledger or Ledger()
        self._targets = Targets(cluster)
        self._tests = tests or SecurityTests(cluster, installed, Incidents(cluster, recorder, installed, clock), clock)
        self._cases = Cases(cluster, installed, clock, self._ledger, self._targets, self._tests)
        self._look_at = seen  # what the sidecars told last
        self._lineage = lineage or Lineage(cluster, Emitters(installed))
        self._fits = fits or Fits(cluster, installed, clock)
        self._kept: dict[tuple[str, str], bool] = {}

    def keeps(self, namespace: str, name: str) -> bool:
        """Whether policies have counts of a model's groups told to auditors alone; so it is until they were read."""
        return self._kept.get((namespace, name), True)

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Bring a ModelDeployment about, and tell in its status what came of it.

        Returns:
            In how many seconds to look again, where something is awaited that is not watched.

        Raises:
            GoneError: there is no such ModelDeployment any more.
            ApiError: the API server did not answer, or not as it should; to be tried again.
        """
        raw = await self._cluster.get("ModelDeployment", namespace, name)
        if raw is None or "deletionTimestamp" in raw["metadata"]:
            # The garbage collector removes what was made for it; what was somebody else's is given back.
            await self._targets.release(namespace, name)
            if raw is None:
                self._tests.gone(namespace, name)
                self._kept.pop((namespace, name), None)
                raise GoneError
            return None
        try:
            md = _parsed(raw)
        except SchemaError as error:
            self._ledger.put(namespace, name, UNREADABLE)
            await self._tell(raw, invalid_status(raw, str(error), self._clock()))
            return None
        await self._give_back(md, raw)
        observation = replace(await self._bring_about(md, raw), served=self._lineage.of(namespace, name))
        await self._tell(raw, status(md, raw, observation, self._clock()))
        awaits = observation.obstacle is not None and observation.obstacle.reason in _AWAITED
        return _LOOK_AGAIN_SECONDS if awaits else observation.test.look_again

    async def _give_back(self, md: ModelDeployment, raw: KubeObject) -> None:
        """Give back the workload that was protected before another was named."""
        before = (raw.get("status") or {}).get("target")
        ref = md.spec.target_ref
        if before and (ref is None or (ref.kind, ref.name) != (before["kind"], before["name"])):
            await self._targets.release_other(namespace_of(md), md.metadata.name, before)

    async def _bring_about(self, md: ModelDeployment, raw: KubeObject) -> Observation:
        case = await self._cases.of(md, raw)
        await self._lineage.judged(raw, case.policies)
        observation = self._found(case)
        installed = self._installed()
        configuration = ""
        try:
            serving = await serving_certificate(
                self._cluster, md, case.references, installed, self._clock(), case.found.hosts
            )
        except CertificateError as error:
            obstacle = observation.obstacle or Obstacle("CertificateInvalid", str(error))
            return await self._seen(case, replace(observation, obstacle=obstacle))
        try:
            if observation.obstacle is None and fitted_in_cluster(md):
                fitted = await self._fits.baseline(md, case.policies, case.references)
                await self._tell_fit(case, fitted)
                if isinstance(fitted, Obstacle):
                    observation = replace(observation, obstacle=fitted)
                else:
                    case = replace(case, references=replace(case.references, fitted=fitted))
            if observation.obstacle is None:
                await self._lineage.hold_name(raw)
                keys = derive(installed.pseudonym_masters, namespace_of(md)).to_bytes()
                material = Material(serving.certificate, installed.signing_key.sign, keys)
                closed = withheld(md, observation)
                target = case.found.target
                port = target.port if target else None
                wanted = plan(
                    md,
                    case.policies,
                    case.references,
                    material,
                    installed.settings,
                    withheld=closed,
                    port=port,
                    replicas=case.found.replicas,
                )
                await carry_out(self._cluster, wanted, namespace_of(md))
                configuration = wanted.configuration
                if target:  # its pods come to need what was made just now
                    await self._targets.protect(target)
                await self._lineage.deployed(raw, case.policies)
            elif serving.there:  # what runs is kept as it is, with a certificate that holds
                await serving.write(self._cluster, md)
        except NameTakenError as error:
            return replace(observation, obstacle=Obstacle("NameTaken", str(error)))
        except ApiError as error:
            if error.status not in _REFUSALS:
                raise
            observation = replace(observation, obstacle=Obstacle("ApplyFailed", str(error)))
        except SidecarConfigError as error:
            observation = replace(observation, obstacle=Obstacle(error.reason, str(error)))
        observation = await self._kept_away(case, observation)
        if serving.renews:
            told = f"serving certificate {serving.source}, valid until {serving.ends}"
            await self._recorder.record(raw, "Normal", "CertificateRotated", told)
        observation = replace(observation, watch=self._watch(case))
        serves = observation.obstacle is None or serving.there
        source, ends = (serving.source, serving.ends) if serves else ("", "")
        observation = await self._seen(case, replace(observation, certificate=source, certificate_ends=ends))
        return await self._tested(case, observation, configuration)

    def _found(self, case: Case) -> Observation:
        """What policies say of it, and what was said of it: before anything is made."""
        md, now, kept = case.md, self._clock(), kept_for(case.policies)
        self._kept[namespace_of(md), md.metadata.name] = bool(kept)  # even where sidecars cannot be told to keep them
        controller = self._installed().signing_key.public_key().public_bytes_raw().hex()
        words = words_of(case.raw, case.policies, case.references, now, controller)
        return Observation(
            verdict=case.verdict,
            readiness=case.readiness,
            signatures=case.signatures,
            obstacle=case.obstacle,
            test=case.test,
            anonymity=of_requests(md, case.policies),
            kept=kept,
            words=words,
            word=word_of(words, md, case.policies, now),
        )

    async def _tested(self, case: Case, observation: Observation, configuration: str) -> Observation:
        """Begin a security test where one is due, of pods that are there as they should be."""
        rollout = observation.rollout
        if observation.obstacle is not None or rollout is None or not rollout.done or not rollout.ready:
            return observation
        try:
            test = await self._tests.begin(case.md, case.raw, case.policies, observation.test, configuration)
        except NameTakenError as error:
            test = replace(observation.test, now=f"a test is due, and cannot be made: {error}", waits=True)
        except ApiError as error:
            if error.status not in _REFUSALS:
                raise
            test = replace(observation.test, now=f"a test is due, and cannot be made: {error}", waits=True)
        return replace(observation, test=test)

    async def _kept_away(self, case: Case, observation: Observation) -> Observation:
        """Keep callers away from what runs behind an obstacle and treats fields otherwise than policies ask by now.

        Else whoever can keep an obstacle in place, by deleting what a model refers to, puts a tightened policy off. A
        policy that is violated says itself what becomes of what runs (`onViolation`).
        """
        md, obstacle = case.md, observation.obstacle
        if obstacle is None or obstacle.reason == "PolicyViolation":
            return observation
        running = await self._cluster.get("ConfigMap", namespace_of(md), config_map_name(md.metadata.name))
        if not treats_otherwise(running, md, case.policies, case.references):
            return observation
        await ensure(self._cluster, service(md, withheld=True))
        why = "callers are kept away, since what runs treats fields otherwise than its policies ask by now"
        return replace(observation, obstacle=replace(obstacle, message=f"{why}: {obstacle.message}"))

    async def _seen(self, case: Case, observation: Observation) -> Observation:
        md, namespace = case.md, namespace_of(case.md)
        if case.found.protected or (case.found.target and observation.obstacle is None):
            seen = await self._targets.seen(md, case.found, self._installed().settings, self._clock())
            return replace(observation, **seen)
        deployment = await self._cluster.get("Deployment", namespace, md.metadata.name)
        if deployment is None or md.spec.model is None or not controls(md.metadata.uid, deployment):
            return observation
        if case.to_be_stopped and deployment["spec"].get("replicas"):
            deployment = await self._cluster.merge(deployment, {"spec": {"replicas": 0}})
            why = "; ".join(item.line for item in case.verdict.violations[:5])
            await self._recorder.record(
                case.raw, "Warning", "ModelStopped", f"its pods are stopped, as onViolation: Stop asks: {why}"
            )
        found = await self._cluster.find("Pod", namespace, labels(md))
        pods = await observe(found, ports_of(md.spec.model), self._installed().settings, self._clock())
        return replace(
            observation,
            deployment=deployment,
            waiting=pods.waiting,
            unwatched=tuple(dict.fromkeys((*pods.unwatched, *self._unwatched(namespace, md.metadata.name)))),
            probed=pods.probed,
            reachable=pods.reachable,
        )

    async def _tell_fit(self, case: Case, fitted: bytes | Obstacle) -> None:
        """Have it told where lineage goes; what never became a request is no fit."""
        request = self._fits.request(case.md, case.policies, case.references)
        if request is None:
            return
        fit = Fit(request.digest, fitted_in_cluster(case.md), "COMPLETE")
        if isinstance(fitted, bytes):
            fit = fit._replace(sha256=hashlib.sha256(fitted).hexdigest())
        elif fitted.reason == "BaselineFitting":
            fit = fit._replace(state="START")
        elif fitted.reason == "BaselineFitFailed":
            fit = fit._replace(state="FAIL", why=fitted.message)
        else:
            return
        await self._lineage.fitting(case.raw, case.policies, fit)

    def _watch(self, case: Case) -> Watch:
        """What is known of a model's monitoring: what its sidecars told, and where its baseline comes from."""
        monitoring, references = case.md.spec.monitoring, case.references
        named = baseline_reference(monitoring.baseline) if monitoring and monitoring.baseline else None
        content = references.content(named.kind, named.name, named.key) if named else references.fitted
        return Watch(
            seen=self._look_at(namespace_of(case.md), case.md.metadata.name),
            baseline=known_of(content) if content else None,
            max_age_days=max_age_days(case.policies),
        )

    async def _tell(self, raw: KubeObject, wanted: dict[str, Any]) -> None:
        """Write the status where it changed, and an event for what turned bad."""
        before = raw.get("status") or {}
        if wanted == before:
            return
        dropped = {key: None for key in before if key not in wanted}
        try:
            await self._cluster.merge(raw, {"status": {**dropped, **wanted}}, "status")
        except ApiError as error:
            if error.status == 404:  # deleted meanwhile
                raise GoneError from error
            raise
        for told in status_news(before, wanted):
            await self._recorder.record(raw, told.kind, told.reason, told.message, topic=told.topic, heard=told.heard)


def _parsed(raw: KubeObject) -> ModelDeployment:
    resource = parse({key: value for key, value in raw.items() if key != "status"})
    if not isinstance(resource, ModelDeployment):
        raise TypeError(f"{raw['kind']} is not a ModelDeployment")
    return resource
