"""The model server's troubles: dead, slow, garbled, too talkative. Each has one defined answer."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
import time

import pytest

from modelward.logchain import verify
from tests.unit.sidecar.harness import Running, infer, request, settings, until

QUICK = settings()["limits"] | {"upstreamSeconds": 0.5, "connectSeconds": 0.5}


def raw(data: bytes, *, close: bool = False):
    """A behaviour: write these bytes as the answer."""

    def behave(connection, _):
        connection.transport.write(data)
        if close:
            connection.transport.close()

    return behave


def test_a_dead_model_is_502(running):
    running.close_model()
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    until(lambda: running.monitor("/readyz").status == 503)
    assert running.monitor("/healthz").status == 200  # restarting the sidecar would not help


def test_a_slow_model_is_504(run):
    running = run(limits=QUICK)
    running.model.behaviour = lambda connection, asked: None
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (504, "upstream-timeout")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
    ],
)
def test_garbage_is_502_and_its_connection_is_not_used_again(running, data):
    running.model.behaviour = raw(data)
    assert running.ask(infer()).problem == "bad-upstream"
    running.model.behaviour = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert running.ask(infer()).body == b"ok"


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", b"HTTP/1.1 200 O"])
def test_breaking_off_is_502(running, data):
    running.model.behaviour = raw(data, close=True)
    assert running.ask(infer()).problem == "bad-upstream"


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"])
def test_a_model_that_resets_its_connections_is_502(running, data):
    def reset(connection, _):
        connection.transport.write(data)
        plain = connection.transport.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        asyncio.get_running_loop().call_later(0.05, connection.transport.abort)

    running.model.behaviour = reset
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    assert len(running.model.asked) <= 2  # tried again once at the most
    running.model.behaviour = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert running.ask(infer()).body == b"ok"


def test_an_answer_ended_by_closing_is_whole(running):
    running.model.behaviour = raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end", close=True)
    for _ in range(2):
        assert running.ask(infer()).body == b"until the end"


def test_chunked_and_interim_answers(running):
    running.model.behaviour = raw(
        b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    )
    answer = running.ask(infer())
    assert (answer.status, answer.body) == (200, b"abc")
    assert "link" not in answer.header


def test_an_answer_that_is_too_large_is_502(run):
    running = run(limits=settings()["limits"] | {"responseBytes": 10_000})
    running.model.behaviour = lambda connection, _: connection.answer(b"x" * 10_001)
    assert running.ask(infer()).problem == "bad-upstream"
    running.model.behaviour = raw(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"x" * 1024) * 50
    )
    assert running.ask(infer()).problem == "bad-upstream"


def test_a_kept_connection_that_the_model_closed_meanwhile_costs_no_request(running):
    with running.client() as client:
        for _ in range(5):
            client.send(request(infer()))
            assert client.read().status == 200

            async def close():
                for connection in list(running.model.connections):
                    connection.transport.abort()

            running.call(close())
    assert len(running.model.asked) == 5


def test_a_request_is_tried_again_only_once_and_only_if_nothing_came(running):
    assert running.ask(infer()).status == 200  # there is a kept connection now

    def hang_up(connection, _):
        connection.transport.abort()

    running.model.behaviour = hang_up
    assert running.ask(infer()).problem == "bad-upstream"
    assert len(running.model.asked) == 3


def test_bytes_that_nobody_asked_for_end_a_kept_connection(running):
    assert running.ask(infer()).status == 200

    async def chatter():
        for connection in running.model.connections:
            connection.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")

    running.call(chatter())
    time.sleep(0.1)
    assert running.ask(infer()).json["outputs"]


def test_a_full_queue_is_503_and_the_rest_is_served(run):
    running = run(limits=settings()["limits"] | {"upstreamConnections": 1, "upstreamQueue": 2})

    go_on = threading.Event()

    def held(connection, asked):
        if go_on.is_set():
            connection.answer(b"{}")
        else:
            asyncio.get_running_loop().call_later(0.02, held, connection, asked)

    until(lambda: running.monitor("/readyz").status == 200)
    running.model.behaviour = held
    clients = [running.client() for _ in range(5)]
    try:
        for client in clients:
            client.send(request(infer()))
        until(lambda: len(select.select([client.socket for client in clients], [], [], 0)[0]) == 2)
        go_on.set()
        answers = [client.read() for client in clients]
    finally:
        for client in clients:
            client.socket.close()
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 3
    assert [answer.problem for answer in answers if answer.status != 200] == ["overloaded"] * 2


def test_a_full_pipe_of_the_access_log_holds_no_request_up(run):
    """Nobody reads it: a thread waits in the write, requests do not, and every line arrives once somebody does."""
    running: Running = run()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    capacity = fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ)
    os.write(writing, b"\n" * capacity)
    output = running.sidecar._output
    output.descriptor, before = writing, output.descriptor
    sent = 'modelward_telemetry_total{sink="access-log",outcome="sent"}'
    try:
        for _ in range(20):
            assert running.ask(infer()).status == 200
        assert running.metric(sent) == 0
        read = bytearray()

        def all_sent() -> bool:
            with contextlib.suppress(BlockingIOError):
                read.extend(os.read(reading, 65536))
            return running.metric(sent) == 20

        until(all_sent)
        with contextlib.suppress(BlockingIOError):
            read += os.read(reading, 65536)
        assert sum(b'"status":200' in line for line in read.splitlines()) == 20
    finally:
        output.descriptor = before
        os.close(reading)
        os.close(writing)


def test_a_dead_sink_of_the_access_log_fails_no_request(run, tmp_path):
    running: Running = run()
    full = os.open("/dev/full", os.O_WRONLY)
    output = running.sidecar._output
    output.descriptor, before = full, output.descriptor
    try:
        for _ in range(5):
            assert running.ask(infer()).status == 200
        until(lambda: running.metric('modelward_telemetry_total{sink="access-log",outcome="failed"}') == 5)
    finally:
        output.descriptor = before
        os.close(full)
    assert running.ask(infer()).status == 200
    assert len(running.log(1)) == 1
    verdict = verify(running.log_path.read_bytes().splitlines())
    assert (verdict.findings, verdict.failed, verdict.records) == ([], 5, 1)
