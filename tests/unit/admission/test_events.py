"""What Events say; that the API server takes them is shown in tests/integration/test_admission_server.py."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelward.admission.client import ApiError
from modelward.admission.events import MAX_MESSAGE, MAX_QUEUE, About, Event, Recorder, events_of, manifest
from modelward.admission.metrics import Metrics
from modelward.admission.review import Decision, Kind, Request
from modelward.rules.judge import Verdict, Violation

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
MODEL = Kind("modelward.io", "v1alpha1", "ModelDeployment")


def violation(rule: str, policy: str) -> Violation:
    return Violation(rule, "title", "high", policy, "spec.x", "found", "fix")


VIOLATIONS = (
    violation("ENC-001", "ClusterDataPolicy/baseline"),
    violation("ACC-001", "DataPolicy/clinic/strict"),
    violation("LIN-001", "ClusterDataPolicy/baseline"),
)


def request(**change: Any) -> Request:
    return Request(**{"uid": "u", "kind": MODEL, "operation": "CREATE", "name": "m", "namespace": "clinic", **change})


REFUSED = Decision(allowed=False, message="no", verdict=Verdict(violations=VIOLATIONS))


def test_a_refusal_is_told_of_the_object_its_policies_and_its_namespace():
    events = events_of(request(), REFUSED, NOW)
    assert [(event.about.kind, event.about.namespace, event.about.name) for event in events] == [
        ("ModelDeployment", "clinic", "m"),
        ("ClusterDataPolicy", "", "baseline"),
        ("DataPolicy", "clinic", "strict"),
        ("Namespace", "", "clinic"),
    ]
    assert {event.reason for event in events} == {"PolicyViolation"}
    assert all(rule in events[0].message for rule in ("ENC-001", "ACC-001", "LIN-001"))
    assert events[1].message == "refused ModelDeployment clinic/m: ENC-001, LIN-001"


def test_a_warning_is_told_of_the_object_alone():
    (event,) = events_of(request(), Decision(allowed=True, verdict=Verdict(warnings=VIOLATIONS)), NOW)
    assert (event.reason, event.about.kind) == ("PolicyWarning", "ModelDeployment")


def test_nothing_is_told_of_what_was_let_in_or_only_rehearsed():
    assert events_of(request(), Decision(allowed=True), NOW) == []
    assert events_of(request(dry_run=True), REFUSED, NOW) == []


def test_an_object_that_exists_is_named_by_its_uid():
    events = events_of(request(old_object={"metadata": {"uid": "123"}}), REFUSED, NOW)
    assert manifest(events[0])["involvedObject"]["uid"] == "123"
    assert "uid" not in manifest(events_of(request(), REFUSED, NOW)[0])["involvedObject"]


def test_events_live_where_the_api_server_takes_them():
    spaces = [manifest(event)["metadata"]["namespace"] for event in events_of(request(), REFUSED, NOW)]
    assert spaces == ["clinic", "default", "clinic", "default"]


def test_one_name_for_what_is_told_again():
    first = Event(About("v1", "Pod", "p", "a"), "PolicyViolation", "one", NOW)
    again = replace(first, message="two", about=replace(first.about, uid="1"))
    assert manifest(first)["metadata"] == manifest(again)["metadata"]
    for other in (replace(first, reason="PolicyWarning"), replace(first, about=About("v1", "Pod", "q", "a"))):
        assert manifest(other)["metadata"] != manifest(first)["metadata"]


@given(st.text(max_size=3000))
def test_messages_are_one_line_of_bounded_length(text):
    message = manifest(Event(About("v1", "Pod", "p"), "PolicyViolation", text, NOW))["message"]
    assert len(message.encode()) <= MAX_MESSAGE
    assert "\n" not in message


class Server:
    """Events as an API server keeps them, with another replica that interferes."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.conflicts = 0
        self.failing = False

    async def create(self, path: str, item: dict[str, Any]) -> None:
        if self.failing:
            raise ApiError(500, "down")
        key = f"{path}/{item['metadata']['name']}"
        if key in self.events:
            raise ApiError(409, "exists")
        self.events[key] = {**item, "metadata": {**item["metadata"], "resourceVersion": "1"}}

    async def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any]:
        event = self.events[path]
        if "count" in patch and self.conflicts:
            self.conflicts -= 1
            event["count"] += 10
            event["metadata"]["resourceVersion"] += "1"
        if patch.get("metadata", event["metadata"])["resourceVersion"] != event["metadata"]["resourceVersion"]:
            raise ApiError(409, "conflict")
        event.update({key: value for key, value in patch.items() if key != "metadata"})
        event["metadata"]["resourceVersion"] += "1"
        return {**event, "metadata": dict(event["metadata"])}


def recorder(server: Server) -> tuple[Recorder, Metrics]:
    metrics = Metrics()
    return Recorder(server, metrics, seconds_between=0), metrics  # type: ignore[arg-type]


EVENT = Event(About("v1", "Pod", "p", "a"), "PolicyViolation", "no", NOW)


async def test_counts_add_up_over_writes_and_replicas():
    server = Server()
    first, _ = recorder(server)
    first.record([EVENT, EVENT])
    await first.drain(1)
    second, metrics = recorder(server)
    server.conflicts = 1
    second.record([replace(EVENT, message="again")])
    await second.drain(1)
    (event,) = server.events.values()
    assert event["count"] == 2 + 10 + 1
    assert event["message"] == "again"
    assert metrics.events == {"written": 1}


async def test_a_flood_is_bounded_and_what_is_dropped_is_counted():
    writer, metrics = recorder(Server())
    flood = [replace(EVENT, about=About("v1", "Pod", f"p{index}", "a")) for index in range(MAX_QUEUE + 50)]
    space = Event(About("v1", "Namespace", "a"), "PolicyViolation", "no", NOW)
    for event in flood:
        writer.record([event, space])
    assert len(writer._queue) == MAX_QUEUE
    assert metrics.events["dropped"] == 51
    assert writer._queue[space.key].count == len(flood)  # the namespace's tells of them all


async def test_an_api_server_that_is_down_stops_nothing(caplog):
    server = Server()
    server.failing = True
    writer, metrics = recorder(server)
    writer.record([EVENT])
    running = asyncio.ensure_future(writer.run())
    await asyncio.sleep(0.01)
    server.failing = False
    writer.record([EVENT])
    await asyncio.sleep(0.01)
    running.cancel()
    assert metrics.events == {"failed": 1, "written": 1}
