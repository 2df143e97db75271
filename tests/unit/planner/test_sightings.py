from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.status import MonitoringStatus
from modelward.detect.origin import Known, known_of
from modelward.incidents import MAX_INCIDENTS, Drifted, Incident, Quarantined, Rate, Report
from modelward.planner.monitored import Watch, max_age_days, monitored
from modelward.planner.sightings import (
    MAX_LISTED,
    MAX_TOLD,
    Seen,
    gathered,
    monitoring_status,
    news,
    to_spread,
    without,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHA, OTHER = "a" * 64, "b" * 64


def at(minute: int) -> str:
    return f"2026-03-01T11:{minute:02}:00Z"


def incident(client: str = "user:thief", detector: str = "Ensemble", **changes: Any) -> Incident:
    values = {"issuer": "clinic", "network": "10.0.0.0/24", "action": "blocked", "count": 3, "reference": "r1"}
    values |= {"first": at(0), "last": at(5)}
    return Incident(client=client, detector=detector, **(values | changes))


def held(client: str = "user:thief", until: str = "2026-03-01T13:00:00Z", **changes: Any) -> Quarantined:
    return Quarantined(client, **({"issuer": "clinic", "since": at(5), "until": until, "reason": "Ensemble"} | changes))


def report(*incidents: Incident, **changes: Any) -> Report:
    values: dict[str, Any] = {"model": "clinic/wdbc", "baseline": "", "fitted": "", "since": at(0), "dropped": 0}
    values |= {"quarantined": (), "rates": (), "drift": ()}
    return Report(incidents=incidents, **(values | changes))


def test_a_client_and_a_detector_are_one_line_over_all_replicas() -> None:
    seen = gathered(
        {
            "a": report(incident(), incident(network="10.0.1.0/24", count=2, last=at(9), reference="r2")),
            "b": report(incident(first=at(2), action="flagged", count=1), incident("user:lee")),
            "c": "no answer",
        }
    )
    assert (seen.asked, seen.silent) == (3, ("c: no answer",))
    thief, lee = seen.sightings
    assert (thief.count, thief.first, thief.last, thief.reference) == (6, at(0), at(9), "r2")
    assert (thief.actions, len(thief.networks)) == (("blocked", "flagged"), 2)
    assert thief.sentence == (
        "user:thief (issuer clinic): 6 anomalies found by Ensemble from 2 networks, blocked and flagged;"
        f" the last at {at(9)}, request r2"
    )
    assert lee.count == 3


def test_replicas_that_do_not_hold_a_client_are_told_and_no_others() -> None:
    told: dict[str, Report | str] = {
        "a": report(quarantined=(held(), held("user:x"))),
        "b": report(quarantined=(held("user:x", until="2026-03-01T14:00:00Z"),)),
        "c": "no answer",
    }
    assert to_spread(told) == {"b": (held(),)}
    assert to_spread(without(told, "user:thief")) == {}
    assert [one.client for one in gathered(without(told, "user:thief")).quarantined] == ["user:x"]


def test_what_is_told_already_is_no_news_and_what_goes_on_is() -> None:
    seen = gathered({"a": report(incident(), quarantined=(held(),))})
    before = monitoring_status(seen)
    MonitoringStatus.model_validate(before)  # the shape that the CRD has
    assert news(seen, {}) == (list(seen.sightings), list(seen.quarantined))
    assert news(seen, before) == ([], [])
    more = gathered({"a": report(incident(count=4, last=at(6)), quarantined=(held(),))})
    assert news(more, before) == (list(more.sightings), [])
    restarted = gathered({"a": report(incident(count=1))})  # a sidecar that began anew counts anew
    assert news(restarted, before) == ([], [])


def test_a_flood_of_clients_is_few_lines() -> None:
    seen = gathered({"a": report(*(incident(f"user:{n}", count=n + 1) for n in range(500)))})
    sightings, _ = news(seen, {})
    assert len(sightings) == MAX_TOLD
    assert sightings[0].client == "user:499"
    told = monitoring_status(seen)
    assert len(told["incidents"]) == MAX_LISTED
    assert told["anomalies"] == sum(range(501))


@given(
    st.lists(
        st.builds(Incident, *[st.text(max_size=300)] * 5, st.integers(), *[st.text(max_size=300)] * 3), max_size=20
    )
)
def test_whatever_a_sidecar_says_fits_a_status(incidents: list[Incident]) -> None:
    valid = [incident(one.client or "x", one.detector or "x", issuer=one.issuer, count=one.count) for one in incidents]
    seen = gathered({"a": report(*incidents, *valid)})
    for one in monitoring_status(seen)["incidents"]:
        assert all(str(value).isprintable() for value in one.values())
        if one["client"] and one["detector"]:
            MonitoringStatus.model_validate({"incidents": [one]})


@given(st.lists(st.builds(Drifted, st.text(max_size=300), st.text(max_size=300), st.floats()), max_size=80))
def test_drift_that_a_sidecar_tells_of_fits_a_status_the_worst_first(drift: list[Drifted]) -> None:
    told = monitoring_status(gathered({"a": report(drift=tuple(drift))})).get("drift", [])
    MonitoringStatus.model_validate({"drift": told})
    assert len(told) <= MAX_LISTED
    scores = [one["score"] for one in told]
    assert scores == sorted(scores, reverse=True)
    assert all(one["feature"].isprintable() and 1 <= one["score"] <= 10**12 for one in told)


def md(lineage: str = "") -> ModelDeployment:
    annotations = {"lineage.modelward.io/dataset": lineage} if lineage else {}
    item = {"apiVersion": "modelward.io/v1alpha1", "kind": "ModelDeployment"}
    spec = {"model": {"image": "x"}, "monitoring": {"detectors": [{"type": "Ensemble"}]}}
    return ModelDeployment.model_validate(
        {**item, "metadata": {"name": "wdbc", "annotations": annotations}, "spec": spec}
    )


QUIET = Seen(asked=2)


@pytest.mark.parametrize(
    ("seen", "status", "reason", "part"),
    [
        (None, "True", "DetectorsConfigured", "Ensemble"),
        (Seen(), "True", "DetectorsConfigured", "Ensemble"),
        (QUIET, "True", "DetectorsWatching", "Ensemble; on an anomaly: Block"),
        (gathered({"a": report(), "b": "no answer"}), "True", "DetectorsWatching", "not telling: b: no answer"),
        (gathered({"a": "no answer"}), "Unknown", "SidecarsSilent", "a: no answer"),
        (gathered({"a": report(incident())}), "True", "AnomaliesSeen", "1 client: user:thief 3 by Ensemble"),
        (gathered({"a": report(incident(last="2026-03-01T10:59:00Z"))}), "True", "DetectorsWatching", ""),
        (gathered({"a": report(incident(), quarantined=(held(),))}), "True", "Quarantined", "until 2026-03-01T13"),
        (gathered({"a": report(drift=(Drifted("age", "KS", 1.7),))}), "False", "Drifted", "age (KS 1.7 times"),
        (gathered({"a": report(drift=(Drifted("age", "KS", 0.7),))}), "True", "DetectorsWatching", ""),
        (gathered({"a": report(rates=(Rate("Ensemble", 0.01, 0.05, 0.04, 0.06, 5000),))}), "False", "RateOff", "5.00%"),
        (
            gathered({"a": report(rates=(Rate("Ensemble", 0.01, 0.05, 0.04, 0.06, 99),))}),
            "True",
            "DetectorsWatching",
            "",
        ),
        (
            gathered({"a": report(rates=(Rate("Ensemble", 0.01, 0.01, 0.0, 0.02, 5000),))}),
            "True",
            "DetectorsWatching",
            "",
        ),
    ],
)
def test_what_the_condition_says_of_what_was_seen(seen: Seen | None, status: str, reason: str, part: str) -> None:
    told = monitored(md(), Watch(seen), NOW)
    assert told[:2] == (status, reason)
    assert part in told[2]


def test_what_a_look_told_stands_until_the_next_one() -> None:
    before = {"status": "True", "reason": "Quarantined", "message": "in quarantine: user:thief"}
    assert monitored(md(), Watch(before=before), NOW) == ("True", "Quarantined", "in quarantine: user:thief")
    stale = {"status": "False", "reason": "BaselineStale", "message": "of before"}
    assert monitored(md(), Watch(before=stale), NOW)[1] == "DetectorsConfigured"


@pytest.mark.parametrize(
    ("lineage", "known", "days", "stale"),
    [
        ("", Known(), None, ""),
        (f"s3://x@sha256:{SHA}", Known(data_sha256=SHA), None, ""),
        (f"s3://x@sha256:{SHA}", Known(data_sha256=OTHER, lineage=f"s3://x@sha256:{SHA}"), None, ""),
        (f"s3://x@sha256:{SHA}", Known(data_sha256=OTHER), None, f"the lineage annotation dataset names sha256:{SHA}"),
        ("s3://x", Known(data_sha256=OTHER), None, ""),
        ("", Known(fitted="2026-02-20T12:00:00Z"), 10, ""),
        ("", Known(fitted="2026-02-18T12:00:00Z"), 10, "fitted at 2026-02-18T12:00:00Z"),
        ("", Known(), 10, "does not say when it was fitted"),
        ("", Known(fitted="2026-02-18T12:00:00"), 10, "does not say when it was fitted"),
        ("", None, 10, ""),
    ],
)
def test_a_stale_baseline_is_told_and_how_to_mend_it(
    lineage: str, known: Known | None, days: int | None, stale: str
) -> None:
    for seen in (None, QUIET):
        status, reason, message = monitored(md(lineage), Watch(seen, known, days), NOW)
        assert (reason == "BaselineStale") is bool(stale)
        assert status == ("False" if stale else "True")
        assert stale in message
        assert not stale or "fit it anew" in message


def test_the_strictest_policy_says_how_old_a_baseline_may_be() -> None:
    def policy(days: int | None) -> dict[str, Any]:
        return {"spec": {"require": {"monitoring": {} if days is None else {"baselineMaxAgeDays": days}}}}

    assert max_age_days([policy(None), policy(30), policy(7), {"spec": {}}]) == 7
    assert max_age_days([policy(None)]) is None


def test_where_a_baseline_comes_from_is_read_without_its_arrays() -> None:
    import numpy as np  # noqa: PLC0415

    from modelward.detect import fitting  # noqa: PLC0415
    from modelward.detect.baseline import Origin  # noqa: PLC0415

    rows = np.random.default_rng(0).normal(size=(200, 3))
    origin = Origin(lineage="s3://x", fitted="2026-02-18T12:00:00Z")
    content = fitting.fit(rows, ["a", "b", "c"], data=b"data", origin=origin).to_bytes()
    found = known_of(content)
    assert found is not None
    assert (found.lineage, found.fitted) == ("s3://x", "2026-02-18T12:00:00Z")
    assert len(found.data_sha256) == 64
    for damaged in (b"", content[:50], content[: len(content) // 2]):
        assert known_of(damaged) is None


@given(st.binary(max_size=200))
def test_what_is_no_baseline_tells_nothing(content: bytes) -> None:
    assert known_of(content) is None


def test_an_hour_later_the_condition_is_quiet_again() -> None:
    seen = gathered({"a": report(incident(last=at(30)))})
    assert monitored(md(), Watch(seen), NOW)[1] == "AnomaliesSeen"
    assert monitored(md(), Watch(seen), NOW + timedelta(hours=1))[1] == "DetectorsWatching"


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59-23:59",
        "0999-01-01T00:00:00Z",
        "2026-03-01T11:00:00",
        "soon",
    ],
)
def test_a_time_that_is_none_of_ours_costs_its_own_line_alone(moment: str) -> None:
    lying = report(incident(last=moment), incident(first=moment), quarantined=(held(until=moment), held(since=moment)))
    told = {"a": lying, "b": report(incident("user:lee"), quarantined=(held("user:mallory"),)), "c": report()}
    seen = gathered(told)
    assert [one.client for one in seen.sightings] == ["user:lee"]
    assert seen.recent(NOW, 3600) == seen.sightings
    assert [one.client for one in seen.quarantined] == ["user:mallory"]
    assert [one.client for one in to_spread(told)["c"]] == [
        "user:mallory"
    ]  # one bad time has a sidecar refuse them all


def test_reports_of_many_networks_are_gathered_in_no_time() -> None:
    many = report(*(incident(network=str(number)) for number in range(MAX_INCIDENTS)))
    began = time.process_time()
    seen = gathered({str(pod): many for pod in range(10)})
    assert time.process_time() - began < 5  # two by two it took 25
    assert (seen.anomalies, len(seen.sightings[0].networks)) == (30 * MAX_INCIDENTS, MAX_INCIDENTS)


def test_a_report_of_more_lines_than_a_sidecar_keeps_is_none() -> None:
    most = report(*[incident()] * MAX_INCIDENTS)
    assert msgspec.json.decode(msgspec.json.encode(most), type=Report) == most
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(report(*[incident()] * (MAX_INCIDENTS + 1))), type=Report)


def test_clients_of_long_names_are_spread_in_requests_that_a_sidecar_takes() -> None:
    longest = tuple(held(f"{number:04}" + "\x00" * 1020, issuer="\x00" * 1024) for number in range(300))
    spread = to_spread({"a": report(quarantined=longest), "b": report()})["b"]
    assert 10 < len(spread) < 300
    assert len(msgspec.json.encode(spread)) < 1 << 20
