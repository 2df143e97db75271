"""Counters that somebody else keeps: restarts, several API servers, and nothing told twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from modelward.planner.refusals import MAX_INSTANCES, Known, Reading, Refusals, addresses, follow, read, together

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
START = NOW - timedelta(hours=1)
FIRST, SECOND = START.timestamp(), NOW.timestamp()
NAME = "modelward-cluster-enforce"


def sample(value: str, **labels: str) -> str:
    written = ",".join(f'{name}="{text}"' for name, text in sorted(labels.items()))
    return f"apiserver_validating_admission_policy_check_total{{{written}}} {value}"


# As Kubernetes 1.37 writes them; versions before had `state` for `error_type`.
TEXT = [
    "# TYPE apiserver_validating_admission_policy_check_total counter",
    sample("3", enforcement_action="deny", error_type="no_error", policy=NAME, policy_binding=NAME),
    sample("1", enforcement_action="deny", error_type="invalid_error", policy=NAME, policy_binding="x"),
    sample("1e+06", enforcement_action="deny", policy="modelward-unprotect", policy_binding="x", state="active"),
    sample("9", enforcement_action="audit", error_type="no_error", policy=NAME, policy_binding="x"),
    sample("9", enforcement_action="deny", error_type="no_error", policy="another", policy_binding='a\\"}b'),
    f"process_start_time_seconds {FIRST}",
    "nonsense",
]


def test_reading() -> None:
    assert read(TEXT) == Reading(FIRST, {NAME: 4, "modelward-unprotect": 1_000_000})
    with pytest.raises(ValueError, match="process_start_time_seconds"):
        read(TEXT[:-2])


def test_only_what_rose_is_news() -> None:
    known, found = follow(Known(), Reading(FIRST, {NAME: 4}), NOW)
    assert found == [Refusals(NAME, 4, START)]
    known, found = follow(known, Reading(FIRST, {NAME: 4}), NOW + timedelta(minutes=1))
    assert found == []
    known, found = follow(known, Reading(FIRST, {NAME: 6, "modelward-status": 1}), NOW + timedelta(minutes=2))
    since = NOW + timedelta(minutes=1)
    assert found == [Refusals(NAME, 2, since), Refusals("modelward-status", 1, since)]
    assert known.total == {NAME: 6, "modelward-status": 1}


def test_a_restart_begins_anew_and_loses_nothing() -> None:
    known, _ = follow(Known(), Reading(FIRST, {NAME: 4}), NOW)
    known, found = follow(known, Reading(SECOND, {NAME: 1}), NOW + timedelta(minutes=1))
    assert found == [Refusals(NAME, 1, NOW)]
    assert known.total == {NAME: 5}


def test_several_api_servers_that_answer_in_turn() -> None:
    known = Known()
    told = 0
    for count in range(1, 5):
        for started in (FIRST, SECOND):
            known, found = follow(known, Reading(started, {NAME: count}), NOW)
            told += sum(one.failed for one in found)
    assert told == known.total[NAME] == 8


def test_what_is_kept_is_bounded_and_survives_a_restart_of_ours() -> None:
    known = Known()
    for index in range(20):
        known, _ = follow(known, Reading(FIRST + index, {NAME: 1, f"modelward-custom-{index:016}": 1}), NOW)
    assert len(known.denied) == len(known.looked) == MAX_INSTANCES
    assert known.total[NAME] == 20
    assert len(known.total) == 1 + MAX_INSTANCES
    assert Known.loaded(known.dumped()) == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"denied": {"1": {}}, "looked": {}, "total": {}}',
        '{"denied": {"1": 1}, "looked": {"1": "2026-03-01T12:00:00Z"}, "total": {}}',
        '{"denied": {"1": {}}, "looked": {"1": "2026-03-01T12:00:00"}, "total": {}}',
        '{"denied": {"x": {}}, "looked": {"x": "2026-03-01T12:00:00Z"}, "total": {}}',
    ],
)
def test_what_others_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Known.loaded(text)


def test_each_api_server_has_an_address() -> None:
    endpoints = [{"addresses": ["10.0.0.3"]}, {"addresses": ["10.0.0.2"]}, {"addresses": ["fd00::1"]}]
    found = addresses({"endpoints": endpoints, "ports": [{"name": "https", "port": 6443}]})
    assert found == ["https://10.0.0.2:6443", "https://10.0.0.3:6443", "https://[fd00::1]:6443"]
    assert addresses({}) == addresses({"endpoints": endpoints, "ports": None}) == []


def test_what_several_count_is_told_as_one() -> None:
    found = [Refusals(NAME, 2, NOW), Refusals("modelward-status", 1, NOW), Refusals(NAME, 3, START)]
    assert together(found) == [Refusals(NAME, 5, START), Refusals("modelward-status", 1, NOW)]
