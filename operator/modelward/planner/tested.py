"""What a security test is a test of, and whether the last one holds for what there is now.

Two digests tell. That of the *subject* is of what the model's owner decides: another one is another model, of which no
test says anything, so a gate closes until it is tested. That of the *tools* is of what protects and attacks it
(modelward's images, what policies ask): another one is a reason to test again, and the last result stands meanwhile.
Else an upgrade, or a policy of the cluster, would take every gated model away from its callers at once.

A run that came to nothing (Errored) says nothing: what the last one before it found stands, be it good or bad. Else
whoever evicts the pod of a test takes a model away from its callers, or lets one back to them that has failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import baseline_reference
from modelward.planner.names import KubeObject
from modelward.planner.references import References
from modelward.wording import rfc3339

DEFAULT_SUITE = "baseline"
"""Of a model whose owner names none, and whose policy asks for a test all the same."""
MAX_ATTEMPTS = 5
"""Runs in a row that were Errored, in a quarter of an hour; then it is tried four times a day, or by its schedule."""
_AGAIN = timedelta(minutes=1)  # after an Errored run; twice that after the next
_LATER = timedelta(hours=6)  # a cluster that was full for a while must not keep a gate closed for good
_OF_MODEL = {"image", "command", "args", "env", "port", "name", "protocol", "grpc_port", "volume_claims"}
_OF_TARGET = {"api_version", "kind", "name", "port", "model_name", "protocol"}
_OF_CONTAINER = ("image", "command", "args", "workingDir", "env", "envFrom", "volumeMounts", "volumeDevices")
_SECONDS_AT_WORK, _SECONDS_GATED, _SECONDS_SERVING = 5.0, 30.0, 300.0
_NOT_TO_ITS_END = "it could not be run to its end"
_OF_POLICY = ("fields", "undeclaredFields", "kAnonymity", "quarantine", "onDetectorError", "classification")


@dataclass(frozen=True)
class AskedTest:
    """What is asked of a model, by its owner and its policies.

    Attributes:
        suite: name of the suite of attacks.
        gates: whether one of them keeps it from being Ready until it has passed.
        schedule: when the test is repeated, as the owner wrote it; empty: it is not.
        max_age_days: how old a test may be at the most; None: as old as it likes.
    """

    suite: str
    gates: bool
    schedule: str = ""
    max_age_days: int | None = None


@dataclass(frozen=True)
class LastTest:
    """What is known of a model's security test.

    Attributes:
        asked: what is asked of it; None: nothing.
        subject: digest of what there is to be tested now.
        last: the last test, as `status.lastSecurityTest` has it; None: there was none.
        now: what is done about the next one, or keeps it from being done; empty: nothing.
        waits: nothing is done, for others' tests have to end, or somebody has to mend something.
    """

    asked: AskedTest | None = None
    subject: str = ""
    last: Mapping[str, Any] | None = None
    now: str = ""
    waits: bool = False

    @property
    def of_this(self) -> Mapping[str, Any] | None:
        """The last test, where it was one of what there is now."""
        last = self.last
        if last is None or self.asked is None:
            return None
        return last if (last.get("subject"), last["suite"]) == (self.subject, self.asked.suite) else None

    @property
    def standing(self) -> Mapping[str, Any] | None:
        """What is known of what there is now: the last result, or else how the last run came to none."""
        last = self.of_this
        return None if last is None else last.get("stands") or last

    @property
    def gated(self) -> bool:
        """Whether the model is kept from being Ready. How old a test may be is TST-004's to judge."""
        if self.asked is None or not self.asked.gates:
            return False
        return self.standing is None or self.standing["outcome"] != "Passed"

    @property
    def look_again(self) -> float | None:
        """In how many seconds to look at the model again; None: when something has changed.

        A thousand models can wait for four tests to end: they must not take the controller's time from all others.
        """
        if not self.now:
            return None
        if not self.waits:
            return _SECONDS_AT_WORK
        return _SECONDS_GATED if self.gated else _SECONDS_SERVING

    def told(self, now: datetime) -> tuple[Literal["True", "False", "Unknown"], str, str]:
        """Return the condition SecurityTested: status, reason, message."""
        asked, last, found = self.asked, self.of_this, self.standing
        if asked is None:
            return "Unknown", "NotRequested", "no security test is asked for"
        more = f"; {self.now}" if self.now else ""
        if self.last is None:
            return "Unknown", "NotRun", f"no security test has run yet{more}"
        if last is None or found is None:
            return "False", "TestMissing", f"what was tested {self.last['finishedAt']} is not what there is now{more}"
        at = f"suite {last['suite']}, {found['finishedAt']}"
        if last["outcome"] == "Errored":
            why = last.get("message") or _NOT_TO_ITS_END
            more = more or f"; it is tried again from {rfc3339(again_at(last))} on"
            if found is last:
                return "False", "TestErrored", f"{at}: {why}{more}"
            more = f"; this stands, since the run that ended {last['finishedAt']} came to nothing: {why}{more}"
        if found["outcome"] == "Failed":
            named = ", ".join(found.get("succeeded", ())) or "see the report"
            fix = f". Fix: {found['message']}" if found.get("message") else ""
            return "False", "AttackSucceeded", f"{at}: attacks that succeeded: {named}{fix}{more}"
        age = now - datetime.fromisoformat(found["finishedAt"])
        if asked.max_age_days is not None and age > timedelta(days=asked.max_age_days):
            return "False", "TestTooOld", f"{at}: older than the {asked.max_age_days} days that policies allow{more}"
        return "True", "Passed", f"{at}: {found.get('withstood', 0)} attacks withstood{more}"


def again_at(last: Mapping[str, Any]) -> datetime:
    """Return when to try again what came to nothing: soon at first, and later ever less often."""
    attempts = int(last.get("attempts", 0))
    waits = _AGAIN * 2 ** max(attempts - 1, 0) if attempts < MAX_ATTEMPTS else _LATER
    return datetime.fromisoformat(last["finishedAt"]) + waits


def asked_of(md: ModelDeployment, policies: Sequence[KubeObject]) -> AskedTest | None:
    """Return what owner and policies ask; None: neither asks for a security test."""
    own = md.spec.security_test
    required = [one["spec"]["require"]["securityTest"] for one in policies if _requires(one)]
    if own is None and not required:
        return None
    return AskedTest(
        suite=own.suite if own else DEFAULT_SUITE,
        gates=bool(own and own.gate) or any(one.get("gate", False) for one in required),
        schedule=(own.schedule or "") if own else "",
        max_age_days=min((one.get("maxAgeDays", 7) for one in required), default=None),
    )


def subject_digest(md: ModelDeployment, references: References, pods: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of what a model's owner decides of what is tested.

    Not of how many pods there are, what they may use, or where records go; those change nothing that an attack meets.

    Args:
        md: the ModelDeployment.
        references: what it names: its baseline.
        pods: the specs of the pod templates that it runs by, where it runs already.
    """
    spec = md.spec
    monitoring = spec.monitoring
    named = baseline_reference(monitoring.baseline) if monitoring and monitoring.baseline else None
    content = references.content(named.kind, named.name, named.key) if named else None
    parts = {
        "model": _dumped(spec.model, include=_OF_MODEL),
        "target": _dumped(spec.target_ref, include=_OF_TARGET),
        "pods": [] if spec.model else [_pod(pod) for pod in pods],
        "schema": _dumped(spec.schema_),
        "encryption": _dumped(spec.encryption),
        "access": _dumped(spec.access),
        "monitoring": _dumped(monitoring, exclude={"telemetry"}),
        "explanations": _dumped(spec.explanations),
        "baseline": hashlib.sha256(content).hexdigest() if content else "",
    }
    return _digest(parts)


def tools_digest(policies: Sequence[KubeObject], sidecar_image: str, jobs_image: str) -> str:
    """Return the digest of what protects and attacks the model besides: images, and what policies do to requests."""
    asked = [{key: one["spec"][key] for key in _OF_POLICY if key in one["spec"]} for one in policies]
    return _digest([sidecar_image, jobs_image, sorted(json.dumps(one, sort_keys=True) for one in asked)])


def _requires(policy: KubeObject) -> bool:
    return "securityTest" in policy["spec"].get("require", {})


def _pod(pod: Mapping[str, Any]) -> dict[str, Any]:
    """What a pod runs, and on what: a model is often brought by an init container, or by a volume."""
    containers = ("initContainers", "containers")
    told: dict[str, Any] = {kind: [_container(one) for one in pod.get(kind) or ()] for kind in containers}
    return {**told, "volumes": pod.get("volumes") or []}


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    return {key: container[key] for key in _OF_CONTAINER if container.get(key)}


def _dumped(part: Any, **which: Any) -> Any:
    # What is as it is by default is left out: a version that knows one field more must not make another model of it.
    return part.model_dump(mode="json", exclude_defaults=True, **which) if part is not None else None


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
