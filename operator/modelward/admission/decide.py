"""The answer to a review: pure functions of the request, of what the caches hold, and of the time.

The mutating phase comes before the schema. An object that its schema does not allow is let through here, and refused
by the API server a moment later, in its own words; the forged status of a new object is dropped before judging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelward.admission.review import ALLOWED, Decision, Request, ReviewError
from modelward.api import lineage
from modelward.api.base import GROUP
from modelward.api.datapolicy import MAX_POLICIES
from modelward.api.validate import DepthError, SchemaError, schema_rule_problems, stored
from modelward.planner.injection import InjectionError, inject, json_patch
from modelward.rules.judge import Review, Violation, denial, judge, rule_problems
from modelward.rules.prepared import PreparedPolicy


class NotReadyError(Exception):
    """What the answer depends on is not known yet."""


@dataclass(frozen=True)
class Settings:
    """What the controller says of the sidecar."""

    image: str
    config_key: str


@dataclass(frozen=True)
class Surroundings:
    """What the cluster holds that a decision depends on.

    Attributes:
        policies: the ClusterDataPolicies, and the DataPolicies of the namespace.
        namespace_labels: of the object's namespace.
        settings: None while the controller has written none.
    """

    policies: Sequence[PreparedPolicy]
    namespace_labels: Mapping[str, str]
    settings: Settings | None


def decide(request: Request, around: Surroundings, now: datetime) -> Decision:
    """Answer a review.

    Raises:
        ReviewError: it is about a kind of object that this server does not judge.
        NotReadyError: the settings are not there.
    """
    judges = _JUDGES.get((request.kind.group, request.kind.kind))
    if judges is None or request.sub_resource:
        raise ReviewError(f"{request.kind.kind}/{request.sub_resource} is not judged here")
    if request.operation not in ("CREATE", "UPDATE"):
        return ALLOWED  # what may be deleted is the ValidatingAdmissionPolicies' business
    return judges(request, around, now)


def _model(request: Request, around: Surroundings, now: datetime) -> Decision:
    old, new = _stored(request.old_object), _stored(request.object)
    if new is None:
        return ALLOWED
    if request.operation == "UPDATE" and old is None:
        old = request.old_object  # stored under an older schema
    # Status is the controller's word: none yet on a new object, whatever it says, and unchanged on an old one. It is
    # no reason to leave an object to its schema: what is stored there need not be what today's schema allows.
    if old is not None and "status" in (request.old_object or {}):
        new["status"] = old["status"] = (request.old_object or {})["status"]
    verdict = judge(
        Review(new, old, request.namespace, dict(around.namespace_labels), now),
        around.policies,
    )
    warnings = (*map(_warning, verdict.warnings), *_unreadable(new))
    if verdict.violations:
        # Asked last: it costs as much as the verdict, and few objects come this far.
        if schema_rule_problems({key: value for key, value in new.items() if key != "status"}):
            return ALLOWED
        return Decision(allowed=False, message=denial(verdict, request.who), warnings=warnings, verdict=verdict)
    return Decision(allowed=True, warnings=warnings, verdict=verdict)


def _policy(request: Request, around: Surroundings, now: datetime) -> Decision:  # noqa: ARG001 - one shape for all
    old, new = _stored(request.old_object), _stored(request.object)
    if new is None or "deletionTimestamp" in new["metadata"]:
        return ALLOWED
    if old is not None and new["spec"]["rules"] == old["spec"]["rules"]:
        return ALLOWED  # judged when they came
    problems = rule_problems(new)
    if request.operation == "CREATE" and request.kind.kind == "DataPolicy":
        there = sum(prepared.policy["kind"] == "DataPolicy" for prepared in around.policies)
        if there >= MAX_POLICIES:
            problems.append(
                f"namespace {request.namespace} has {there} DataPolicies, and {MAX_POLICIES} is the most. "
                "Fix: put what they ask into fewer"
            )
    if not problems:
        return ALLOWED
    lines = "".join(f"\n  {problem}" for problem in problems)
    return Decision(allowed=False, message=f"{request.who} cannot be enforced:{lines}")


def _pod(request: Request, around: Surroundings, now: datetime) -> Decision:  # noqa: ARG001 - one shape for all
    pod = request.object
    if request.operation == "UPDATE":
        return ALLOWED  # what may change in a running pod is the ValidatingAdmissionPolicies' business
    if pod is None or not all(isinstance(pod.get(part), dict) for part in ("metadata", "spec")):
        raise ReviewError("request.object is not a Pod: metadata or spec is missing")
    if around.settings is None:
        raise NotReadyError("the ConfigMap modelward-sidecar is not there: is the controller running?")
    try:
        injected = inject(pod, image=around.settings.image, config_key=around.settings.config_key)
    except InjectionError as error:
        lines = "".join(f"\n  {reason}" for reason in error.reasons)
        return Decision(allowed=False, message=f"{request.who} cannot be protected:{lines}")
    return Decision(allowed=True, patch=tuple(json_patch(pod, injected)))


_JUDGES: dict[tuple[str, str], Callable[[Request, Surroundings, datetime], Decision]] = {
    (GROUP, "ModelDeployment"): _model,
    (GROUP, "DataPolicy"): _policy,
    (GROUP, "ClusterDataPolicy"): _policy,
    ("", "Pod"): _pod,
}


def _stored(item: dict[str, Any] | None) -> dict[str, Any] | None:
    """The object as the API server stores it, but for its status; None where its schema refuses it."""
    if item is None:
        return None
    try:
        return stored({key: value for key, value in item.items() if key != "status"})
    except DepthError:
        raise ReviewError("request.object is nested too deep to be judged") from None
    except SchemaError:
        return None


def _unreadable(item: dict[str, Any]) -> list[str]:
    """What is wrong with lineage that CEL cannot read: it is let in, and not served until it is mended."""
    annotations = item["metadata"].get("annotations") or {}
    return [f"{problem}: it is not Ready until that is mended" for problem in lineage.problems(annotations)]


def _warning(violation: Violation) -> str:
    return f"{violation.rule} {violation.field}: {violation.found} (asked by {violation.policy})"
