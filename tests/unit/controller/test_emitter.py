"""A receiver that dies and comes back misses nothing that there was room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modelward.controller import emitter
from modelward.controller.emitter import Emitter
from modelward.controller.receivers import HttpReceiver, UndeliveredError
from modelward.lineage.events import Event
from tests.unit.controller.lineage_receiver import LineageServer, until
from tests.unit.controller.test_receivers import events


@pytest.fixture
def server() -> Iterator[LineageServer]:
    made = LineageServer()
    yield made
    made.stop()


@pytest.fixture
async def sending(
    server: LineageServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Emitter, Counter[str]]]:
    monkeypatch.setattr(emitter, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(emitter, "LAST_WAIT_SECONDS", 0.05)
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(1) as executor:
        made = Emitter(server.url, lambda: HttpReceiver(server.url), executor, counts, max_queued=5)
        yield made, counts
        await made.close()


def runs(server: LineageServer) -> list[tuple[str, str]]:
    return [(one["run"]["runId"], one["eventType"]) for one in server.events]


def expected(*sequences: int) -> list[tuple[str, str]]:
    return [(event.run.runId, event.eventType.value) for one in sequences for event in events(one)]  # type: ignore[union-attr]


async def test_what_a_dead_receiver_missed_arrives_in_order(
    server: LineageServer, sending: tuple[Emitter, Counter[str]]
) -> None:
    made, counts = sending
    done: list[bool] = []
    assert made.offer(lambda: events(1), done.append)
    await until(lambda: done == [True])
    server.stop()
    assert [made.offer(lambda one=one: events(one), done.append) for one in range(2, 9)] == [True] * 5 + [False] * 2
    await until(lambda: made._why)
    assert (done, made.pending) == ([True], 5)
    server.start()
    await until(lambda: len(done) == 6)
    assert runs(server) == expected(1, 2, 3, 4, 5, 6)
    assert counts == {"sent": 6}


async def test_an_event_that_was_taken_is_not_sent_again(
    server: LineageServer, sending: tuple[Emitter, Counter[str]]
) -> None:
    made, _ = sending
    server.answers = [201, 503, 503]
    done: list[bool] = []
    made.offer(lambda: events(1), done.append)
    await until(lambda: done == [True])
    assert runs(server) == expected(1)


async def test_what_is_refused_has_failed_and_the_next_goes_on(
    server: LineageServer, sending: tuple[Emitter, Counter[str]]
) -> None:
    made, counts = sending
    server.answers = [422]
    done: list[bool] = []

    def wrong() -> tuple[Event, ...]:
        raise TypeError("no such field")

    for make in (lambda: events(1), wrong, lambda: events(2)):
        made.offer(make, done.append)
    await until(lambda: len(done) == 3)
    assert done == [False, False, True]
    assert runs(server) == expected(2)
    assert counts == {"sent": 1, "failed": 2}


async def test_that_nothing_is_taken_is_logged_once(
    server: LineageServer, sending: tuple[Emitter, Counter[str]], caplog: Any
) -> None:
    made, _ = sending
    caplog.set_level("INFO", "modelward.controller")
    server.answers = [503] * 4
    done: list[bool] = []
    made.offer(lambda: events(1), done.append)
    await until(lambda: done)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert f"not taken by {server.url}: it answered 503" in caplog.text


class Fussy:
    """A receiver that falls over the events of some windows, each time anew, and over all while it is down."""

    def __init__(self, *bad: int) -> None:
        self.bad = {run for run, _ in expected(*bad)}
        self.down = False
        self.taken: list[tuple[str, str]] = []

    def deliver(self, event: Any) -> None:
        if self.down or event.run.runId in self.bad:
            raise UndeliveredError("it answered 500", again=True)
        self.taken.append((event.run.runId, event.eventType.value))

    def close(self) -> None:
        """Nothing is open."""


async def test_what_a_receiver_falls_over_keeps_no_other_model_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitter, "FIRST_WAIT_SECONDS", 0.01)
    receiver, counts, done = Fussy(1), Counter[str](), list[str]()
    with ThreadPoolExecutor(1) as executor:
        made = Emitter("fussy", lambda: receiver, executor, counts)
        for number, about in ((1, "hostile"), (2, "hostile"), (3, "good"), (4, "good")):
            made.offer(lambda number=number: events(number), lambda sent, n=number: done.append(f"{n} {sent}"), about)
        await until(lambda: made.pending == 0)
        await made.close()
    assert receiver.taken == expected(3, 2, 4)
    assert done == ["3 True", "1 False", "2 True", "4 True"]
    assert counts == {"sent": 3, "failed": 1}


async def test_a_receiver_that_is_down_has_nobodys_events_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitter, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(emitter, "LAST_WAIT_SECONDS", 0.01)
    receiver, counts = Fussy(), Counter[str]()
    receiver.down = True
    with ThreadPoolExecutor(1) as executor:
        made = Emitter("fussy", lambda: receiver, executor, counts)
        for number, about in ((1, "one"), (2, "two")):
            made.offer(lambda number=number: events(number), lambda _: None, about)
        await until(lambda: made._queue[0].tries > 5)
        receiver.down = False
        await until(lambda: made.pending == 0)
        await made.close()
    assert sorted(receiver.taken) == sorted(expected(1, 2))
    assert counts == {"sent": 2}


async def test_settings_that_no_receiver_can_be_made_of_lose_nothing_and_are_told_without_their_text(
    server: LineageServer, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(emitter, "FIRST_WAIT_SECONDS", 0.01)
    wrong = [ValueError("s3cret is no certificate")] * 3

    def make() -> HttpReceiver:
        if wrong:
            raise wrong.pop()
        return HttpReceiver(server.url)

    counts, done = Counter[str](), list[bool]()
    with ThreadPoolExecutor(1) as executor:
        made = Emitter("there", make, executor, counts)
        made.offer(lambda: events(1), done.append)
        await until(lambda: done == [True])
        await made.close()
    assert runs(server) == expected(1)
    assert counts == {"sent": 1}
    assert "not taken by there: its settings cannot be used (ValueError)" in caplog.text
    assert "s3cret" not in caplog.text
