"""Answers whose heads came before are not parsed again, and are read as they would be."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Stream
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import Refusal
from modelward.sidecar.upstream import Upstream, UpstreamConnection

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: 1\r\n"
ANSWER = HEAD + b"Content-Length: 5\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5\r\n\r\nhello"


class Transport:
    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        self.closed = True

    close = abort


def told(*answers: tuple[bytes, ...], heads: Heads | None = None, streams: bool = False) -> list[object]:
    """What one connection makes of answers, each of which comes in pieces, until it closes."""
    upstream = Upstream("127.0.0.1", 1, Limits(), asyncio.new_event_loop())
    upstream.heads = Heads() if heads is None else heads
    connection, transport = UpstreamConnection(upstream), Transport()
    connection.connection_made(transport)
    upstream.release(connection)
    outcomes: list[object] = []
    for pieces in answers:
        if transport.closed:
            break
        upstream.call(b"", outcomes.append, streams=streams)
        for piece in pieces:
            if not transport.closed:
                connection.data_received(piece)
        if connection.call is not None:  # it waits for more
            outcomes.append("unended")
            break
    upstream._loop.close()
    return [each.reason if isinstance(each, Refusal) else each for each in outcomes]


def known(*answers: bytes) -> Heads:
    heads: Heads = Heads()
    for answer in answers * 2:  # once is not enough
        told((answer,), heads=heads)
    return heads


def test_a_head_that_came_before_says_the_same():
    heads = known(ANSWER + b"hello")
    assert heads.find(ANSWER + b"other")
    answers = [(ANSWER + b"other",), (ANSWER, b"again"), (ANSWER + b"third",)]
    assert told(*answers, heads=heads) == told(*answers)
    assert [response.body for response in told(*answers, heads=heads)] == [b"other", b"again", b"third"]


@given(st.binary(max_size=8), st.integers(0, 100), st.integers(0, 100))
def test_known_heads_make_no_difference(inserted, position, cut):
    message = ANSWER + b"hello"
    changed = message[:position] + inserted + message[position:]
    heads = known(message, changed)
    answers = [(message,), (changed[:cut], changed[cut:]), (changed,)]
    assert told(*answers, heads=heads) == told(*answers)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER + b"hello",
        EVENTS,
    ],
)
def test_heads_that_are_out_of_the_ordinary_are_not_remembered(answer):
    assert known(answer).find(answer) is None


def test_a_stream_is_told_as_one_where_it_was_whole_before():
    (outcome,) = told((EVENTS,), heads=known(EVENTS), streams=True)
    assert isinstance(outcome, Stream)


def test_of_a_field_that_comes_twice_the_first_counts_and_trailers_say_nothing():
    length = b"Inference-Header-Content-Length: "
    head = b"HTTP/1.1 200 OK\r\n" + length + b"5\r\n" + length + b"2\r\nContent-Type: application/json\r\n"
    head += b"Content-Type: text/event-stream\r\nCache-Control: private\r\nCache-Control: no-store\r\n"
    chunks = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nRetry-After: 9\r\nContent-Encoding: gzip\r\n\r\n"
    (answer,) = told((head + chunks,), streams=True)
    assert answer == (
        200,
        b"inference-header-content-length: 5\r\ncontent-type: application/json\r\ncache-control: private\r\n"
        b"cache-control: no-store\r\n",
        b"hello",
    )
