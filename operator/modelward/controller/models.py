"""Reconciles ModelDeployments: from what is wanted and what is there, each time anew, to what is to be written."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from modelward.api.lineage import places
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import baseline_reference, references_of
from modelward.api.validate import SchemaError, canonical, parse
from modelward.controller.apply import NameTakenError, carry_out, ensure
from modelward.controller.certificates import CertificateError
from modelward.controller.cluster import ApiError, Cluster
from modelward.controller.emitters import Emitters
from modelward.controller.events import Recorder
from modelward.controller.fits import Fits
from modelward.controller.installation import Installed
from modelward.controller.ledger import Ledger
from modelward.controller.lineage import Lineage
from modelward.controller.observe import observe
from modelward.controller.queue import GoneError
from modelward.controller.serving import serving_certificate
from modelward.controller.targets import Found, Targets
from modelward.detect.origin import known_of
from modelward.lineage.subject import Fit
from modelward.planner.anonymity import of_requests
from modelward.planner.audit import key_places
from modelward.planner.deployment import pod_spec
from modelward.planner.fit_request import fitted_in_cluster
from modelward.planner.monitored import Watch, max_age_days
from modelward.planner.names import KubeObject, controls, labels, namespace_of
from modelward.planner.observation import Observation, Obstacle
from modelward.planner.plan import Material, plan
from modelward.planner.readiness import observations
from modelward.planner.references import References
from modelward.planner.report import UNREADABLE, judged
from modelward.planner.service import service
from modelward.planner.sidecar import SYSTEM_NAMESPACE, config_map_name
from modelward.planner.sidecar_config import SidecarConfigError, unsupported
from modelward.planner.sightings import Seen
from modelward.planner.signatures import Signatures, signatures, trust_names
from modelward.planner.status import invalid_status, status, withheld
from modelward.planner.target import pods_of
from modelward.planner.treatment import treats_otherwise
from modelward.planner.upstream import ports_of
from modelward.privacy.keys import derive
from modelward.rules.judge import Review, Verdict, judge, judge_readiness, policy_name

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


@dataclass(frozen=True)
class Judgement:
    """What the policies say of a model's manifest.

    Attributes:
        review: what was judged.
        verdict: what was found.
        policies: those that govern it.
    """

    review: Review
    verdict: Verdict
    policies: tuple[KubeObject, ...]


@dataclass(frozen=True)
class _Case:
    """A model with all that bears on it: what its policies say, those that govern it, and what it refers to."""

    md: ModelDeployment
    raw: KubeObject
    verdict: Verdict
    policies: tuple[KubeObject, ...]
    references: References
    found: Found
    readiness: Verdict
    signatures: Signatures

    @property
    def obstacle(self) -> Obstacle | None:
        """What keeps the model from being made or changed."""
        fields = unsupported(self.md, self.policies)
        if fields:
            return Obstacle("NotSupported", f"declared, and not honoured by this version: {', '.join(fields)}")
        if self.verdict.violations:
            return Obstacle("PolicyViolation", "; ".join(item.line for item in self.verdict.violations[:5]))
        missing = self.references.missing(references_of(self.md))
        if missing:
            lacks = "; ".join(map(self.references.lack, missing[:5]))
            return Obstacle("ReferenceMissing", f"{lacks}: create it in the same namespace")
        return self.found.obstacle

    @property
    def to_be_stopped(self) -> bool:
        """Whether a policy that is broken asks that what runs be stopped."""
        broken = {violation.policy for violation in self.verdict.violations}
        stopping = (one for one in self.policies if one["spec"].get("onViolation") == "Stop")
        return any(policy_name(policy) in broken for policy in stopping)

    @property
    def security_tests(self) -> list[bool]:
        """For each who asks for a security test, owner or policy, whether it gates."""
        asked = [one["spec"]["require"]["securityTest"].get("gate", False) for one in self.policies if _tests(one)]
        own = self.md.spec.security_test
        return asked + ([own.gate] if own else [])


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
    ) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._installed = installed
        self._clock = clock
        self._unwatched = unwatched  # names of a model's pods that run without their sidecar
        self._ledger = ledger or Ledger()
        self._targets = Targets(cluster)
        self._look_at = seen  # what the sidecars told last
        self._lineage = lineage or Lineage(cluster, Emitters(installed))
        self._fits = fits or Fits(cluster, installed, clock)

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
        return _LOOK_AGAIN_SECONDS if awaits else None

    async def _give_back(self, md: ModelDeployment, raw: KubeObject) -> None:
        """Give back the workload that was protected before another was named."""
        before = (raw.get("status") or {}).get("target")
        ref = md.spec.target_ref
        if before and (ref is None or (ref.kind, ref.name) != (before["kind"], before["name"])):
            await self._targets.release_other(namespace_of(md), md.metadata.name, before)

    async def _bring_about(self, md: ModelDeployment, raw: KubeObject) -> Observation:
        case = await self._case(md, raw)
        await self._lineage.judged(raw, case.policies)
        observation = Observation(
            verdict=case.verdict,
            readiness=case.readiness,
            signatures=case.signatures,
            obstacle=case.obstacle,
            security_test_asked=bool(case.security_tests),
            security_test_gates=any(case.security_tests),
            anonymity=of_requests(md, case.policies),
        )
        installed = self._installed()
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
        kept = observation.obstacle is None or serving.there
        source, ends = (serving.source, serving.ends) if kept else ("", "")
        return await self._seen(case, replace(observation, certificate=source, certificate_ends=ends))

    async def _kept_away(self, case: _Case, observation: Observation) -> Observation:
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

    async def _seen(self, case: _Case, observation: Observation) -> Observation:
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
            await self._recorder.record(case.raw, "Warning", "ModelStopped", f"as onViolation: Stop asks: {why}")
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

    async def _tell_fit(self, case: _Case, fitted: bytes | Obstacle) -> None:
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

    def _watch(self, case: _Case) -> Watch:
        """What is known of a model's monitoring: what its sidecars told, and where its baseline comes from."""
        monitoring, references = case.md.spec.monitoring, case.references
        named = baseline_reference(monitoring.baseline) if monitoring and monitoring.baseline else None
        content = references.content(named.kind, named.name, named.key) if named else references.fitted
        return Watch(
            seen=self._look_at(namespace_of(case.md), case.md.metadata.name),
            baseline=known_of(content) if content else None,
            max_age_days=max_age_days(case.policies),
        )

    async def judgement(self, md: ModelDeployment) -> Judgement:
        """Judge by policies read now: those that the API server judged by may be older than the object."""
        namespace = namespace_of(md)
        cluster_wide, namespaced, place = await asyncio.gather(
            self._cluster.find("ClusterDataPolicy"),
            self._cluster.find("DataPolicy", namespace),
            self._cluster.get("Namespace", "", namespace),
        )
        policies = [*cluster_wide, *namespaced]
        review = Review(
            object=canonical(md),
            namespace=namespace,
            namespace_labels=((place or {}).get("metadata") or {}).get("labels") or {},
            now=self._clock(),
        )
        verdict = judge(review, policies)
        governing = tuple(one for one in policies if policy_name(one) in verdict.policies)
        return Judgement(review, verdict, governing)

    async def _case(self, md: ModelDeployment, raw: KubeObject) -> _Case:
        judged_now = await self.judgement(md)
        review, verdict, governing = judged_now.review, judged_now.verdict, judged_now.policies
        found = await self._targets.look_up(md, self._installed().settings)
        references = await self._references(md, governing)
        image = md.spec.model.image if md.spec.model else ""
        # In a thread: others must not wait while what a model's owner has written is tried with every key.
        signed = await asyncio.to_thread(signatures, md.metadata.annotations, governing, references, review.now, image)
        seen = observations(raw, _pods(md, found), review.now, signed.observed())
        readiness = judge_readiness(review, governing, seen)
        said = judged(md.metadata.name, review.namespace, verdict + readiness, governing, review.now, seen)
        self._ledger.put(review.namespace, md.metadata.name, said)
        return _Case(md, raw, verdict, governing, references, found, readiness, signed)

    async def _references(self, md: ModelDeployment, policies: Sequence[KubeObject]) -> References:
        wanted = {(reference.kind, reference.name) for reference in references_of(md)}
        wanted |= set(places(md.metadata.annotations)) if trust_names(policies) else set()
        found: dict[str, dict[str, Any]] = {"ConfigMap": {}, "Secret": {}}
        for kind, name in sorted(wanted):
            item = await self._cluster.get(kind, namespace_of(md), name)
            if item is not None:
                found[kind][name] = item
        fields = (one for policy in policies for one in policy["spec"].get("fields", ()))
        return References(
            found["ConfigMap"],
            found["Secret"],
            self._installed().authority.bundle.decode(),
            await self._system_maps({one["hierarchy"] for one in fields if one.get("hierarchy")}),
            trust=await self._system_maps(trust_names(policies)),
            audit=await self._audit_keys(policies),
        )

    async def _audit_keys(self, policies: Sequence[KubeObject]) -> dict[tuple[str, str], KubeObject]:
        found = {place: await self._cluster.get("ConfigMap", *place) for place in key_places(policies)}
        return {place: item for place, item in found.items() if item is not None}

    async def _system_maps(self, names: Collection[str]) -> dict[str, KubeObject]:
        found = {name: await self._cluster.get("ConfigMap", SYSTEM_NAMESPACE, name) for name in sorted(names)}
        return {name: item for name, item in found.items() if item is not None}

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
        for kind, reason, message in _news(before, wanted):
            # One object, whose count rises: the figures in its message are others each time.
            topic = reason if reason in ("UnfairOutcome", "ReidentificationRisk") else ""
            await self._recorder.record(raw, kind, reason, message, topic=topic)


def _parsed(raw: KubeObject) -> ModelDeployment:
    resource = parse({key: value for key, value in raw.items() if key != "status"})
    if not isinstance(resource, ModelDeployment):
        raise TypeError(f"{raw['kind']} is not a ModelDeployment")
    return resource


def _pods(md: ModelDeployment, found: Found) -> list[KubeObject]:
    """Return the specs of the pod templates that a model runs by: modelward's own, or those of its target."""
    if md.spec.model:
        return [pod_spec(md, md.spec.model)]
    templates = pods_of(found.item) if found.item else ()
    return [template["spec"] for template in templates if isinstance(template.get("spec"), dict)]


def _tests(policy: KubeObject) -> bool:
    return "securityTest" in policy["spec"].get("require", {})


def _news(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[Any, str, str]]:
    """Return what is worth an event: conditions whose reason became another since, and other rules that are broken."""
    old = {item["type"]: item for item in before.get("conditions", ())}
    news: list[tuple[Any, str, str]] = []
    for item in after["conditions"]:
        kind, reason = item["type"], item["reason"]
        broken = kind == "PolicyCompliant" and item["status"] == "False"
        told = old.get(kind, {})
        if told.get("reason") == reason and not (broken and told.get("message") != item["message"]):
            continue
        unwatched = kind == "Monitored" and reason in ("BaselineStale", "Drifted", "RateOff")
        singled_out = kind == "KAnonymous" and reason == "ReidentificationRisk"
        if kind == "Fair" and reason == "DifferenceTooLarge":
            news.append(("Warning", "UnfairOutcome", item["message"]))
        elif broken or unwatched or singled_out or (kind == "Stalled" and reason != "PolicyViolation"):
            news.append(("Warning", reason, item["message"]))
        elif kind == "Ready":
            if item["status"] == "True":
                news.append(("Normal", "Ready", item["message"]))
            # Of SidecarMissing tells who finds the pods.
            elif reason in ("Bypassable", "LineageNotVerified", "RequirementNotMet"):
                news.append(("Warning", reason, item["message"]))
    return news
