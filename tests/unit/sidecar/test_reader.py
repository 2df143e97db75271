from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.config import Limits
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import RequestReader
from tests.unit.sidecar.sink import Sink


def read(
    *pieces: bytes, heads: Heads | None = None
) -> list[tuple[bytes, bytes, dict[bytes, bytes], bytes, bool]] | str:
    """What is read of the pieces, or the slug of the refusal."""
    sink = Sink()
    reader = RequestReader(Limits(), sink, Heads() if heads is None else heads)
    try:
        for piece in pieces:
            reader.feed(piece, 1.0)
    except Refusal as refusal:
        return refusal.problem.slug if refusal.close else "left open"
    return [(each.method, each.target, each.header, b"".join(each.body), each.complete) for each in sink.exchanges]


HEAD = b"POST /a HTTP/1.1\r\nHost: x\r\n"
STREAM = (
    HEAD + b"Content-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhello"
    + HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
    + b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
)  # fmt: skip


SLUGS = ("bad-framing", "header-too-large", "http-version-not-supported", "not-implemented")


def test_requests_are_read_in_their_order():
    first, second, third = read(STREAM)
    assert first == (b"POST", b"/a", {b"host": b"x", b"content-length": b"5", b"x-a": b"1, 2"}, b"hello", True)
    assert second[3] == b"abcde"
    assert b"x-t" not in second[2]
    assert third[:2] == (b"GET", b"/b")


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_how_the_bytes_are_cut_makes_no_difference(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[start:end] for start, end in pairwise(edges))) == read(STREAM)


@given(st.binary(max_size=300))
def test_rubbish_is_refused_or_still_arriving(content):
    told = read(content)
    assert isinstance(told, list) or told in SLUGS


@given(st.integers(0, len(STREAM) - 1), st.binary(min_size=1, max_size=3))
def test_a_changed_stream_never_yields_more_bodies_than_were_sent(position, inserted):
    told = read(STREAM[:position] + inserted + STREAM[position:])
    if isinstance(told, list):
        assert sum(len(body) for _, _, _, body, _ in told) <= len(STREAM) + len(inserted)


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "bad-framing"),
        (HEAD + b"Host: y\r\n\r\n", "bad-framing"),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n", "not-implemented"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "not-implemented"),
        (HEAD + b"Expect: 200-ok\r\n\r\n", "bad-framing"),
        (HEAD + b"X-Modelward-Purpose: a\r\nX-Modelward-Purpose: b\r\n\r\n", "bad-framing"),
        (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", "http-version-not-supported"),
        (HEAD + b"X: " + b"y" * 17_000, "header-too-large"),
        (HEAD + b"a: b\r\n" * 80 + b"\r\n", "header-too-large"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"t: x\r\n" * 80 + b"\r\n", "header-too-large"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad-framing"),
    ],
)
def test_refusals(content, slug):
    assert read(content) == slug
    assert read(*(bytes([byte]) for byte in content)) == slug


ORDINARY = HEAD + b"Content-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\n"


def known(*messages: bytes) -> Heads:
    """Heads as they are once these messages were read."""
    heads: Heads = Heads()
    for message in messages * 2:  # once is not enough
        read(message, heads=heads)
    return heads


def test_a_head_that_came_before_is_not_parsed_again_and_says_the_same():
    heads = known(ORDINARY + b"hello")
    assert heads.find(ORDINARY + b"other")
    assert read(ORDINARY + b"other", ORDINARY + b"again", heads=heads) == read(ORDINARY + b"other", ORDINARY + b"again")
    assert heads.find(ORDINARY + b"otherwise") is None  # another length is another framing


@given(st.binary(max_size=12), st.integers(0, 90), st.booleans())
def test_known_heads_make_no_difference_to_what_is_read(inserted, position, behind):
    message = ORDINARY + b"hello"
    heads = known(message, b"GET /b HTTP/1.1\r\nHost: x\r\n\r\n", message[: position - 9] + inserted)
    changed = message[:position] + inserted + message[position:]
    pieces = (changed, message) if behind else (message, changed, message)
    assert read(*pieces, heads=heads) == read(*pieces)


@pytest.mark.parametrize(
    "message",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\nx",
        b"GET /a HTTP/1.0\r\nHost: x\r\n\r\n",
        HEAD + b"Content-Length: 1\r\n\r\nx" * 2,
        HEAD + b"X: " + b"y" * 4096 + b"\r\n\r\n",
    ],
)
def test_heads_that_are_out_of_the_ordinary_are_not_remembered(message):
    assert known(message).find(message) is None


def test_heads_that_come_once_take_no_room():
    once = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % index for index in range(5000)]
    heads: Heads = Heads()
    for message in once:
        read(message, heads=heads)
    assert not any(heads.find(message) for message in once)
    assert len(heads._once) <= 4096
    read(once[-1], heads=heads)
    assert heads.find(once[-1])


def test_heads_are_few_and_forgotten():
    many = [b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % index for index in range(300)]
    heads = known(*many)
    assert heads.find(many[0])
    assert heads.find(many[-1]) is None
    heads.sweep(1.0)
    assert heads.find(many[0]) is None
    read(many[0], heads=heads)
    read(many[0], heads=heads)
    heads.sweep(10.9)
    assert heads.find(many[0])
    heads.sweep(11.0)
    assert heads.find(many[0]) is None


def test_a_head_that_is_refused_is_not_remembered():
    class Strict(Sink):
        def head(self, exchange):
            exchange.refusal = Refusal("unauthenticated", "")

    heads: Heads = Heads()
    for _ in range(3):
        RequestReader(Limits(), Strict(), heads).feed(ORDINARY + b"hello", 1.0)
    assert heads.find(ORDINARY + b"hello") is None


@pytest.mark.parametrize("cut", [60, 130, 200])
def test_a_long_read_of_many_requests_is_no_long_header(cut):
    """The read ends within the header of the last one, which is small."""
    one = HEAD + b"Content-Length: 400\r\n\r\n" + b"x" * 400
    stream = one * 100
    assert len(read(stream[:-cut], stream[-cut:])) == 100
    assert len(read(stream[: -len(one) + 10], stream[-len(one) + 10 :])) == 100


def test_a_header_that_begins_behind_another_request_is_bounded_too():
    piece = b"y" * 9_000
    assert read(STREAM + HEAD + b"X: ", piece, piece) == "header-too-large"


def test_what_follows_a_request_that_closes_is_ignored():
    ((_, target, _, _, complete),) = read(b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nrubbish \x00")
    assert (target, complete) == (b"/a", True)


@pytest.mark.parametrize(
    "second", [b"GET /b HTTP/1.0\r\nHost: x\r\n\r\n", b"GET /b\nrubbish\r\n\r\n", b"GET /b HTTP/2.0\r\n\r\n"]
)
def test_nothing_is_read_behind_http_1_0_whatever_it_says_of_its_connection(second):
    first = b"GET /a HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    ((_, target, _, _, complete),) = read(first + second)
    assert (target, complete) == (b"/a", True)
