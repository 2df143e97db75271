"""The status of a ModelDeployment, computed in one place from what was seen; nothing else decides what is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from modelward.api.lineage import cyclic, lineage, problems
from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.anonymity import Asked
from modelward.planner.consumers import Record, lineage_status
from modelward.planner.fairness import fair, fairness_status
from modelward.planner.monitored import Watch, monitored
from modelward.planner.names import host_names, namespace_of
from modelward.planner.reidentification import k_anonymous, reidentification_status
from modelward.planner.rollout import Rollout, deployment_rollout
from modelward.planner.sidecar import MODEL_LABEL
from modelward.planner.sightings import monitoring_status
from modelward.planner.signatures import Signatures
from modelward.planner.upstream import model_name_of, protocol_of
from modelward.rules.judge import Verdict, Violation

Truth = Literal["True", "False", "Unknown"]
_MAX_MESSAGE = 1024
_MAX_VIOLATIONS = 64
# The subjects that rule ACC-003 refuses where a policy does not allow them; so does any with a `*`.
_ANYONE = ("user:anonymous", "user:system:anonymous", "group:system:authenticated", "group:system:unauthenticated")


@dataclass(frozen=True)
class Obstacle:
    """Why nothing is made or changed for now: a word for programs, a sentence for people."""

    reason: Literal[
        "ApplyFailed",
        "ReferenceUnusable",
        "AddressNotAllowed",
        "BaselineFitFailed",
        "BaselineFitting",
        "InvalidSpec",
        "NotSupported",
        "PolicyViolation",
        "ReferenceMissing",
        "CertificateInvalid",
        "NameTaken",
        "TargetImmutable",
        "TargetMissing",
        "TargetTaken",
        "TargetUnsuitable",
    ]
    message: str


@dataclass(frozen=True)
class Observation:
    """What was seen of a model in the cluster.

    Attributes:
        verdict: what its policies say of its manifest; None when it could not be judged.
        readiness: what they say of what was seen of it.
        obstacle: what keeps it from being made or changed; None: what was planned was applied.
        deployment: its Deployment as the API server has it, None where there is none.
        target: how far the workload is that is protected instead; None where there is none.
        target_name: kind and name of that workload.
        selector: label selector of its pods, which chooses those of them as well that have no label of modelward's.
        past: Services that lead past the sidecar, a sentence each.
        certificate: who issued the serving certificate, for people; empty where there is none.
        certificate_ends: until when it holds (RFC 3339).
        waiting: why pods are not running, a sentence each.
        unwatched: pods that run without their sidecar.
        probed: pods whose model port was tried from outside.
        reachable: pods whose model port answered.
        security_test_gates: whether owner or policy keep it from being Ready before its security test.
        security_test_asked: whether owner or policy ask for a security test at all.
        watch: what is known of its monitoring.
        signatures: whether its lineage is signed as policies ask.
        anonymity: what policies ask of its requests; None: nothing.
        served: who got its answers; None: its sidecars were not asked since the controller began.
    """

    verdict: Verdict | None = None
    readiness: Verdict = field(default_factory=Verdict)
    obstacle: Obstacle | None = None
    deployment: dict[str, Any] | None = None
    target: Rollout | None = None
    target_name: dict[str, str] | None = None
    selector: str = ""
    past: tuple[str, ...] = ()
    certificate: str = ""
    certificate_ends: str = ""
    waiting: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    probed: int = 0
    reachable: tuple[str, ...] = ()
    security_test_gates: bool = False
    security_test_asked: bool = False
    watch: Watch = field(default_factory=Watch)
    signatures: Signatures = field(default_factory=Signatures)
    anonymity: Asked | None = None
    served: Record | None = None

    @property
    def judgement(self) -> Verdict | None:
        """What its policies say in all; None when it could not be judged."""
        return self.verdict + self.readiness if self.verdict else None

    @property
    def rollout(self) -> Rollout | None:
        """How far the workload is, whoever made it; None where there is none."""
        return self.target or (deployment_rollout(self.deployment) if self.deployment else None)


@dataclass
class _Conditions:
    """Conditions by type, each with the time of its last change."""

    previous: dict[str, dict[str, Any]]
    generation: int
    now: str
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def set(self, kind: str, status: Truth, reason: str, message: str) -> None:
        before = self.previous.get(kind, {})
        changed = self.now if before.get("status") != status else before["lastTransitionTime"]
        self.found[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": one_line(message),
            "lastTransitionTime": changed,
            "observedGeneration": self.generation,
        }


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """Put a text on one line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def rfc3339(moment: datetime) -> str:
    """Write a time as Kubernetes does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def withheld(md: ModelDeployment, observation: Observation) -> bool:
    """Tell whether callers are kept away: what must be shown before a model is Ready is not."""
    unmet = bool(observation.readiness.violations)
    return unmet or bool(problems(md.metadata.annotations)) or observation.security_test_gates


def invalid_status(raw: dict[str, Any], message: str, now: datetime) -> dict[str, Any]:
    """Return the status of an object that is not a ModelDeployment by this version's schema."""
    conditions = _conditions(raw, now)
    conditions.set("Ready", "False", "InvalidSpec", message)
    conditions.set("Stalled", "True", "InvalidSpec", message)
    return {
        "conditions": list(conditions.found.values()),
        "observedGeneration": conditions.generation,
        "policies": [],
        "violations": [],
    }


def status(md: ModelDeployment, raw: dict[str, Any], observation: Observation, now: datetime) -> dict[str, Any]:
    """Return the whole status of a ModelDeployment.

    Args:
        md: the ModelDeployment.
        raw: the same as the API server has it, with the status it had.
        observation: what was seen.
        now: the time, for conditions that change.
    """
    conditions = _conditions(raw, now)
    conditions.set("PolicyCompliant", *_compliant(observation.judgement))
    conditions.set("Encrypted", *_encrypted(md, observation))
    conditions.set("AccessControlled", *_access_controlled(md, observation))
    conditions.set("LineageVerified", *_lineage_verified(md, observation))
    conditions.set("Monitored", *_monitored(md, observation, conditions, now))
    conditions.set("Fair", *_fair(md, observation, conditions))
    conditions.set("KAnonymous", *_k_anonymous(observation, conditions, now))
    conditions.set("SecurityTested", *_security_tested(observation))
    conditions.set("Bypassable", *_bypassable(observation))
    ready = _ready(md, observation)
    conditions.set("Ready", *ready)
    rollout = observation.rollout
    # Those of bad news are there only while they are true.
    if observation.obstacle and observation.obstacle.reason == "BaselineFitting":
        conditions.set("Reconciling", "True", "BaselineFitting", observation.obstacle.message)
    elif observation.obstacle:
        conditions.set("Stalled", "True", observation.obstacle.reason, observation.obstacle.message)
    elif rollout and rollout.failure:
        conditions.set("Stalled", "True", "PodsFailing", ready[2])
    elif not _rolled_out(md, observation):
        conditions.set("Reconciling", "True", "Progressing", ready[2])
    verdict = observation.judgement
    out: dict[str, Any] = {
        "conditions": list(conditions.found.values()),
        "observedGeneration": conditions.generation,
        "replicas": rollout.replicas if rollout else 0,
        "readyReplicas": rollout.ready if rollout else 0,
        "selector": observation.selector or f"{MODEL_LABEL}={md.metadata.name}",
        "policies": list(verdict.policies[:_MAX_VIOLATIONS]) if verdict else [],
        "violations": [_violation(item) for item in verdict.everything[:_MAX_VIOLATIONS]] if verdict else [],
    }
    if rollout is not None and not withheld(md, observation):
        out["endpoint"] = endpoint(md)
    if observation.certificate:
        out["certificate"] = {"source": observation.certificate, "expires": observation.certificate_ends}
    if observation.target_name:
        out["target"] = observation.target_name
    told = monitoring_status(observation.watch.seen) if observation.watch.seen else _before(raw, "monitoring")
    if told and md.spec.monitoring and md.spec.monitoring.detectors:
        out["monitoring"] = told
    groups = observation.watch.seen.fairness if observation.watch.seen else None
    treated = fairness_status(groups) if groups else _before(raw, "fairness")
    if treated and md.spec.fairness and md.spec.fairness.protected:
        out["fairness"] = treated
    combined = observation.watch.seen.combined if observation.watch.seen else None
    identifying = reidentification_status(combined) if combined else _before(raw, "reidentification")
    if identifying and observation.anonymity:
        out["reidentification"] = identifying
    told_of_lineage = _lineage_status(observation, _before(raw, "lineage"))
    if told_of_lineage:
        out["lineage"] = told_of_lineage
    return out


def _before(raw: dict[str, Any], name: str) -> Any:
    return (raw.get("status") or {}).get(name)


def endpoint(md: ModelDeployment) -> str:
    """Return the address at which a model is asked for a prediction."""
    host = host_names(namespace_of(md), md.metadata.name)[0]
    if protocol_of(md) == "v1":
        return f"https://{host}/v1/models/{model_name_of(md)}:predict"
    return f"https://{host}/v2/models/{model_name_of(md)}/infer"


def _conditions(raw: dict[str, Any], now: datetime) -> _Conditions:
    before = (raw.get("status") or {}).get("conditions") or ()
    return _Conditions({item["type"]: item for item in before}, raw["metadata"].get("generation", 0), rfc3339(now))


def _violation(item: Violation) -> dict[str, str]:
    message = one_line(f"{item.found}. Fix: {item.fix}")
    return {"rule": item.rule, "policy": item.policy[:317], "field": item.field[:512], "message": message}


Told = tuple[Truth, str, str]


def _ready(md: ModelDeployment, observation: Observation) -> Told:
    if observation.obstacle:
        return "False", observation.obstacle.reason, observation.obstacle.message
    if observation.reachable or observation.past:
        return "False", "Bypassable", _bypassable(observation)[2]
    rollout = observation.rollout
    # A workload that was running before replaces its pods one by one: those not yet replaced are no news.
    replacing = observation.target is not None and not observation.target.current and not observation.target.failure
    if observation.unwatched and not replacing:
        names = _listed(observation.unwatched)
        return "False", "SidecarMissing", f"runs without its sidecar: {names}; delete the pod to have it injected"
    wrong = problems(md.metadata.annotations)
    if wrong:
        return "False", "LineageNotVerified", wrong[0]
    if observation.readiness.violations:
        return "False", "RequirementNotMet", _lines(observation.readiness.violations)
    if observation.security_test_gates:
        return "False", "SecurityTestMissing", "no security test has passed yet"
    if rollout and rollout.rests:
        why = "its next pods are protected" if rollout.rests == "Scheduled" else "no pod of it is to run now"
        return "True" if rollout.rests == "Scheduled" else "False", rollout.rests, why
    if md.spec.model and md.spec.replicas == 0:
        return "False", "ScaledToZero", "spec.replicas is 0"
    if rollout and observation.target and rollout.wanted == 0:
        return "False", "ScaledToZero", "the workload is scaled to zero"
    ready, wanted = rollout.ready if rollout else 0, _wanted(md, rollout)
    failure = rollout.failure if rollout else ""
    if failure or not _rolled_out(md, observation):
        why = _listed((*((failure,) if failure else ()), *observation.waiting))
        return "False", "PodsNotReady", f"{ready} of {wanted} pods ready" + (f": {why}" if why else "")
    return "True", "Serving", f"{ready} of {wanted} pods ready"


def _wanted(md: ModelDeployment, rollout: Rollout | None) -> int:
    return md.spec.replicas if md.spec.model or rollout is None else rollout.wanted


def _rolled_out(md: ModelDeployment, observation: Observation) -> bool:
    rollout = observation.rollout
    if rollout is None:
        return False
    if rollout.rests:
        return True
    return rollout.done and (observation.target is not None or rollout.wanted == md.spec.replicas)


def _compliant(verdict: Verdict | None) -> Told:
    if verdict is None:
        return "Unknown", "NotJudged", "it could not be judged"
    if verdict.violations:
        return "False", "PolicyViolation", _lines(verdict.violations)
    others = verdict.warnings + verdict.audits
    if others:
        return "False", "PolicyWarning", f"not enforced: {_lines(others)}"
    if not verdict.policies:
        return "Unknown", "NoPolicy", "no policy governs it: nothing was asked of it"
    return "True", "Compliant", f"by {', '.join(verdict.policies)}"


def _lines(violations: Sequence[Violation]) -> str:
    return _listed([item.line for item in violations])


def _encrypted(md: ModelDeployment, observation: Observation) -> Told:
    if observation.obstacle and observation.rollout is None:
        return "Unknown", "NotMade", "nothing was made for it yet"
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    if not observation.certificate:
        return "False", "NoCertificate", "there is no serving certificate"
    mode = f"{in_transit.mode}, version {in_transit.min_version} or newer" if in_transit else "TLS 1.3 (not declared)"
    return (
        "True",
        in_transit.mode if in_transit else "TLS",
        f"{mode}; {observation.certificate}, valid until {observation.certificate_ends}",
    )


def _access_controlled(md: ModelDeployment, observation: Observation) -> Told:
    if observation.obstacle and observation.rollout is None:
        return "Unknown", "NotMade", "nothing was made for it yet"
    rules = md.spec.access.rules if md.spec.access else []
    if not rules:
        return "True", "NobodyAllowed", "no access rule is declared: every request is refused"
    for index, rule in enumerate(rules):
        anyone = [subject for subject in rule.subjects if "*" in subject or subject in _ANYONE]
        if anyone:
            return "False", "AnyoneAllowed", f"spec.access.rules[{index}] lets in {anyone[0]}"
    return "True", "RulesEnforced", f"{len(rules)} access rule{'s' if len(rules) > 1 else ''}"


def _lineage_verified(md: ModelDeployment, observation: Observation) -> Told:
    declared = lineage(md.metadata.annotations)
    wrong = problems(md.metadata.annotations)
    if wrong:
        return "False", "Cyclic" if cyclic(md.metadata.annotations) else "Malformed", _listed(wrong)
    signed = observation.signatures.told()
    if signed and not signed[0]:
        return "False", signed[1], signed[2]
    if not declared:
        return "Unknown", "NotDeclared", "no lineage annotation is there"
    unmet = [item for item in observation.readiness.everything if item.rule.startswith("LIN-")]
    if unmet:
        return "False", "NotVerified", _lines(unmet)
    if signed:
        return "True", signed[1], signed[2]
    return "True", "WellFormed", f"{', '.join(declared)} read; signature not asked"


def _lineage_status(observation: Observation, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is known of the lineage; what became of answers is kept until the sidecars are asked again."""
    if observation.served:
        served = lineage_status(observation.served)
    else:
        served = {key: value for key, value in (before or {}).items() if key in ("consumers", "windows")}
    if not any(served.values()) and not observation.signatures.asked:
        return {}
    return {**observation.signatures.status(), **served}


def _monitored(md: ModelDeployment, observation: Observation, conditions: _Conditions, now: datetime) -> Told:
    detectors = md.spec.monitoring.detectors if md.spec.monitoring else []
    if not detectors:
        return "False", "NoDetector", "no detector is declared"
    if observation.obstacle:
        failed = observation.obstacle.reason == "BaselineFitFailed"
        return "False" if failed else "Unknown", observation.obstacle.reason, observation.obstacle.message
    return monitored(md, replace(observation.watch, before=conditions.previous.get("Monitored")), now)


def _fair(md: ModelDeployment, observation: Observation, conditions: _Conditions) -> Told:
    seen = observation.watch.seen
    return fair(md.spec.fairness, seen.fairness if seen else None, conditions.previous.get("Fair"))


def _k_anonymous(observation: Observation, conditions: _Conditions, now: datetime) -> Told:
    seen = observation.watch.seen
    before = conditions.previous.get("KAnonymous")
    return k_anonymous(observation.anonymity, seen.combined if seen else None, now, before)


def _security_tested(observation: Observation) -> Told:
    if not observation.security_test_asked:
        return "Unknown", "NotRequested", "no security test is asked for"
    return "Unknown", "NotRun", "a security test is asked for, and none has run yet"


def _bypassable(observation: Observation) -> Told:
    if observation.reachable:
        names = _listed(observation.reachable)
        return (
            "True",
            "ModelPortReachable",
            f"the model's port answers past the sidecar on {names}: listen on 127.0.0.1",
        )
    if observation.past:
        return "True", "ServiceLeadsPast", _listed(observation.past)
    if not observation.probed:
        return "Unknown", "NoPod", "no pod runs that could be tried"
    return "False", "Probed", f"the model's port does not answer from outside on {observation.probed} pod(s)"


def _listed(items: Iterable[str], limit: int = 5) -> str:
    items = list(items)
    more = f"; and {len(items) - limit} more" if len(items) > limit else ""
    return "; ".join(items[:limit]) + more
