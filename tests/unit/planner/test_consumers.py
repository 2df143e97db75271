from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.status import LineageStatus
from modelward.incidents import Report
from modelward.planner.consumers import (
    MAX_CONSUMERS,
    MAX_LISTED,
    RECORD_KEY,
    Fresh,
    Mark,
    Record,
    gathered,
    lineage_status,
    own_record,
    read_record,
    record_map,
    windows_of,
)
from modelward.windows import Consumer, Served, Window

RAW = {"metadata": {"namespace": "clinic", "name": "wdbc", "uid": "u1"}}


def at(minute: int) -> str:
    return f"2026-03-01T{11 + minute // 60}:{minute % 60:02}:00Z"


def consumer(client: str = "user:lee", requests: int = 2, minute: int = 0, **changes: Any) -> Consumer:
    values = {"issuer": "clinic", "purpose": "diagnosis", "rows": requests, "first": at(minute), "last": at(minute)}
    return Consumer(client=client, requests=requests, **(values | changes))


def window(sequence: int, *consumers: Consumer, **changes: Any) -> Window:
    values = {"start": at(sequence), "end": at(sequence + 1), "requests": 5, "answered": 4, "rows": 4}
    return Window(sequence, consumers=consumers, **(values | changes))


def report(*windows: Window, process: str = "p1") -> Report:
    return Report("clinic/wdbc", "", "", at(0), (), (), (), (), 0, Served(process, windows))


def look(record: Record, told: dict[str, Any], **how: Any) -> tuple[Record, list[Fresh]]:
    """What is kept after a look, and the windows that were new."""
    windows = windows_of(told, {})
    after = gathered(record, told, windows, **how)
    fresh = [one for one in windows if one.window.sequence > record.marks.get(one.process, Mark(one.pod)).counted]
    return after, fresh


def test_a_consumer_is_one_line_over_all_replicas_and_windows() -> None:
    told = {
        "a": report(window(1, consumer(minute=1)), window(2, consumer(minute=2), consumer("user:kim", minute=2))),
        "b": report(window(1, consumer(minute=0, requests=7)), process="p2"),
        "c": "no answer",
    }
    record, fresh = look(Record(), told)
    assert [(one.pod, one.window.sequence) for one in fresh] == [("a", 1), ("a", 2), ("b", 1)]
    lee, kim = sorted(record.consumers, key=lambda one: one.client, reverse=True)
    assert (lee.client, lee.requests, lee.first, lee.last) == ("user:lee", 11, at(0), at(2))
    assert (kim.client, kim.requests) == ("user:kim", 2)
    assert record.marks == {"p1": Mark("a", 2, 2), "p2": Mark("b", 1, 1)}
    assert (record.last, record.dropped) == (at(3), 0)


def test_what_is_told_again_is_counted_once() -> None:
    told = {"a": report(window(1, consumer()), window(2, consumer()))}
    record, _ = look(Record(), told)
    assert look(record, told) == (record, [])
    kept = read_record({"data": record_map(RAW, record)["data"]})  # by another controller
    assert look(kept, told) == (record, [])


def test_windows_that_nobody_saw_are_dropped_and_counted() -> None:
    record, _ = look(Record(), {"a": report(window(1))})
    record, fresh = look(record, {"a": report(window(5), window(6))})
    assert (record.dropped, len(fresh)) == (3, 2)
    record, fresh = look(record, {"a": report(window(2), process="p2")})  # it began anew
    assert (record.dropped, len(fresh)) == (4, 1)


def test_a_silent_pod_is_remembered_and_one_that_is_gone_is_not() -> None:
    record, _ = look(Record(), {"a": report(window(1, consumer())), "b": report(window(1), process="p2")})
    record, _ = look(record, {"a": "no answer"})
    assert set(record.marks) == {"p1"}
    assert look(record, {"a": report(window(1, consumer()))})[0].consumers[0].requests == 2


def test_the_most_recent_consumers_stay() -> None:
    record = Record()
    for number in range(MAX_CONSUMERS // 100 + 2):
        crowd = (consumer(f"user:{number}-{index}", minute=number) for index in range(100))
        record, _ = look(record, {"a": report(window(number + 1, *crowd))})
    assert len(record.consumers) == MAX_CONSUMERS
    assert record.forgotten == 200
    assert not any(one.client.startswith(("user:0-", "user:1-")) for one in record.consumers)
    status = lineage_status(record)
    assert len(status["consumers"]) == MAX_LISTED
    LineageStatus.model_validate(status)


def test_long_names_fit_into_a_config_map() -> None:
    record = Record()
    for number in range(12):
        crowd = (consumer("\U0001f600" * 900 + f"{number}-{index}", purpose="\U0001f600" * 900) for index in range(100))
        record, _ = look(record, {"a": report(window(number + 1, *crowd))})
        crowd = (consumer(f"{number}-{index}" + "\U0001f600" * 900, purpose="\U0001f600" * 900) for index in range(100))
        record, _ = look(record, {"b": report(window(number + 1, *crowd), process="p2")})
    assert 100 < len(record.consumers) < MAX_CONSUMERS
    assert len(record_map(RAW, record)["data"][RECORD_KEY].encode()) < 600 << 10


@pytest.mark.parametrize("text", ["", "{", '{"consumers": 1}', "[" * 100_000])
def test_a_config_map_that_somebody_broke_is_begun_anew(text: str) -> None:
    assert read_record({"data": {RECORD_KEY: text}}) == Record()
    assert read_record(None) == Record()


def test_a_sidecar_that_tells_more_than_one_keeps_is_read_as_far_as_one_keeps() -> None:
    crowd = [window(number, *(consumer(f"{number}-{index}") for index in range(100))) for number in range(1, 61)]
    found = windows_of({"a": report(*crowd)}, {})
    assert [one.window.sequence for one in found] == list(range(41, 61))
    record, _ = look(Record(), {"a": report(*crowd)})
    assert record.dropped == 40


def test_a_config_map_that_anybody_could_have_made_is_not_read() -> None:
    kept = Record(last=at(1))
    made = record_map(RAW, kept)
    assert own_record(RAW, made) == kept
    place = made["metadata"]
    for other in ({**place, "labels": {}}, {**place, "ownerReferences": []}):
        assert own_record(RAW, {**made, "metadata": other}) == Record()
    before = {"metadata": {**RAW["metadata"], "uid": "u0"}}
    assert own_record(RAW, record_map(before, kept)) == Record(), "of one that had the name before"
    assert own_record(RAW, None) == Record()


def test_the_config_map_goes_with_its_model() -> None:
    made = record_map(RAW, Record())["metadata"]
    assert (made["name"], made["namespace"]) == ("wdbc.lineage", "clinic")
    assert made["ownerReferences"][0]["uid"] == "u1"
    assert made["labels"]["modelward.io/model"] == "wdbc"


hostile = st.text(max_size=40) | st.sampled_from(["", " ", "\x1b[31m", "\u202e", "9999-12-31T23:59:59-14:00", at(3)])
consumers = st.builds(
    Consumer, hostile, hostile, hostile, st.integers(0, 10**12), st.integers(0, 10**12), hostile, hostile
)
windows = st.builds(
    Window,
    st.integers(1, 10**12),
    hostile,
    hostile,
    *[st.integers(0, 10**12)] * 3,
    st.lists(consumers, max_size=4).map(tuple),
    st.integers(0, 10**12),
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.lists(windows, max_size=4)), max_size=3))
def test_whatever_sidecars_tell_the_status_is_one_that_the_api_server_takes(
    looks: list[dict[str, list[Window]]],
) -> None:
    record = Record()
    for told in looks:
        record, _ = look(record, {pod: report(*found) for pod, found in told.items()})
    LineageStatus.model_validate(lineage_status(record))
    for one in record.consumers:
        assert one.client.isprintable()
    assert msgspec.json.decode(record_map(RAW, record)["data"][RECORD_KEY], type=Record) == record
