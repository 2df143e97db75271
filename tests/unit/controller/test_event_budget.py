"""What sidecars make up becomes so many Events an hour, and one that counts the rest."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.controller.cluster import ApiError
from modelward.controller.event_budget import AGAIN, BETWEEN, HOUR, NEW, EventBudget
from modelward.controller.events import Recorder
from modelward.controller.telling import tell
from modelward.incidents import Incident, Quarantined, Report
from modelward.planner.sightings import gathered, monitoring_status

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
LOOK = timedelta(seconds=15)
WITHHELD = int(HOUR / BETWEEN)  # of the Events about what was withheld, in an hour


def model(name: str = "wdbc") -> dict[str, Any]:
    metadata = {"namespace": "clinic", "name": name, "uid": f"uid-{name}"}
    return {"apiVersion": "modelward.io/v1alpha1", "kind": "ModelDeployment", "metadata": metadata}


class Cluster:
    """The API server's Events: each as it stands, and how often anything was written."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.writes: list[str] = []

    async def create(self, event: dict[str, Any]) -> None:
        self.writes.append(event["reason"])
        if event["metadata"]["name"] in self.events:
            raise ApiError(409, "AlreadyExists", "there")
        self.events[event["metadata"]["name"]] = dict(event)

    async def merge(self, event: dict[str, Any], patch: dict[str, Any]) -> None:
        self.writes.append(event["reason"])
        self.events[event["metadata"]["name"]] |= patch

    def of(self, reason: str) -> list[dict[str, Any]]:
        return [one for one in self.events.values() if one["reason"] == reason]


class Scene:
    def __init__(self) -> None:
        self.now = BEGAN
        self.cluster = Cluster()
        self.recorder = self.begin()
        self.before: dict[str, dict[str, Any]] = {}

    def begin(self) -> Recorder:
        return Recorder(cast("Any", self.cluster), lambda: self.now)

    async def look(self, report: Report, name: str = "wdbc") -> None:
        seen = gathered({"pod": report})
        await tell(self.recorder, model(name), seen, self.before.get(name, {}))
        self.before[name] = monitoring_status(seen)
        self.now += LOOK


def at(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def report(*clients: str, now: datetime, held: bool = False) -> Report:
    end = at(now + timedelta(days=1))
    incidents = tuple(
        Incident(one, "i", "10.0.0.0/24", "Ensemble", "blocked", 3, at(now), at(now), "r") for one in clients
    )
    quarantined = tuple(Quarantined(one, "i", at(now), end, "Ensemble") for one in clients) if held else ()
    return Report("clinic/wdbc", "", "", at(now), incidents, quarantined, (), (), 0)


async def test_a_sidecar_that_makes_clients_up_makes_so_many_events_an_hour_and_the_rest_are_counted() -> None:
    scene = Scene()
    for look in range(240):  # an hour of them, each with other clients, who are held as well
        await scene.look(report(*(f"user:{look}-{number}" for number in range(20)), now=scene.now, held=True))
    told = [reason for reason in scene.cluster.writes if reason != "EventsWithheld"]
    assert len(told) == NEW
    assert scene.cluster.writes.count("EventsWithheld") <= WITHHELD + 1
    scene.now += BETWEEN
    await scene.recorder.settle(model())
    (withheld,) = scene.cluster.of("EventsWithheld")
    assert withheld["count"] == 240 * 40 - NEW  # none is lost
    assert "more Events of what its sidecars tell were not written" in withheld["message"]
    assert withheld["type"] == "Warning"


async def test_whoever_makes_one_event_rise_leaves_room_for_what_is_new() -> None:
    scene = Scene()
    for _ in range(100):
        await scene.look(report(*(f"user:{number}" for number in range(20)), now=scene.now))
    assert len(scene.cluster.of("AnomalyDetected")) == 20
    assert scene.cluster.writes.count("AnomalyDetected") == 20 + AGAIN
    await scene.look(report("user:thief", now=scene.now, held=True))
    assert [one["message"].split()[0] for one in scene.cluster.of("ClientQuarantined")] == ["user:thief"]
    assert "user:thief" in [one["message"].split()[0] for one in scene.cluster.of("AnomalyDetected")]


async def test_one_models_flood_is_nobody_elses() -> None:
    scene = Scene()
    for look in range(10):
        await scene.look(report(*(f"user:{look}-{number}" for number in range(20)), now=scene.now))
    await scene.look(report("user:thief", now=scene.now), "other")
    about = [one["message"] for one in scene.cluster.events.values() if one["involvedObject"]["name"] == "other"]
    assert len(about) == 1
    assert about[0].startswith("user:thief")


async def test_after_an_hour_there_is_room_again() -> None:
    scene = Scene()
    for look in range(4):
        await scene.look(report(*(f"user:{look}-{number}" for number in range(20)), now=scene.now))
    assert scene.cluster.writes.count("AnomalyDetected") == NEW
    scene.now += HOUR
    await scene.look(report("user:late", now=scene.now))
    assert scene.cluster.writes.count("AnomalyDetected") == NEW + 1


async def test_a_controller_that_begins_anew_goes_on_with_the_event_that_counts() -> None:
    scene = Scene()
    for look in range(4):
        await scene.look(report(*(f"user:{look}-{number}" for number in range(20)), now=scene.now))
    scene.recorder = scene.begin()
    for look in range(4):
        await scene.look(report(*(f"user:again-{look}-{number}" for number in range(20)), now=scene.now))
    assert len(scene.cluster.of("EventsWithheld")) == 1


async def test_what_the_controller_itself_finds_is_not_withheld() -> None:
    scene = Scene()
    for number in range(200):
        await scene.recorder.record(model(), "Warning", "PolicyViolation", f"rule {number}")
    assert len(scene.cluster.of("PolicyViolation")) == 200


@pytest.fixture(scope="module")
def clocked() -> Callable[[], tuple[EventBudget, list[datetime]]]:
    def make() -> tuple[EventBudget, list[datetime]]:
        now = [BEGAN]
        return EventBudget(lambda: now[0]), now

    return make


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 200)), max_size=600))
def test_in_no_hour_there_are_more(clocked: Any, steps: list[tuple[int, int]]) -> None:
    budget, now = clocked()
    taken: list[datetime] = []
    asked = owed = 0
    for seconds, topic in steps:
        now[0] += timedelta(seconds=seconds)
        asked += 1
        if budget.take("x", str(topic)):
            taken.append(now[0])
        owed += budget.owed("x")
    now[0] += BETWEEN
    assert len(taken) + owed + budget.owed("x") == asked
    for index, moment in enumerate(taken):
        assert sum(moment - HOUR < one <= moment for one in taken[: index + 1]) <= NEW + AGAIN


def test_memory_is_bounded() -> None:
    budget = EventBudget(lambda: BEGAN)
    for number in range(10_000):
        budget.take(str(number), "t")
    assert len(budget._hours) == 4096


def test_a_clock_that_was_ahead_once_withholds_nothing_for_long(clocked: Any) -> None:
    budget, clock = clocked()
    right = clock[0]
    clock[0] = right + timedelta(days=4000)
    for number in range(NEW + 1):
        budget.take("it", str(number))
    assert budget.owed("it") == 1
    clock[0] = right
    assert all(budget.take("it", str(number)) for number in range(NEW))
    assert not budget.take("it", "one more")
    assert budget.owed("it") == 1
