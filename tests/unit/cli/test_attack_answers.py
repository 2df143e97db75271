"""Answers as `modelward attack` reads them: those of HTTP as they are, all else without harm, in bounded time."""

from __future__ import annotations

import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack.exchange import Reply
from modelward.cli.attack_answers import MAX_BODY, Incoming, read


def answered(content: bytes, method: str = "GET", seconds: float = 20.0) -> tuple[Reply, bytes]:
    """What is read of bytes, and what is left of them."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=lambda: (theirs.sendall(content), theirs.shutdown(socket.SHUT_WR)))
        sender.start()
        incoming = Incoming(ours, seconds)
        try:
            return read(incoming, method), incoming.rest
        finally:
            ours.close()
            sender.join()


@pytest.mark.parametrize(
    ("content", "status", "body", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok", ""),
        (b"HTTP/1.0 404 Nope\r\n\r\ngone", 404, b"gone", "closed"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 204, b"", ""),
        (b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nshort", 500, b"short", "closed"),
    ],
)
def test_answers_of_http(content: bytes, status: int, body: bytes, trouble: str) -> None:
    reply, _ = answered(content)
    assert (reply.status, reply.body, reply.trouble) == (status, body, trouble)


def test_what_follows_is_left() -> None:
    _, rest = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 401 No\r\n\r\n")
    assert rest == b"HTTP/1.1 401 No\r\n\r\n"


def test_of_a_large_body_a_mebibyte_is_kept() -> None:
    reply, _ = answered(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_BODY + 5000))
    assert len(reply.body) == MAX_BODY


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nxxxxx",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * (200 << 10),
    ],
)
def test_what_is_no_answer_is_an_error(content: bytes) -> None:
    with pytest.raises((OSError, ValueError)):
        answered(content)


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda tail: b"HTTP/1.1 200 OK\r\n" + tail))
def test_bytes_of_any_kind_do_no_harm(content: bytes) -> None:
    try:
        reply, _ = answered(content)
    except (OSError, ValueError):
        return
    assert 100 <= reply.status <= 999


def test_who_sends_a_byte_at_a_time_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = threading.Event()

        def drip() -> None:
            while not done.wait(0.02):
                theirs.sendall(b"x")

        sender = threading.Thread(target=drip)
        sender.start()
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            read(Incoming(ours, 0.3), "GET")
        assert time.monotonic() - began >= 0.3
        done.set()
        sender.join()


def chunked(count: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * count + b"0\r\n\r\n"


def test_a_body_in_chunks_of_a_byte_is_read_no_further_than_so_many() -> None:
    """What all has come is waited for no more, and would still cost a line each."""
    reply, _ = answered(chunked(4000))
    assert (len(reply.body), reply.trouble) == (4000, "")
    reply, _ = answered(chunked(20_000))
    assert (len(reply.body), reply.trouble) == (8192, "closed")


def test_what_has_come_is_not_read_beyond_its_time_either() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        read(Incoming(ours, 0.0, chunked(3)), "GET")
