"""Serving windows: who got answers, minute by minute."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.incidents import Report
from modelward.sidecar.record import Record
from modelward.sidecar.windows import Windows
from modelward.windows import MAX_CONSUMERS, MAX_KEPT, MAX_WINDOWS, Served
from tests.unit.sidecar.harness import Running, infer, token

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def record(second: float = 0.0, client: str = "user:lee", **changes: Any) -> Record:
    moment = datetime.fromtimestamp(NOON + second, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    values = {"issuer": "clinic", "purpose": "diagnosis", "operation": "Infer", "rows": 2, "status": 200}
    return Record(moment, "r", client, **(values | changes))


def told(*records: Record, at: float = 86_400.0) -> Served:
    windows = Windows(lambda: NOON + at)
    windows.count(records)
    return windows.told()


def test_a_minute_of_serving_is_told_once_it_is_over():
    windows = Windows(lambda: now)
    now = NOON + 30
    windows.count([record(1), record(2), record(3, "user:kim", purpose="")])
    assert windows.told().windows == ()
    now = NOON + 61
    (window,) = windows.told().windows
    assert (window.sequence, window.start, window.end) == (1, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z")
    assert (window.requests, window.answered, window.rows, window.others) == (3, 3, 6, 0)
    lee, kim = window.consumers
    assert (lee.client, lee.issuer, lee.purpose, lee.requests, lee.rows) == ("user:lee", "clinic", "diagnosis", 2, 4)
    assert (lee.first, lee.last) == ("2026-03-01T12:00:01.000Z", "2026-03-01T12:00:02.000Z")
    assert (kim.client, kim.purpose, kim.requests) == ("user:kim", "", 1)


def test_a_window_that_is_ended_early_does_not_end_in_the_future():
    windows = Windows(lambda: NOON + 30.5)
    windows.count([record(1)])
    windows.finish()
    (window,) = windows.told().windows
    assert (window.start[11:19], window.end[11:19]) == ("12:00:00", "12:00:31")


def test_minutes_in_which_nobody_asked_are_not_kept():
    assert [one.start[11:16] for one in told(record(0), record(59), record(7200)).windows] == ["12:00", "14:00"]


@pytest.mark.parametrize(
    ("changes", "answered"),
    [
        ({"status": 403}, 0),
        ({"status": 502}, 0),
        ({"status": 499}, 0),
        ({"reason": "upstream-died"}, 0),  # a stream that was broken off at its beginning
        ({"reason": "upstream-died", "bytes_out": 10}, 1),
        ({"status": 499, "bytes_out": 10}, 1),  # a stream of which a part was read
    ],
)
def test_who_got_no_answer_is_no_consumer(changes: dict[str, Any], answered: int):
    (window,) = told(record(**changes)).windows
    assert (window.requests, window.answered, len(window.consumers)) == (1, answered, answered)


def test_who_reads_metadata_consumes_nothing():
    assert told(record(operation="Metadata"), record(operation="")).windows == ()


def test_further_consumers_of_a_window_are_counted_together():
    records = [record(0, f"user:{number}") for number in range(MAX_CONSUMERS + 7)]
    (window,) = told(*records).windows
    assert (len(window.consumers), window.others, window.answered) == (MAX_CONSUMERS, 7, MAX_CONSUMERS + 7)


def test_the_oldest_windows_go_first():
    windows = told(*(record(minute * 60) for minute in range(MAX_WINDOWS + 5))).windows
    assert [one.sequence for one in windows] == list(range(6, MAX_WINDOWS + 6))


def test_however_many_consumers_there_are_memory_and_what_is_told_are_bounded():
    windows = Windows()
    name = "x" * 10_000  # a certificate's name may be long

    def crowd(minute: int) -> Iterator[Record]:
        return (record(minute * 60, f"{number}{name}", rows=1) for number in range(MAX_CONSUMERS))

    tracemalloc.start()
    for minute in range(100):
        windows.count(crowd(minute))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 8 << 20
    answer = windows.told()
    assert sum(len(one.consumers) for one in answer.windows) <= MAX_KEPT
    assert len(msgspec.json.encode(answer)) < 3 << 20


def test_a_clock_that_is_set_back_loses_no_request():
    windows = told(record(0), record(3600), record(10), record(3610)).windows
    assert sum(one.requests for one in windows) == 4
    assert [one.sequence for one in windows] == [1, 2, 3, 4]


def test_what_nobody_was_told_of_at_the_end_is_counted():
    windows = Windows(lambda: NOON + 61)
    windows.count([record(0), record(1, status=403)])
    windows.told()
    windows.count([record(62), record(63), record(64, status=403)])
    assert windows.finish() == 2


@given(st.lists(st.tuples(st.floats(0, 600), st.sampled_from("abc"), st.sampled_from([200, 403, 499]))))
def test_every_request_is_in_one_window(requests: list[tuple[float, str, int]]):
    windows = told(*(record(second, client, status=status) for second, client, status in requests)).windows
    answered = [client for _, client, status in requests if status == 200]
    assert sum(one.requests for one in windows) == len(requests)
    assert sum(one.answered for one in windows) == len(answered)
    for client in "abc":
        rows = [each for one in windows for each in one.consumers if each.client == client]
        assert sum(each.requests for each in rows) == answered.count(client)
    assert msgspec.json.decode(msgspec.json.encode(Served("p", windows[:60])), type=Served).windows == windows[:60]


def test_a_sidecar_tells_the_controller_who_got_answers(running: Running):
    for _ in range(2):
        assert running.ask(infer()).status == 200
    assert running.ask(infer(), bearer=token(sub="mallory")).status == 403
    assert running.ask(method="GET", target="/v2/models/m").status == 200
    running.log(4)  # what is in the log was counted

    def served() -> Served:
        return msgspec.json.decode(running.order().body, type=Report).served

    running.sidecar._gateway.findings.windows._clock = lambda: time.time() + 62  # the minute is over
    told = served()
    consumers = [each for one in told.windows for each in one.consumers]
    assert {(one.client, one.issuer, one.purpose) for one in consumers} == {("user:alice", "issuer", "diagnosis")}
    assert sum(one.requests for one in consumers) == 2
    assert sum(one.rows for one in consumers) == 2
    assert sum(one.requests for one in told.windows) == 3
    assert told.process
    assert served() == told, "told again until the controller has it"
