"""The status of a ModelDeployment, computed in one place from what was seen; nothing else decides what is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from modelward.api.lineage import problems
from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.conditions import Conditions, conditions_of
from modelward.planner.consumers import lineage_status
from modelward.planner.fairness import fairness_status
from modelward.planner.names import host_names, namespace_of
from modelward.planner.observation import Observation
from modelward.planner.reidentification import reidentification_status
from modelward.planner.sidecar import MODEL_LABEL
from modelward.planner.sightings import monitoring_status
from modelward.planner.upstream import model_name_of, protocol_of
from modelward.rules.judge import Violation
from modelward.wording import one_line

_MAX_VIOLATIONS = 64


def withheld(md: ModelDeployment, observation: Observation) -> bool:
    """Tell whether callers are kept away: what must be shown before a model is Ready is not."""
    unmet = bool(observation.readiness.violations)
    return unmet or bool(problems(md.metadata.annotations)) or observation.test.gated


def invalid_status(raw: dict[str, Any], message: str, now: datetime) -> dict[str, Any]:
    """Return the status of an object that is not a ModelDeployment by this version's schema."""
    conditions = Conditions.of(raw, now)
    conditions.set("Ready", "False", "InvalidSpec", message)
    conditions.set("Stalled", "True", "InvalidSpec", message)
    words = _before(raw, "auditorsWords")
    return {
        "conditions": list(conditions.found.values()),
        "observedGeneration": conditions.generation,
        "policies": [],
        "violations": [],
        **({"auditorsWords": words} if words else {}),
    }


def status(md: ModelDeployment, raw: dict[str, Any], observation: Observation, now: datetime) -> dict[str, Any]:
    """Return the whole status of a ModelDeployment.

    Args:
        md: the ModelDeployment.
        raw: the same as the API server has it, with the status it had.
        observation: what was seen.
        now: the time, for conditions that change.
    """
    rollout, verdict = observation.rollout, observation.judgement
    out: dict[str, Any] = {
        "conditions": conditions_of(md, raw, observation, now),
        "observedGeneration": raw["metadata"].get("generation", 0),
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
    if not observation.kept:
        out |= _of_groups(md, raw, observation)
    if observation.words:  # whether or not they are asked for now: an older one must not come back
        out["auditorsWords"] = [dict(one) for one in observation.words]
    tested = observation.test.last or _before(raw, "lastSecurityTest")
    if tested:  # what was found stays, whoever asks for tests or no longer does
        out["lastSecurityTest"] = dict(tested)
    told_of_lineage = _lineage_status(observation, _before(raw, "lineage"))
    if told_of_lineage:
        out["lineage"] = told_of_lineage
    return out


def _of_groups(md: ModelDeployment, raw: dict[str, Any], observation: Observation) -> dict[str, Any]:
    """What was counted of groups and combinations, or was told last."""
    seen, out = observation.watch.seen, dict[str, Any]()
    treated = fairness_status(seen.fairness) if seen and seen.fairness else _before(raw, "fairness")
    if treated and md.spec.fairness and md.spec.fairness.protected:
        out["fairness"] = treated
    identifying = reidentification_status(seen.combined) if seen and seen.combined else _before(raw, "reidentification")
    if identifying and observation.anonymity:
        out["reidentification"] = identifying
    return out


def _before(raw: dict[str, Any], name: str) -> Any:
    return (raw.get("status") or {}).get(name)


def endpoint(md: ModelDeployment) -> str:
    """Return the address at which a model is asked for a prediction."""
    host = host_names(namespace_of(md), md.metadata.name)[0]
    if protocol_of(md) == "v1":
        return f"https://{host}/v1/models/{model_name_of(md)}:predict"
    return f"https://{host}/v2/models/{model_name_of(md)}/infer"


def _violation(item: Violation) -> dict[str, str]:
    message = one_line(f"{item.found}. Fix: {item.fix}")
    return {"rule": item.rule, "policy": item.policy[:317], "field": item.field[:512], "message": message}


def _lineage_status(observation: Observation, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What is known of the lineage; what became of answers is kept until the sidecars are asked again."""
    if observation.served:
        served = lineage_status(observation.served)
    else:
        served = {key: value for key, value in (before or {}).items() if key in ("consumers", "windows")}
    if not any(served.values()) and not observation.signatures.asked:
        return {}
    return {**observation.signatures.status(), **served}
