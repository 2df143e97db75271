"""The status of a policy, and what in it is news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelward.api.policystatus import PolicyStatus
from modelward.planner.policy_status import ENDS_SOON, Examined, active_exceptions, news, next_change, policy_status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAME = "DataPolicy/clinic/clinic"
RULE = {"id": "OWN-001", "expression": "true", "message": "'m'"}


def policy(*expires: str, **spec: Any) -> dict[str, Any]:
    exceptions = [
        {"rules": ["ENC-001"], "names": ["legacy"], "namespaces": [], "expires": end, "reason": "r", "approvedBy": "a"}
        for end in expires
    ]
    metadata = {"name": "clinic", "namespace": "clinic", "generation": 2}
    return {
        "kind": "DataPolicy",
        "metadata": metadata,
        "spec": {"enforcement": "Warn", "exceptions": exceptions, **spec},
    }


def status(item: dict[str, Any], now: datetime = NOW, **found: Any) -> dict[str, Any]:
    told = policy_status(item, Examined(name=NAME, **found), now)
    PolicyStatus.model_validate(told)  # the shape that the CRD has
    return told


def conditions(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def reasons(item: dict[str, Any], now: datetime = NOW, **found: Any) -> list[str]:
    return [one.reason for one in news(item, status(item, now, **found), now)]


def test_exceptions_count_until_they_end() -> None:
    item = policy("2026-03-01T12:00:01Z", "2026-03-01T12:00:00Z", "2026-03-01T14:00:00+01:00", "someday")
    active = active_exceptions(item, NOW)
    assert [one["expires"] for one in active] == ["2026-03-01T12:00:01Z", "2026-03-01T14:00:00+01:00"]
    assert active[0].items() >= {"reason": "r", "approvedBy": "a", "rules": ["ENC-001"], "names": ["legacy"]}.items()
    assert next_change(item, NOW) == NOW + timedelta(seconds=1)
    assert next_change(policy(), NOW) is None


def test_a_warning_comes_before_the_end_and_each_is_told_once() -> None:
    item = policy("2026-04-01T12:00:00Z")
    ends = datetime(2026, 4, 1, 12, tzinfo=UTC)
    assert next_change(item, NOW) == ends - ENDS_SOON
    assert reasons(item) == []
    item["status"] = status(item)
    assert "ExceptionsEnding" not in conditions(item["status"])

    soon = ends - ENDS_SOON
    assert next_change(item, soon) == ends
    assert reasons(item, soon) == ["ExceptionEnding"]
    item["status"] = status(item, soon)
    assert conditions(item["status"])["ExceptionsEnding"] == ("True", "EndsWithin7Days")
    assert item["status"]["activeExceptions"][0]["endsSoon"] is True
    assert reasons(item, soon + timedelta(days=1)) == []

    (told,) = news(item, status(item, ends), ends)
    assert told.reason == "ExceptionExpired"
    assert "from ENC-001 for legacy, approved by a ends 2026-04-01T12:00:00Z" in told.message
    item["status"] = status(item, ends)
    assert item["status"]["activeExceptions"] == []
    assert "ExceptionsEnding" not in conditions(item["status"])
    assert reasons(item, ends + timedelta(minutes=1)) == []


def test_a_status_is_what_the_api_server_makes_of_it() -> None:
    """With a default left to the API server the status would be written anew at every look."""
    told = policy_status(policy("2026-04-01T12:00:00Z", "2026-03-02T12:00:00Z"), Examined(name=NAME), NOW)
    assert PolicyStatus.model_validate(told).model_dump(by_alias=True, exclude_none=True) == told


def test_an_exception_that_is_taken_out_has_not_expired() -> None:
    item = policy("2026-04-01T12:00:00Z")
    item["status"] = status(item)
    assert reasons({**policy(), "status": item["status"]}) == []


def test_whom_a_policy_governs_is_counted_and_times_change_with_the_truth_alone() -> None:
    governed: list[dict[str, int]] = [{NAME: 2}, {NAME: 0}, {"other": 9}]
    found = status(policy(), governed=governed)
    assert (found["governed"], found["violations"]) == (2, 2)
    assert conditions(found) == {"Ready": ("True", "InForce")}
    assert status({**policy(), "status": found}, NOW + timedelta(days=1), governed=governed) == found


def test_invalid_and_doubtful_rules_are_told_once_and_again_when_they_change() -> None:
    item = policy(rules=[RULE])
    assert conditions(status(item))["RulesValid"] == ("True", "Compiled")
    wrong: dict[str, Any] = {"invalid": ["spec.rules[0].expression is not valid CEL"]}
    assert reasons(item, **wrong) == ["InvalidRule"]
    item["status"] = status(item, **wrong)
    assert conditions(item["status"]) == {"Ready": ("False", "InvalidRule"), "RulesValid": ("False", "InvalidRule")}
    assert reasons(item, **wrong) == []
    doubted = {"doubtful": ["spec.rules[0] (OWN-001): undefined field 'replica'"]}
    assert reasons(item, **doubted) == ["InvalidRule"]
    item["status"] = status(item, **doubted)
    assert conditions(item["status"]) == {"Ready": ("True", "InForce"), "RulesValid": ("False", "TypeWarning")}
    assert reasons(item) == []


def test_more_policies_than_allowed_are_told_of() -> None:
    item = policy()
    assert "TooManyPolicies" not in conditions(status(item, neighbours=10))
    assert reasons(item, neighbours=11) == ["TooManyPolicies"]
    item["status"] = status(item, neighbours=11)
    assert conditions(item["status"])["TooManyPolicies"] == ("True", "LimitExceeded")
    assert reasons(item, neighbours=11) == []


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("DataPolicy", {"rules": []}, "rules is empty"),
        ("DataPolicy", {"names": []}, "names is empty"),
        ("DataPolicy", {"rules": ["ENC-001", "ENC-999"]}, "there is no rule ENC-999"),
        ("ClusterDataPolicy", {}, "namespaces is empty"),
        ("ClusterDataPolicy", {"namespaces": ["clinic"], "rules": ["OWN-001"]}, ""),
        ("DataPolicy", {}, ""),
    ],
)
def test_an_exception_that_excuses_nothing_is_told_of(kind: str, change: dict[str, Any], told: str) -> None:
    item = {**policy("2026-04-01T12:00:00Z", rules=[RULE]), "kind": kind}
    item["spec"]["exceptions"][0].update(change)
    found = status(item)
    assert ("ExceptionsIdle" in conditions(found)) == bool(told)
    assert reasons(item) == (["ExceptionsIdle"] if told else [])
    assert told in next((one["message"] for one in found["conditions"] if one["type"] == "ExceptionsIdle"), "")
    assert ("1 exception(s) count now" in found["conditions"][0]["message"]) != bool(told)
    item["status"] = found
    assert reasons(item) == []
