from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.status import ModelDeploymentStatus
from modelward.lineage.outcome import Outcome, Result
from modelward.planner.observation import Observation, Obstacle
from modelward.planner.signatures import Asked, Signatures
from modelward.planner.status import invalid_status, status
from modelward.planner.tested import AskedTest, LastTest
from modelward.rules.judge import Verdict, Violation

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LINEAGE = "lineage.modelward.io/"
VIOLATION = Violation("ENC-001", "Encrypted", "high", "ClusterDataPolicy/baseline", "spec.encryption", "none", "add it")


def raw(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "wdbc",
            "namespace": "clinic",
            "generation": 3,
            "annotations": {f"{LINEAGE}consumer": "triage"},
        },
        "spec": {
            "replicas": 2,
            "model": {"image": "x"},
            "encryption": {"inTransit": {}},
            "access": {"rules": [{"subjects": ["user:lee"]}]},
            "monitoring": {"detectors": [{"type": "Mahalanobis"}]},
            **spec,
        },
    }


def deployment(ready: int = 2, **changes: Any) -> dict[str, Any]:
    counts = {"observedGeneration": 5, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready, **changes}
    return {"metadata": {"generation": 5}, "spec": {"replicas": 2}, "status": counts}


SERVING = Observation(
    verdict=Verdict(policies=("ClusterDataPolicy/baseline",)),
    deployment=deployment(),
    certificate="issued by modelward's own authority",
    certificate_ends="2026-03-08T12:00:00Z",
    probed=2,
)


def told(observation: Observation, item: dict[str, Any] | None = None, now: datetime = NOW) -> dict[str, Any]:
    item = item or raw()
    found = status(ModelDeployment.model_validate({**item, "status": None}), item, observation, now)
    ModelDeploymentStatus.model_validate(found)  # the shape that the CRD has
    return found


def test_the_certificate_is_told_with_its_end_where_there_is_one() -> None:
    source = "issued by modelward's own authority"
    assert told(SERVING)["certificate"] == {"source": source, "expires": "2026-03-08T12:00:00Z"}
    (encrypted,) = (one for one in told(SERVING)["conditions"] if one["type"] == "Encrypted")
    assert encrypted["message"].endswith(f"{source}, valid until 2026-03-08T12:00:00Z")
    assert "certificate" not in told(replace(SERVING, certificate="", certificate_ends=""))


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def test_a_model_that_serves() -> None:
    found = told(SERVING)
    assert conditions(found) == {
        "PolicyCompliant": ("True", "Compliant"),
        "Encrypted": ("True", "TLS"),
        "AccessControlled": ("True", "RulesEnforced"),
        "LineageVerified": ("True", "WellFormed"),
        "Monitored": ("True", "DetectorsConfigured"),
        "Fair": ("Unknown", "NotDeclared"),
        "KAnonymous": ("Unknown", "NotAsked"),
        "SecurityTested": ("Unknown", "NotRequested"),
        "Bypassable": ("False", "Probed"),
        "Ready": ("True", "Serving"),
    }
    assert found["endpoint"] == "https://wdbc.clinic.svc/v2/models/wdbc/infer"
    assert (found["replicas"], found["readyReplicas"], found["observedGeneration"]) == (2, 2, 3)
    assert found["selector"] == "modelward.io/model=wdbc"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"obstacle": Obstacle("ReferenceMissing", "no keys")}, "ReferenceMissing"),
        ({"reachable": ("wdbc-1",)}, "Bypassable"),
        ({"unwatched": ("wdbc-1",)}, "SidecarMissing"),
        ({"test": LastTest(AskedTest("baseline", gates=True))}, "SecurityTestMissing"),
        ({"test": LastTest(AskedTest("baseline", gates=True)), "deployment": deployment(ready=1)}, "PodsNotReady"),
        ({"deployment": None}, "PodsNotReady"),
        ({"deployment": deployment(ready=1)}, "PodsNotReady"),
        ({"deployment": deployment(updatedReplicas=1)}, "PodsNotReady"),
        ({"deployment": deployment(observedGeneration=4)}, "PodsNotReady"),
        ({"deployment": {**deployment(), "spec": {"replicas": 0}}}, "PodsNotReady"),
    ],
)
def test_what_keeps_a_model_from_being_ready(change: dict[str, Any], reason: str) -> None:
    assert conditions(told(replace(SERVING, **change)))["Ready"] == ("False", reason)


def test_an_obstacle_stalls_and_a_rollout_reconciles() -> None:
    stalled = conditions(told(Observation(verdict=Verdict(), obstacle=Obstacle("NotSupported", "spec.fairness"))))
    assert stalled["Stalled"] == ("True", "NotSupported")
    assert "Reconciling" not in stalled
    assert stalled["Encrypted"][0] == stalled["AccessControlled"][0] == stalled["Monitored"][0] == "Unknown"
    rolling = conditions(told(replace(SERVING, deployment=deployment(ready=1))))
    assert rolling["Reconciling"] == ("True", "Progressing")
    assert "Stalled" not in rolling
    refused = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: it has no sidecar"}
    found = told(replace(SERVING, deployment=deployment(ready=0, conditions=[refused])))
    assert conditions(found)["Stalled"] == ("True", "PodsFailing")
    assert "it has no sidecar" in next(one["message"] for one in found["conditions"] if one["type"] == "Ready")


def test_violations_are_listed_and_those_not_enforced_do_not_forbid_ready() -> None:
    broken = told(replace(SERVING, verdict=Verdict(violations=(VIOLATION,)), obstacle=Obstacle("PolicyViolation", "x")))
    assert conditions(broken)["PolicyCompliant"] == ("False", "PolicyViolation")
    assert broken["violations"][0]["rule"] == "ENC-001"
    warned = told(replace(SERVING, verdict=Verdict(warnings=(VIOLATION,))))
    assert conditions(warned)["PolicyCompliant"] == ("False", "PolicyWarning")
    assert conditions(warned)["Ready"] == ("True", "Serving")
    assert len(told(replace(SERVING, verdict=Verdict(audits=(VIOLATION,) * 100)))["violations"]) == 64


def test_what_a_policy_asks_at_readiness_keeps_callers_away() -> None:
    stale = replace(VIOLATION, rule="TST-004")
    found = told(replace(SERVING, readiness=Verdict(violations=(stale,))))
    assert conditions(found)["Ready"] == ("False", "RequirementNotMet")
    assert conditions(found)["PolicyCompliant"] == ("False", "PolicyViolation")
    assert conditions(found)["LineageVerified"] == ("True", "WellFormed")
    assert [item["rule"] for item in found["violations"]] == ["TST-004"]
    assert "endpoint" not in found
    warned = told(replace(SERVING, readiness=Verdict(warnings=(stale,))))
    assert conditions(warned)["Ready"] == ("True", "Serving")
    assert conditions(warned)["PolicyCompliant"] == ("False", "PolicyWarning")
    assert "endpoint" in warned


def test_lineage_that_nobody_signed_is_not_verified() -> None:
    unsigned = replace(VIOLATION, rule="LIN-009")
    found = told(replace(SERVING, readiness=Verdict(audits=(unsigned,))))
    assert conditions(found)["LineageVerified"] == ("False", "NotVerified")
    assert conditions(found)["Ready"] == ("True", "Serving"), "an audit only records"


def test_malformed_lineage_keeps_callers_away() -> None:
    item = raw()
    item["metadata"]["annotations"][f"{LINEAGE}transformations"] = "z-score"
    found = told(SERVING, item)
    assert conditions(found)["LineageVerified"] == ("False", "Malformed")
    assert conditions(found)["Ready"] == ("False", "LineageNotVerified")
    assert "endpoint" not in found
    item["metadata"]["annotations"] = {}
    assert conditions(told(SERVING, item))["LineageVerified"] == ("Unknown", "NotDeclared")


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (None, ("True", "NobodyAllowed")),
        ({"rules": [{"subjects": ["user:lee"]}, {"subjects": ["*"]}]}, ("False", "AnyoneAllowed")),
    ],
)
def test_access(access: Any, expected: tuple[str, str]) -> None:
    assert conditions(told(SERVING, raw(access=access)))["AccessControlled"] == expected


def test_scaled_to_zero_and_v1() -> None:
    item = raw(replicas=0, model={"image": "x", "protocol": "v1", "name": "iris"})
    found = told(replace(SERVING, deployment={**deployment(0), "spec": {"replicas": 0}}), item)
    assert conditions(found)["Ready"] == ("False", "ScaledToZero")
    assert found["endpoint"] == "https://wdbc.clinic.svc/v1/models/iris:predict"


def test_times_change_with_the_status_alone() -> None:
    item = raw()
    first = told(SERVING, item)
    item["status"] = first
    later = told(SERVING, item, NOW + timedelta(hours=1))
    assert later == first  # nothing to write
    item["status"] = later
    broken = told(replace(SERVING, reachable=("wdbc-1",)), item, NOW + timedelta(hours=2))
    times = {one["type"]: one["lastTransitionTime"] for one in broken["conditions"]}
    assert times["Ready"] == times["Bypassable"] == "2026-03-01T14:00:00Z"
    assert times["Encrypted"] == "2026-03-01T12:00:00Z"


def test_a_spec_of_another_version() -> None:
    found = invalid_status(raw(), "spec.novelty: unknown field", NOW)
    ModelDeploymentStatus.model_validate(found)
    assert conditions(found) == {"Ready": ("False", "InvalidSpec"), "Stalled": ("True", "InvalidSpec")}


def signed(reason: Any, message: str = "why") -> Signatures:
    asking = {"kind": "DataPolicy", "metadata": {"name": "p", "namespace": "clinic"}}
    signers = ("key:ml",) if reason == "Signed" else ()
    return Signatures((Asked(asking, Outcome((Result("model", reason, message, signers),))),))


def test_a_lineage_that_is_signed_says_by_whom() -> None:
    found = told(replace(SERVING, signatures=signed("Signed", "signed by key:ml")))
    (condition,) = (one for one in found["conditions"] if one["type"] == "LineageVerified")
    assert (condition["status"], condition["reason"]) == ("True", "Signed")
    assert condition["message"] == "model signed by key:ml"
    assert found["lineage"] == {"signedBy": ["key:ml"], "statements": []}


@pytest.mark.parametrize("reason", ["SignatureInvalid", "SignerNotTrusted", "DigestMismatch", "Cyclic"])
def test_a_lineage_that_is_not_signed_says_why(reason: str) -> None:
    found = told(replace(SERVING, signatures=signed(reason)))
    (condition,) = (one for one in found["conditions"] if one["type"] == "LineageVerified")
    assert (condition["status"], condition["reason"]) == ("False", reason)
    assert condition["message"] == "lineage.modelward.io/model: why (asked by DataPolicy/clinic/p)"
    assert found["lineage"]["signedBy"] == []


def test_signers_are_forgotten_where_nobody_asks_any_more_and_consumers_are_not() -> None:
    item = raw()
    windows = {"emitted": 1, "failed": 0, "dropped": 0}
    item["status"] = {"lineage": {"signedBy": ["key:ml"], "statements": [], "consumers": [], "windows": windows}}
    found = told(SERVING, item)
    assert found["lineage"] == {"signedBy": [], "statements": [], "consumers": [], "windows": windows}
    item["status"] = {"lineage": {"signedBy": ["key:ml"], "statements": []}}
    assert "lineage" not in told(SERVING, item)
