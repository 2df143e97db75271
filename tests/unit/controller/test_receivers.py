"""The transports of lineage events, each with what stands at its other end."""

from __future__ import annotations

import json
import ssl
import stat
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from modelward.controller.receivers import (
    FileReceiver,
    HttpReceiver,
    UndeliveredError,
    receiver_at,
)
from modelward.lineage.events import Event, serving
from modelward.lineage.subject import subject_of
from modelward.windows import Window
from tests.unit.controller.lineage_receiver import LineageServer
from tests.unit.lineage.manifests import model, policy
from tests.unit.sidecar.pki import Authority


def events(sequence: int = 1) -> tuple[Event, Event]:
    window = Window(sequence, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 1, 1, 1)
    return serving(subject_of(model(), [policy()]), "modelward", "wdbc-0", "p1", window)


@pytest.fixture
def server() -> Iterator[LineageServer]:
    made = LineageServer()
    yield made
    made.stop()


def test_an_event_arrives_as_it_was_made(server: LineageServer) -> None:
    for event in events():
        HttpReceiver(server.url, api_key="s3cret").deliver(event)
    assert server.paths == ["/api/v1/lineage"] * 2
    assert [one["eventType"] for one in server.events] == ["START", "COMPLETE"]
    assert {one["authorization"] for one in server.headers} == {"Bearer s3cret"}
    receiver_at(f"{server.url}/below/").deliver(events()[0])
    assert (server.paths[2], "authorization" in server.headers[2]) == ("/below/api/v1/lineage", False)


@pytest.mark.parametrize(("status", "again"), [(400, False), (422, False), (401, True), (404, True), (503, True)])
def test_what_is_at_fault_decides_whether_it_is_tried_again(server: LineageServer, status: int, again: bool) -> None:
    server.answers = [status]
    with pytest.raises(UndeliveredError, match=f"it answered {status}") as caught:
        HttpReceiver(server.url).deliver(events()[0])
    assert caught.value.again is again
    assert len(server.paths) == 1, "it is tried again by who waits, not by the transport"


def test_nobody_there_is_tried_again(server: LineageServer) -> None:
    server.stop()
    with pytest.raises(UndeliveredError, match="no answer") as caught:
        HttpReceiver(server.url).deliver(events()[0])
    assert caught.value.again
    server.start()


def test_no_redirect_leads_past_the_list_of_allowed_addresses(server: LineageServer) -> None:
    other = LineageServer()
    for status in (301, 302, 307, 308):
        server.answers, server.location = [status], f"{other.url}/api/v1/lineage"
        with pytest.raises(UndeliveredError) as caught:
            HttpReceiver(server.url, api_key="s3cret").deliver(events()[0])
        assert other.url not in str(caught.value)
    other.stop()
    assert other.paths == []


def test_no_proxy_and_no_password_of_the_surroundings_is_used(
    server: LineageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    HttpReceiver(server.url).deliver(events()[0])
    assert "authorization" not in server.headers[0]
    assert len(server.events) == 1


def test_an_answer_without_end_is_not_read(server: LineageServer) -> None:
    server.endless = True
    tracemalloc.start()
    HttpReceiver(server.url).deliver(events()[0])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_the_authorities_that_are_given_and_no_others_are_trusted(tmp_path: Path) -> None:
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(tmp_path, x509.DNSName("localhost")))
    server = LineageServer(context)
    trusting = HttpReceiver(server.url, authority.pem)
    trusting.deliver(events()[0])
    for authorities in ("", Authority().pem):
        with pytest.raises(UndeliveredError, match="SSLError"):
            HttpReceiver(server.url, authorities).deliver(events()[0])
    trusting.close()
    server.stop()
    assert len(server.events) == 1


def test_a_file_has_a_line_an_event_and_is_put_aside_when_it_is_full(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    receiver = FileReceiver(str(path), max_bytes=10_000)
    for _ in range(3):
        for event in events():
            receiver.deliver(event)
    lines = [json.loads(line) for part in (tmp_path / "events.jsonl.1", path) for line in part.read_text().splitlines()]
    assert [one["eventType"] for one in lines] == ["START", "COMPLETE"] * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sum(one.stat().st_size for one in tmp_path.iterdir()) < 40_000


def test_a_file_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    with pytest.raises(UndeliveredError, match="No such file or directory") as caught:
        receiver_at(str(tmp_path / "not" / "there")).deliver(events()[0])
    assert caught.value.again
