"""The conditions of a ModelDeployment: what each says of what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from modelward.api.lineage import cyclic, lineage, problems
from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.auditors_word import fair_by
from modelward.planner.fairness import fair, kept_for_auditor
from modelward.planner.monitored import monitored
from modelward.planner.observation import Observation
from modelward.planner.reidentification import k_anonymous, k_anonymous_by_pod
from modelward.planner.rollout import Rollout
from modelward.rules.judge import Verdict, Violation
from modelward.wording import one_line, rfc3339, sentences

Truth = Literal["True", "False", "Unknown"]
Told = tuple[Truth, str, str]
# The subjects that rule ACC-003 refuses where a policy does not allow them; so does any with a `*`.
_ANYONE = ("user:anonymous", "user:system:anonymous", "group:system:authenticated", "group:system:unauthenticated")


@dataclass
class Conditions:
    """Conditions by type, each with the time of its last change."""

    previous: dict[str, dict[str, Any]]
    generation: int
    now: str
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, raw: Mapping[str, Any], now: datetime) -> Conditions:
        """None yet, of an object as the API server has it."""
        before = (raw.get("status") or {}).get("conditions") or ()
        return cls({item["type"]: item for item in before}, raw["metadata"].get("generation", 0), rfc3339(now))

    def set(self, kind: str, status: Truth, reason: str, message: str) -> None:
        """Say a condition; `reason` is for programs, `message` for people."""
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


def conditions_of(
    md: ModelDeployment, raw: Mapping[str, Any], observation: Observation, now: datetime
) -> list[dict[str, Any]]:
    """Return every condition of a ModelDeployment; those of bad news are there only while they are true.

    Args:
        md: the ModelDeployment.
        raw: the same as the API server has it, with the conditions it had.
        observation: what was seen.
        now: the time, for conditions that change.
    """
    conditions = Conditions.of(raw, now)
    conditions.set("PolicyCompliant", *_compliant(observation.judgement))
    conditions.set("Encrypted", *_encrypted(md, observation))
    conditions.set("AccessControlled", *_access_controlled(md, observation))
    conditions.set("LineageVerified", *_lineage_verified(md, observation))
    conditions.set("Monitored", *_monitored(md, observation, conditions, now))
    conditions.set("Fair", *_fair(md, observation, conditions))
    conditions.set("KAnonymous", *_k_anonymous(observation, conditions, now))
    conditions.set("SecurityTested", *observation.test.told(now))
    conditions.set("Bypassable", *_bypassable(observation))
    ready = _ready(md, observation, now)
    conditions.set("Ready", *ready)
    rollout = observation.rollout
    if observation.obstacle and observation.obstacle.reason == "BaselineFitting":
        conditions.set("Reconciling", "True", "BaselineFitting", observation.obstacle.message)
    elif observation.obstacle:
        conditions.set("Stalled", "True", observation.obstacle.reason, observation.obstacle.message)
    elif rollout and rollout.failure:
        conditions.set("Stalled", "True", "PodsFailing", ready[2])
    elif not _rolled_out(md, observation):
        conditions.set("Reconciling", "True", "Progressing", ready[2])
    return list(conditions.found.values())


def _ready(md: ModelDeployment, observation: Observation, now: datetime) -> Told:
    if observation.obstacle:
        return "False", observation.obstacle.reason, observation.obstacle.message
    if observation.reachable or observation.past:
        return "False", "Bypassable", _bypassable(observation)[2]
    rollout = observation.rollout
    # A workload that was running before replaces its pods one by one: those not yet replaced are no news.
    replacing = observation.target is not None and not observation.target.current and not observation.target.failure
    if observation.unwatched and not replacing:
        names = sentences(observation.unwatched)
        return "False", "SidecarMissing", f"runs without its sidecar: {names}; delete the pod to have it injected"
    wrong = problems(md.metadata.annotations)
    if wrong:
        return "False", "LineageNotVerified", wrong[0]
    if observation.readiness.violations:
        return "False", "RequirementNotMet", _lines(observation.readiness.violations)
    if rollout and rollout.rests and observation.test.gated:
        return _gated(observation, now)
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
        why = sentences((*((failure,) if failure else ()), *observation.waiting))
        return "False", "PodsNotReady", f"{ready} of {wanted} pods ready" + (f": {why}" if why else "")
    if observation.test.gated:  # which takes pods: what keeps those from running is told first
        return _gated(observation, now)
    return "True", "Serving", f"{ready} of {wanted} pods ready"


def _gated(observation: Observation, now: datetime) -> Told:
    _, tested, why = observation.test.told(now)
    return "False", "SecurityTestFailed" if tested == "AttackSucceeded" else "SecurityTestMissing", why


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
    return sentences([item.line for item in violations])


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
        return "False", "Cyclic" if cyclic(md.metadata.annotations) else "Malformed", sentences(wrong)
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


def _monitored(md: ModelDeployment, observation: Observation, conditions: Conditions, now: datetime) -> Told:
    detectors = md.spec.monitoring.detectors if md.spec.monitoring else []
    if not detectors:
        return "False", "NoDetector", "no detector is declared"
    if observation.obstacle:
        failed = observation.obstacle.reason == "BaselineFitFailed"
        return "False" if failed else "Unknown", observation.obstacle.reason, observation.obstacle.message
    return monitored(md, replace(observation.watch, before=conditions.previous.get("Monitored")), now)


def _fair(md: ModelDeployment, observation: Observation, conditions: Conditions) -> Told:
    if observation.kept and observation.word:
        return fair_by(observation.word)
    if observation.kept:
        return kept_for_auditor(md.spec.fairness, observation.kept)
    seen = observation.watch.seen
    return fair(md.spec.fairness, seen.fairness if seen else None, conditions.previous.get("Fair"))


def _k_anonymous(observation: Observation, conditions: Conditions, now: datetime) -> Told:
    seen = observation.watch.seen
    before = conditions.previous.get("KAnonymous")
    if observation.kept:
        judged, pods = (seen.judged, seen.asked) if seen else ((), 0)
        unasked = seen.unasked if seen else 0
        return k_anonymous_by_pod(observation.anonymity, judged, observation.kept, before, pods, unasked)
    return k_anonymous(observation.anonymity, seen.combined if seen else None, now, before)


def _bypassable(observation: Observation) -> Told:
    if observation.reachable:
        names = sentences(observation.reachable)
        return (
            "True",
            "ModelPortReachable",
            f"the model's port answers past the sidecar on {names}: listen on 127.0.0.1",
        )
    if observation.past:
        return "True", "ServiceLeadsPast", sentences(observation.past)
    if not observation.probed:
        return "Unknown", "NoPod", "no pod runs that could be tried"
    return "False", "Probed", f"the model's port does not answer from outside on {observation.probed} pod(s)"
