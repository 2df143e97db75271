"""Windows are counted and emitted: each once and in order, or it is told that it was lost, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.controller.apply import NameTakenError
from modelward.controller.lineage import Lineage
from modelward.incidents import Report
from modelward.lineage.events import Event
from modelward.lineage.subject import Fit
from modelward.planner.consumers import Record, read_record
from modelward.windows import Consumer, Served, Window
from tests.unit.lineage.manifests import DATASET, NOW, model, policy

RAW = model()
RING, ROOM = 4, 3


class Objects:
    """The API server, as far as ConfigMaps go."""

    def __init__(self) -> None:
        self.there: dict[str, Any] = {}

    async def get(self, _: str, __: str, name: str) -> Any:
        return self.there.get(name)

    async def apply(self, item: Any) -> None:
        self.there[item["metadata"]["name"]] = item

    @property
    def record(self) -> Record:
        return read_record(self.there.get("wdbc.lineage"))


class Receiver:
    """A queue before a receiver that takes as much as a test says."""

    def __init__(self, room: int = ROOM) -> None:
        self.size = room
        self.queue: list[tuple[Callable[[], Sequence[Event]], Callable[[bool], None]]] = []
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.namespace, self.pending = "modelward", 0

    def of(self, _: Any) -> Receiver:
        return self

    @property
    def room(self) -> int:
        return self.size - len(self.queue)

    def offer(self, make: Callable[[], Sequence[Event]], done: Callable[[bool], None], _: str) -> bool:
        if not self.room:
            return False
        self.queue.append((make, done))
        return True

    def deliver(self, count: int, *, sent: bool = True, told: bool = True) -> None:
        for _ in range(min(count, len(self.queue))):
            make, done = self.queue.pop(0)
            if sent:
                self.events += make()
            if told:
                done(sent)


class Pod:
    """A sidecar that keeps its last windows."""

    def __init__(self, process: str) -> None:
        self.process = process
        self.windows: list[Window] = []
        self.served = 0

    def serve(self) -> None:
        self.served += 1
        lee = Consumer("user:lee", "clinic", "diagnosis", 1, 1, NOW, NOW)
        window = Window(self.served, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 1, 1, 1, (lee,))
        self.windows = [*self.windows, window][-RING:]

    def report(self) -> Report:
        return Report("clinic/wdbc", "", "", NOW, (), (), (), (), 0, Served(self.process, tuple(self.windows)))


class Cluster:
    """A model's pods, a controller, a receiver, and all that may happen to them."""

    def __init__(self) -> None:
        self.objects, self.receiver = Objects(), Receiver()
        self.pods = {"a": Pod("0")}
        self.heard: dict[str, int] = {}  # up to which window those of a process were told to a controller
        self.processes = 1

    async def begin(self) -> None:
        """A controller that starts anew; what waited in the last one's queue is gone."""
        delivered = self.receiver.events
        self.receiver = Receiver()
        self.receiver.events = delivered
        self.lineage = Lineage(cast("Any", self.objects), cast("Any", self.receiver))
        await self.lineage.judged(RAW, [policy()])

    async def look(self) -> None:
        told: dict[str, Report | str] = {name: pod.report() for name, pod in self.pods.items()}
        await self.lineage.take(RAW, told)
        for pod in self.pods.values():
            self.heard[pod.process] = pod.served

    async def do(self, action: str) -> None:
        match action:
            case "serve a" | "serve b" if pod := self.pods.get(action[-1]):
                pod.serve()
            case "restart a" | "restart b":
                self.pods[action[-1]] = Pod(str(self.processes))
                self.processes += 1
            case "end b":
                self.pods.pop("b", None)
            case "look":
                await self.look()
            case "deliver":
                self.receiver.deliver(2)
            case "refuse":
                self.receiver.deliver(1, sent=False)
            case "controller":
                await self.begin()


ACTIONS = ["serve a", "serve a", "serve b", "restart a", "restart b", "end b", "look", "look", "deliver", "refuse"]


async def played(actions: Sequence[str]) -> Cluster:
    cluster = Cluster()
    await cluster.begin()
    for action in actions:
        await cluster.do(action)
    for _ in range(2 * RING):  # at last everything is well
        await cluster.look()
        cluster.receiver.deliver(ROOM)
    await cluster.look()
    return cluster


def sequences(events: Sequence[Event]) -> dict[str, list[str]]:
    """The runs of each replica's completed windows, in the order in which they arrived."""
    found: dict[str, list[str]] = {}
    for event in events:
        facet = event.run.facets.get("modelward_serving")  # type: ignore[union-attr]
        if facet is not None:
            found.setdefault(facet.replica, []).append(event.run.runId)  # type: ignore[union-attr]
    return found


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*ACTIONS, "controller"]), max_size=40))
def test_every_window_is_emitted_or_known_to_be_lost(actions: list[str]) -> None:
    cluster = asyncio.run(played(actions))
    record = cluster.objects.record
    assert record.emitted + record.failed + record.dropped == sum(cluster.heard.values())
    assert cluster.receiver.queue == []
    if "controller" not in actions:
        runs = [run for found in sequences(cluster.receiver.events).values() for run in found]
        assert len(runs) == len(set(runs)) == record.emitted, "each once"


async def test_a_receiver_that_was_away_gets_what_it_missed_in_order() -> None:
    cluster = await played(["serve a", "look", "serve a", "serve a", "look", "look", "serve a", "look"])
    record = cluster.objects.record
    assert (record.emitted, record.dropped) == (4, 0)
    assert len(set(sequences(cluster.receiver.events)["a"])) == 4


async def test_the_next_controller_reads_again_what_the_last_had_not_sent() -> None:
    cluster = await played(["serve a", "serve a", "look", "controller", "look"])
    assert (cluster.objects.record.emitted, cluster.objects.record.dropped) == (2, 0)


async def test_what_was_sent_and_not_written_comes_again_as_the_same_run() -> None:
    cluster = Cluster()
    await cluster.begin()
    await cluster.do("serve a")
    await cluster.look()
    cluster.receiver.deliver(1, told=False)
    await cluster.begin()
    await cluster.look()
    cluster.receiver.deliver(1)
    await cluster.look()
    first, second = sequences(cluster.receiver.events)["a"]
    assert first == second
    assert cluster.objects.record.emitted == 1


async def test_more_windows_than_a_sidecar_keeps_are_lost_and_counted() -> None:
    cluster = await played(["serve a", "look", *["serve a"] * 9, "look"])
    assert (cluster.objects.record.emitted, cluster.objects.record.dropped) == (1 + RING, 9 - RING)
    assert cluster.receiver.counts["dropped"] == 9 - RING


async def test_consumers_are_counted_once_over_all_of_it() -> None:
    cluster = await played(["serve a", "look", "controller", "serve a", "look", "deliver", "controller", "look"])
    (lee,) = cluster.objects.record.consumers
    assert lee.requests == 2


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    await made.begin()
    return made


def kinds(receiver: Receiver) -> list[str]:
    receiver.deliver(9)
    states = []
    for event in receiver.events:
        about = event.outputs[0].facets.get("lifecycleStateChange") if event.outputs else None  # type: ignore[index]
        kind = getattr(event, "eventType", None)
        states.append(f"{kind.value if kind else 'JOB'} {about.lifecycleStateChange.value if about else ''}".strip())
    receiver.events = []
    return states


async def test_a_deployment_is_told_once_and_again_when_it_is_another(cluster: Cluster) -> None:
    lineage, governing = cluster.lineage, [policy()]
    for _ in range(2):
        await lineage.deployed(RAW, governing)
    assert kinds(cluster.receiver) == ["JOB", "START CREATE", "COMPLETE CREATE"]
    await cluster.look()  # writes that it was told
    await cluster.begin()
    await cluster.lineage.deployed(RAW, governing)
    assert kinds(cluster.receiver) == []
    await cluster.lineage.deployed(model(replicas=7), governing)
    assert kinds(cluster.receiver) == []
    await cluster.lineage.deployed(RAW, [])  # a policy was taken away: fields are treated otherwise
    assert kinds(cluster.receiver) == ["JOB", "START ALTER", "COMPLETE ALTER"]
    cluster.lineage.gone("clinic", "wdbc")
    assert kinds(cluster.receiver) == ["START DROP", "COMPLETE DROP"]
    assert cluster.lineage.of("clinic", "wdbc") is None


async def test_another_model_of_the_same_name_begins_anew(cluster: Cluster) -> None:
    await cluster.lineage.deployed(RAW, [])
    await cluster.do("serve a")
    await cluster.look()
    kinds(cluster.receiver)
    other = model()
    other["metadata"] = {**other["metadata"], "uid": "u2"}
    await cluster.lineage.deployed(other, [])
    assert kinds(cluster.receiver) == ["START DROP", "COMPLETE DROP", "JOB", "START CREATE", "COMPLETE CREATE"]
    record = cluster.lineage.of("clinic", "wdbc")
    assert record is not None
    assert record.consumers == (), "who got answers of another model is not told of this one"


async def test_a_fit_is_told_as_it_goes(cluster: Cluster) -> None:
    for fit in (Fit("d", DATASET, "START"), Fit("d", DATASET, "START"), Fit("d", DATASET, "FAIL", "3 columns")):
        await cluster.lineage.fitting(RAW, [], fit)
    assert kinds(cluster.receiver) == ["START", "FAIL"]
    await cluster.look()
    await cluster.begin()
    await cluster.lineage.fitting(RAW, [], Fit("d", DATASET, "COMPLETE", sha256="c" * 64))
    assert kinds(cluster.receiver) == ["START", "COMPLETE"]


async def test_without_a_receiver_windows_are_counted_and_none_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    monkeypatch.setattr(Receiver, "of", lambda *_: None)
    await cluster.begin()
    for action in ("serve a", "look", *["serve a"] * 9, "look"):
        await cluster.do(action)
    record = cluster.objects.record
    assert (record.emitted, record.dropped) == (0, 9 - RING)
    assert record.consumers[0].requests == 1 + RING
    monkeypatch.undo()
    await cluster.do("serve a")
    await cluster.look()
    assert len(cluster.receiver.queue) == 0, "nothing was judged: how fields are treated is not known"
    await cluster.lineage.judged(RAW, [])
    await cluster.look()
    assert len(cluster.receiver.queue) == 1, "from now on, and not what was before"


async def test_a_model_whose_sidecars_make_windows_up_leaves_room_for_others(cluster: Cluster) -> None:
    hostile = model()
    hostile["metadata"] = {**hostile["metadata"], "name": "hostile", "uid": "u2"}
    await cluster.lineage.judged(hostile, [])
    cluster.receiver.size = 64
    for process in range(64):
        pod = Pod(f"made-up-{process}")
        for _ in range(RING):
            pod.serve()
        await cluster.lineage.take(hostile, {"h": pod.report()})
    assert len(cluster.receiver.queue) <= 32
    await cluster.do("serve a")
    await cluster.look()
    cluster.receiver.deliver(64)
    assert sequences(cluster.receiver.events)["a"]


async def test_a_name_that_is_somebody_elses_is_an_obstacle_until_it_is_free() -> None:
    cluster = Cluster()
    cluster.objects.there["wdbc.lineage"] = {"kind": "ConfigMap", "metadata": {"name": "wdbc.lineage"}}
    await cluster.begin()
    with pytest.raises(NameTakenError, match=r"ConfigMap wdbc\.lineage exists"):
        await cluster.lineage.hold_name(RAW)
    await cluster.do("serve a")
    await cluster.look()
    del cluster.objects.there["wdbc.lineage"]
    await cluster.lineage.hold_name(RAW)
    assert cluster.objects.record.consumers, "what was counted meanwhile is kept"


async def test_a_name_that_is_taken_while_a_model_serves_is_told_of(cluster: Cluster) -> None:
    await cluster.lineage.hold_name(RAW)
    cluster.objects.there["wdbc.lineage"] = {"kind": "ConfigMap", "metadata": {"name": "wdbc.lineage"}}
    await cluster.do("serve a")
    assert await cluster.lineage.take(RAW, {"a": cluster.pods["a"].report()}), "the model is judged anew"
    with pytest.raises(NameTakenError):
        await cluster.lineage.hold_name(RAW)
