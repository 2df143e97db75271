"""Answers that come as server-sent events: passed on piece by piece, checked where outputs are declared."""

from __future__ import annotations

import json
import socket
import threading
import time

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.events import MAX_EVENT_BYTES, EventScreen
from modelward.sidecar.problems import Refusal
from tests.unit.sidecar.harness import ANSWER, Client, Running, infer, request, settings, until

STREAM = "/v2/models/m/infer_stream"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
OUTPUTS = [{"name": "y", "datatype": "INT64", "shape": [1]}]


def event(value: object) -> bytes:
    answer = {**ANSWER, "outputs": [{**ANSWER["outputs"][0], "data": [value]}]}
    return b"data: " + json.dumps(answer).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Script:
    """A model that writes its stream's pieces when the test says so."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.asked = threading.Event()
        running.model.behaviour = self._behave

    def _behave(self, connection, _):
        self.connection = connection
        self.asked.set()

    def write(self, data: bytes) -> None:
        assert self.asked.wait(10), "the model was not asked"
        self.running._loop.call_soon_threadsafe(self.connection.transport.write, data)

    def close(self) -> None:
        self.running._loop.call_soon_threadsafe(self.connection.transport.close)


class Reader:
    """Reads an answer as it comes."""

    def __init__(self, client: Client) -> None:
        self.socket = client.socket
        self.header: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name, value):
        self.header[name.decode()] = value.decode()

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        self.complete = True

    def until(self, length: int) -> bytes:
        while len(self.body) < length:
            data = self.socket.recv(65536)
            assert data, f"closed after {self.body!r}"
            self.parser.feed_data(data)
        return self.body

    def to_the_end(self) -> bytes:
        """Until the answer is whole, or the connection has ended before it was."""
        while not self.complete:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not data:
                break
            self.parser.feed_data(data)
        return self.body


@pytest.mark.parametrize("checked", [False, True])
def test_each_event_goes_on_as_it_comes_and_the_connection_is_kept(run, checked):
    running = run(outputs=OUTPUTS) if checked else run()
    model = Script(running)
    begun = time.monotonic()
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + chunk(event(1)))
        reader = Reader(client)
        assert reader.until(len(event(1))) == event(1)  # while the model is still at it
        assert reader.header["content-type"].startswith("text/event-stream")
        assert reader.header["x-modelward-request-id"]
        time.sleep(0.3)
        model.write(chunk(event(2)[:20]))
        model.write(chunk(event(2)[20:]) + b"0\r\n\r\n")
        assert reader.to_the_end() == event(1) + event(2)
        running.model.behaviour = lambda connection, _: connection.answer(json.dumps(ANSWER).encode())
        client.send(request(infer()))
        assert client.read().status == 200
        taken = (time.monotonic() - begun) * 1e6
    assert model.connection in running.model.connections
    line = running.log(2)[0]
    assert (line["status"], line["bytes_out"]) == (200, len(event(1) + event(2)))
    assert line["upstream_us"] >= 300_000, "the time of a stream is the model's"
    assert line["upstream_us"] + line["overhead_us"] < taken, "and is not counted twice"


def test_a_stream_on_a_path_that_does_not_stream_comes_whole(running):
    model = Script(running)
    with running.client() as client:
        client.send(request(infer()))
        model.write(HEAD + chunk(event(1)) + b"0\r\n\r\n")
        answer = client.read()
    assert (answer.status, answer.body) == (200, event(1))


@pytest.mark.parametrize(
    "bad", [event("one"), b"data: no JSON\n\n", b"event: end\n\n", b'data: {"outputs": [{"name": "secret"}]}\n\n']
)
def test_an_event_that_does_not_fit_ends_the_stream_before_it(run, bad):
    running = run(outputs=OUTPUTS)
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + chunk(event(1) + bad + event(2)))
        reader = Reader(client)
        reader.to_the_end()
        assert not reader.complete
        assert bad not in reader.body
        assert event(2) not in reader.body
    (line,) = running.log(1)
    assert line["reason"] == "upstream-schema"
    assert running.metric('modelward_requests_total{outcome="bad-upstream"}') == 1


def test_a_model_that_breaks_off_is_seen_by_the_client(running):
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + chunk(event(1)))
        reader = Reader(client)
        reader.until(len(event(1)))
        model.close()
        reader.to_the_end()
        assert not reader.complete
    assert running.log(1)[0]["reason"] == "upstream-broken-off"


def test_a_silent_model_is_given_up(run):
    running = run(limits={"upstreamSeconds": 2, "drainSeconds": 5})
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        for value in range(3):  # longer in all than the patience for each piece
            model.write((b"" if value else HEAD) + chunk(event(value)))
            time.sleep(0.8)
        reader = Reader(client)
        assert reader.to_the_end() == event(0) + event(1) + event(2)
        assert not reader.complete
    assert running.log(1)[0]["reason"] == "upstream-timeout"


def test_a_client_that_leaves_frees_the_model(running):
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + chunk(event(1)))
        Reader(client).until(len(event(1)))
    until(lambda: model.connection not in running.model.connections)
    assert running.log(1)[0]["status"] == 499


def test_a_client_that_does_not_read_holds_the_model_up_and_memory_down(running):
    model = Script(running)
    piece = chunk(b"data: " + b"x" * 65536 + b"\n\n")
    with running.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + piece * 200)  # 13 MB
        time.sleep(0.5)
        connection = next(iter(running.sidecar.server.connections))
        assert connection._transport.get_write_buffer_size() < 1 << 20, "the sidecar buffers what nobody reads"
        model.write(b"0\r\n\r\n")
        reader = Reader(client)
        assert len(reader.to_the_end()) == 200 * (65536 + 8)
        assert reader.complete
    running.model.behaviour = lambda connection, _: connection.answer(json.dumps(ANSWER).encode())
    assert running.ask(infer()).status == 200  # the model's connection is read from again


def test_a_client_that_was_slow_once_is_not_cut_off_later(run):
    """Its patience ran out long after it had gone on reading."""
    running = run(limits=settings()["limits"] | {"writeSeconds": 2})
    model = Script(running)
    piece = chunk(b"data: " + b"x" * 65536 + b"\n\n")
    with running.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        client.send(request(infer(), target=STREAM))
        model.write(HEAD + piece * 200)
        time.sleep(0.5)  # it does not read
        reader = Reader(client)
        reader.until(200 * (65536 + 8))
        for _ in range(4):
            time.sleep(0.6)
            model.write(chunk(event(1)))
        model.write(b"0\r\n\r\n")
        reader.to_the_end()
        assert reader.complete


def test_a_client_of_http_1_0_gets_it_until_the_connection_closes(running):
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        model.write(HEAD + chunk(event(1)) + b"0\r\n\r\n")
        data = b""
        while piece := client.socket.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == event(1)


@given(st.lists(st.integers(), min_size=1, max_size=5), st.data())
def test_however_it_is_cut_whole_events_go_on(values, data):
    seen = []

    def check(body):
        seen.append(json.loads(body)["outputs"][0]["data"][0])
        return body

    screen = EventScreen(check)
    stream = b":\n\n" + b"".join(event(value) for value in values)
    out = b""
    position = 0
    while position < len(stream):
        size = data.draw(st.integers(min_value=1, max_value=len(stream)))
        out += screen(stream[position : position + size])
        position += size
        assert out.endswith(b"\n\n") or not out
    assert out + screen(None) == stream
    assert seen == values


def test_an_endless_event_and_half_an_event_are_refused():
    with pytest.raises(Refusal):
        EventScreen(lambda body: body)(b"data: " + b"x" * (MAX_EVENT_BYTES + 1))
    screen = EventScreen(lambda body: body)
    screen(b"data: half")
    with pytest.raises(Refusal):
        screen(None)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b": Eve has it\n\n", b":\n\n"),
        (b"event: token\r\nid: 7\r\ndata: 1\r\n\r\n", b"event: token\r\nid: 7\r\ndata: 1\r\n\r\n"),
        (b"event: row of Eve\ndata: 1\n\n", b"data: 1\n\n"),
        (b": Eve\nevent:token\nrow: Eve\ndata: 1\ndata: 2\n\n", b":\nevent:token\ndata: 1\ndata: 2\n\n"),
        (b"\xef\xbb\xbfdata: Eve\ndata: 1\n\n", b"data: 1\n\n"),  # a client takes the mark away
    ],
)
def test_what_an_event_says_beside_its_data_is_a_word_at_most(said: bytes, told: bytes) -> None:
    assert EventScreen(lambda body: body)(said) == told


def test_a_stream_that_says_it_is_compressed_is_refused_where_it_is_checked(run):
    running = run(outputs=OUTPUTS)
    model = Script(running)
    with running.client() as client:
        client.send(request(infer(), target=STREAM))
        model.write(HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: deflate\r\n\r\n") + chunk(event(1)))
        answer = client.read()
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    until(lambda: model.connection not in running.model.connections)


@given(st.lists(st.sampled_from([b"data: 1", b"\r\n", b"\n", b"\r", b":"]), max_size=20), st.data())
def test_events_end_where_they_do_however_they_are_cut(parts, data):
    def passed(*pieces: bytes) -> tuple[bytes, bool]:
        screen, out = EventScreen(lambda body: body), b""
        try:
            for piece in (*pieces, None):
                out += screen(piece)
        except Refusal:
            return b"", False
        return out, True

    stream = b"".join(parts)
    cut = data.draw(st.integers(0, len(stream)))
    assert passed(stream) == passed(stream[:cut], stream[cut:])
    assert passed(stream) == passed(*(stream[index : index + 1] for index in range(len(stream))))


def test_many_small_pieces_of_a_long_event_do_not_hold_all_others_up():
    screen = EventScreen(lambda body: body)
    screen(b"data: " + b"x" * 900_000)
    begun = time.process_time()
    for _ in range(1000):
        screen(b"x")
    assert time.process_time() - begun < 1.5  # 3 s, were the whole looked through each time
