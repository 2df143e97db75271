"""Clients of every kind: slow, greedy, gone, smuggling; keep-alive and pipelining."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest

from tests.unit.sidecar.harness import Client, infer, request, settings, token, until

QUICK = settings()["limits"] | {"headSeconds": 1.5, "bodySeconds": 1.5, "idleSeconds": 2, "writeSeconds": 1.5}


def test_a_connection_is_kept(running):
    with running.client() as client:
        for _ in range(3):
            client.send(request(infer()))
            assert client.read().status == 200
    assert running.model.opened <= 2  # one for the requests, at most one for the readiness probe beside it


def test_every_request_of_a_connection_is_judged_anew(running):
    with running.client() as client:
        for bearer, status in (("", 200), (None, 401), (token(sub="mallory"), 403), ("", 200)):
            client.send(request(infer(), bearer=bearer))
            assert client.read().status == status


def test_pipelined_requests_are_answered_in_their_order(running):
    def behaviour(connection, asked):
        value = json.loads(asked.body)["inputs"][0]["data"][0]
        delay = 0.2 if value == 0.1 else 0
        asyncio.get_running_loop().call_later(delay, connection.answer, str(value).encode())

    running.model.behaviour = behaviour
    rows = [0.1, 0.2, 0.3]
    with running.client() as client:
        client.send(b"".join(request(infer([row, 10, -5])) for row in rows) + request(infer(), bearer=None))
        answers = [client.read() for _ in range(4)]
    assert [answer.body for answer in answers[:3]] == [b"0.1", b"0.2", b"0.3"]
    assert answers[3].status == 401


def test_many_pipelined_requests(running):
    with running.client() as client:
        client.send(request(infer()) * 200)
        assert [client.read().status for _ in range(200)] == [200] * 200


def test_a_request_in_single_bytes(running):
    with running.client() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request(infer()):
            client.send(bytes([byte]))
        assert client.read().status == 200


def test_chunked_bodies(running):
    body = json.dumps(infer()).encode()
    chunks = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in (body[:5], body[5:40], body[40:]))
    head = request(header={"transfer-encoding": "chunked", "content-type": "application/json"})
    with running.client() as client:
        client.send(head + chunks + b"0\r\nx-trailer: 1\r\n\r\n")
        assert client.read().status == 200
        client.send(head + chunks + b"0\r\ncontent-length: 5\r\n\r\n")
        assert client.read().problem == "bad-framing"
        assert client.closed()


def test_expect_continue_is_answered_once_the_header_has_passed(running):
    body = json.dumps(infer()).encode()
    header = {"expect": "100-continue", "content-length": str(len(body)), "content-type": "application/json"}
    with running.client() as client:
        client.send(request(header=header))
        while b"\r\n\r\n" not in client.buffer:
            assert client._more()
        client.send(body)
        answer = client.read()
        assert (answer.interim, answer.status) == ([100], 200)
    with running.client() as client:
        client.send(request(header=header, bearer=None))
        answer = client.read()
        assert (answer.interim, answer.status) == ([], 401)
        assert client.closed()


def test_http_1_0_is_served_and_closed(running):
    with running.client() as client:
        client.send(request(infer()).replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert client.read().header["connection"] == "close"
        assert client.closed()


def test_connection_close_is_honoured(running):
    with running.client() as client:
        client.send(request(infer(), header={"connection": "close"}) + b"trailing rubbish")
        assert client.read().header["connection"] == "close"
        assert client.closed()


HOST = "host: x\r\n"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n", 400),
        (f"GET / HTTP/2.0\r\n{HOST}\r\n", 505),
        (f"GET http://x/ HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"OPTIONS * HTTP/1.1\r\n{HOST}\r\n", 400),
        (f"CONNECT x:1 HTTP/1.1\r\n{HOST}\r\n", 501),
        (f"GET / HTTP/1.1\r\n{HOST}connection: upgrade\r\nupgrade: websocket\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: 1, 1\r\n\r\na", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: +1\r\n\r\na", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: -1\r\n\r\na", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length : 1\r\n\r\na", 400),
        (f"POST / HTTP/1.1\r\n{HOST}content-length: {10**30}\r\n\r\na", 400),
        (f"POST / HTTP/1.1\r\n{HOST}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (f"POST / HTTP/1.1\r\n{HOST}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (f"POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}x: a\r\n b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\n{HOST}\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}x: a\x00b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}x: a\rb\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}authorization: a\r\nAuthorization: b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HOST}expect: something\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01", 400),
        ("rubbish\r\n\r\n", 400),
    ],
)
def test_ambiguous_framing_is_refused_and_the_connection_ends(running, text, status):
    with running.client() as client:
        client.send(text.encode("latin-1") + request(infer()))
        answer = client.read()
        assert answer.status == status
        assert answer.header["connection"] == "close"
        assert client.closed()
    assert running.model.asked == []


def test_a_smuggled_second_request_never_reaches_the_model(running):
    inner = request(infer())
    outer = request(b"0\r\n\r\n" + inner, header={"transfer-encoding": "chunked"})
    with running.client() as client:
        client.send(outer)
        assert client.read().status == 400
        assert client.closed()
    assert running.model.asked == []


def test_a_header_that_is_too_large_is_431(running):
    for header in (b"x: " + b"y" * 20_000, b"x: y\r\n" * 70, b"y" * 40_000):
        with running.client() as client:
            client.send(b"GET /v2 HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n\r\n")
            assert client.read().problem in ("header-too-large", "bad-framing")
            assert client.closed()
    with running.client() as client:
        client.send(b"GET /" + b"a" * 100_000)
        assert client.read().problem == "header-too-large"


def test_a_body_that_is_too_large_is_413_before_it_is_sent(run):
    running = run(limits=settings()["limits"] | {"bodyBytes": 1000})
    with running.client() as client:
        client.send(request(header={"content-length": "1001", "content-type": "application/json"}))
        assert client.read().problem == "body-too-large"
        assert client.closed()
    with running.client() as client:
        head = request(header={"transfer-encoding": "chunked", "content-type": "application/json"})
        client.send(head + b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\nx\r\n")
        assert client.read().problem == "body-too-large"
        assert client.closed()
    exact = infer()
    exact["id"] = "x" * (1000 - len(json.dumps(exact | {"id": ""})))
    assert len(json.dumps(exact)) == 1000
    assert running.ask(exact).status == 422  # an id of that length does not fit, but the size does


def test_an_answer_reaches_a_client_that_is_still_sending(running):
    """The connection must not be reset under the answer."""
    with running.client() as client:
        client.send(request(header={"content-length": str(64 << 20), "content-type": "application/json"}))
        try:
            for _ in range(50):
                client.send(b"x" * 10_000)
        except (ConnectionResetError, BrokenPipeError):
            pytest.fail("reset while sending")
        assert client.read().problem == "body-too-large"


def test_bodies_of_all_connections_together_are_bounded(run):
    running = run(limits=settings()["limits"] | {"bufferedBytes": 100_000})
    head = request(header={"content-length": "90000", "content-type": "application/json"})
    with running.client() as first, running.client() as second:
        first.send(head + b" " * 80_000)
        until(lambda: running.sidecar.server.buffered == 80_000)
        second.send(head + b" " * 80_000)
        answer = second.read()
        assert (answer.status, answer.problem) == (503, "overloaded")
        assert "retry-after" in answer.header
    until(lambda: running.sidecar.server.buffered == 0)
    assert running.ask(infer()).status == 200


def test_a_slow_header_is_408(run):
    running = run(limits=QUICK)
    started = time.monotonic()
    with running.client() as client:
        for byte in b"GET /v2 HTTP/1.1\r\nhost: x\r\n":
            client.send(bytes([byte]))  # a trickle does not prolong the wait
            time.sleep(0.1)
            if time.monotonic() - started > 2:
                break
        assert client.read().problem == "request-timeout"
        assert client.closed()


def test_a_slow_body_is_408(run):
    running = run(limits=QUICK)
    with running.client() as client:
        client.send(request(header={"content-length": "100", "content-type": "application/json"}) + b"{")
        assert client.read().problem == "request-timeout"
        assert client.closed()
    assert running.log(1)[0]["status"] == 408


def test_silent_and_idle_connections_are_closed_without_a_word(run):
    running = run(limits=QUICK)
    with running.client() as silent, running.client() as idle:
        idle.send(request(infer()))
        assert idle.read().status == 200
        assert silent.closed()
        assert idle.closed()
    assert len(running.log(1)) == 1


def test_a_client_that_does_not_read_is_cut_off(run):
    running = run(limits=QUICK)
    running.model.behaviour = lambda connection, _: connection.answer(b"x" * (8 << 20))
    with running.client() as client:
        client.send(request(infer()) * 3)
        until(lambda: not running.sidecar.server.connections)


def test_a_client_that_leaves_abandons_its_request(running):
    running.model.behaviour = lambda connection, asked: None
    with running.client() as client:
        client.send(request(infer()))
        until(lambda: running.model.asked)
    (line,) = running.log(1)
    assert line["status"] == 499
    assert running.metric('modelward_requests_total{outcome="abandoned"}') == 1
    until(lambda: len(running.model.connections) <= 1)  # its work was cancelled with it


def test_too_many_connections_are_told_so(run):
    running = run(limits=settings()["limits"] | {"connections": 2})
    with running.client() as first, running.client() as second:
        for client in (first, second):
            client.send(request(infer()))
            assert client.read().status == 200
        with running.client() as third:
            assert third.read().problem == "overloaded"
            assert third.closed()
    until(lambda: not running.sidecar.server.connections)
    assert running.ask(infer()).status == 200


def test_five_hundred_idle_connections_cost_little(run):
    running = run()
    clients = [Client(running.port) for _ in range(500)]
    try:
        assert running.ask(infer()).status == 200
    finally:
        for client in clients:
            client.socket.close()
