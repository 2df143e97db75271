"""Who got answers, by access logs: what counts as an answer, whose it is, and what is not counted."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage import answered
from modelward.lineage.answered import Answered
from modelward.lineage.graph import Use

START = {"start": {"namespace": "clinic", "model": "wdbc"}}


def record(**changes: Any) -> dict[str, Any]:
    return {
        "time": "2026-11-25T10:00:00Z",
        "request": "r1",
        "subject": "user:lee",
        "issuer": "clinic",
        "purpose": "diagnosis",
        "operation": "Infer",
        "status": 200,
    } | changes


def read(*documents: Any, model: str = "") -> Answered:
    reader = Answered(model)
    lines = [json.dumps(one).encode() for one in documents]
    assert list(reader.watch(lines)) == lines
    return reader


def test_answers_are_counted_by_who_got_them_and_for_what():
    reader = read(
        START,
        record(time="2026-11-25T10:05:00Z"),
        record(),
        record(purpose="audit", operation="Explain"),
        record(subject="user:ray", status=499, bytes_out=7),
        record(subject="user:kim", status=200, bytes_out=7, reason="broken-off"),
    )
    assert [(one.model, one.client, one.issuer, one.use) for one in reader.consumed] == [
        ("clinic/wdbc", "user:lee", "clinic", Use("diagnosis", "2026-11-25T10:00:00Z", "2026-11-25T10:05:00Z", 2)),
        ("clinic/wdbc", "user:lee", "clinic", Use("audit", "2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z", 1)),
        ("clinic/wdbc", "user:ray", "clinic", Use("diagnosis", "2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z", 1)),
        ("clinic/wdbc", "user:kim", "clinic", Use("diagnosis", "2026-11-25T10:00:00Z", "2026-11-25T10:00:00Z", 1)),
    ]


def test_what_was_refused_or_only_looked_at_is_no_answer():
    reader = read(
        START,
        record(status=403, reason="forbidden"),
        record(status=200, reason="anomalous-input"),
        record(operation="Metadata"),
        record(status=502),
        record(status=499),
        {"gap": {"dropped": 3}},
        "text",
    )
    assert reader.consumed == ()


def test_whose_answers_they_are():
    other = {"start": {"namespace": "lab", "model": "m"}}
    assert [one.model for one in read(record(), START, record(), other, record(), model="a/b").consumed] == [
        "a/b",
        "clinic/wdbc",
        "lab/m",
    ]
    assert (read(record()).consumed, read(record()).homeless) == ((), 1)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(answered, "MAX_KEPT", 2)
    long = "x" * 50_000
    reader = read(START, *[record(subject=f"user:{number}{long}") for number in range(5)], record(purpose=long))
    assert (len(reader.consumed), reader.left_out) == (2, 4)
    assert max(len(one.client) for one in reader.consumed) == 1024
    assert read(START, record(purpose=long)).consumed[0].use.purpose == "x" * 1024


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.dictionaries(st.sampled_from([*sorted(record()), "start", "reason"]), JSON) | JSON, max_size=6))
def test_lines_are_anything(documents):
    reader = read(START, *documents)
    assert all(one.use.requests >= 1 for one in reader.consumed)
    assert list(reader.watch([b"\xff", b"", b"[" * 10_000])) == [b"\xff", b"", b"[" * 10_000]
