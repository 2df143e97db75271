"""Reads requests off a connection: strict HTTP/1.1 framing, and nothing of what the requests mean.

httptools (llhttp, in its strict mode) does the parsing: it refuses both framings at once, repeated or contradictory
lengths, folded lines, stray control characters and bare line feeds. What it leaves open is closed here: versions,
Host, fields that must be single, transfer codings, trailers that would reframe, upgrades, and sizes.
"""

import itertools
import os
from typing import NamedTuple, Protocol

import httptools

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import Refusal

_SINGLE = frozenset(
    (b"host", b"authorization", b"content-type", b"content-length", b"content-encoding", b"expect",
     b"inference-header-content-length", b"transfer-encoding", b"x-modelward-purpose")
)  # fmt: skip
_FORBIDDEN_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"authorization"))

_run = os.urandom(6).hex()
_count = itertools.count(1)


def new_request_id() -> str:
    """Unique in practice: random for this process, then counted."""
    return f"{_run}-{next(_count):08x}"


def run() -> str:
    """What the ids of this process begin with."""
    return _run


def number_of(identifier: str) -> int | None:
    """The count in a request's id; None: this process has given no such id."""
    run, _, count = identifier.partition("-")
    try:
        return int(count, 16) if run == _run else None
    except ValueError:
        return None


class Sink(Protocol):
    """Who is told of what is read."""

    def head(self, exchange: Exchange) -> None:
        """The header of `exchange` is whole and well framed; sets its `refusal` if it is not to go on."""

    def hold(self, exchange: Exchange, size: int) -> None:
        """`size` more bytes of the body are to be held; raises Refusal if they cannot be."""


class _EndedError(Exception):
    """Stops the parser: what follows is not read."""


class RequestHead(NamedTuple):
    """What the head of an ordinary request says: it keeps its connection, expects nothing, and tells its length."""

    method: bytes
    target: bytes
    header: dict[bytes, bytes]


class RequestReader:
    """Feeds bytes to the parser and exchanges to the sink.

    An exchange comes with its header and fills up: `body`, `received`, then `complete`. `reading` is the one under
    way, None between two. Once `feed` has raised, or the client asked to close, nothing more can be read (`ended`).
    `heads` are those that the connections of a listener remember together.
    """

    __slots__ = (
        "_arrived",
        "_fields_left",
        "_finished",
        "_head_bytes",
        "_header",
        "_heads",
        "_limits",
        "_parser",
        "_sink",
        "_size_left",
        "ended",
        "in_head",
        "reading",
    )

    def __init__(self, limits: Limits, sink: Sink, heads: Heads[RequestHead]) -> None:
        self._heads = heads
        self._limits = limits
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._arrived = 0.0
        self._head_bytes = 0  # fed since the header began: it may still lie unparsed in the parser
        self._finished: Exchange | None = None  # the last request that ended in what is being fed
        self._size_left = 0
        self._fields_left = 0
        self._header: dict[bytes, bytes] = {}
        self.in_head = True
        self.ended = False
        self.reading: Exchange | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Read `data`, which came at `now`.

        Raises:
            Refusal: the bytes are not HTTP/1.1 as it is read here. The connection cannot go on.
        """
        between = self.reading is None and not self.ended
        if between:
            known = self._heads.find(data)
            if known is not None:
                self._take(known.says, data[known.end :], now)
                return
        self._arrived = now
        self._finished = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if self.ended:
                return
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise
        except httptools.HttpParserUpgrade:
            raise _upgrade() from None
        except httptools.HttpParserError:
            if self.ended:  # bytes after a request that asked to close
                return
            raise Refusal("bad-framing", "The request is not valid HTTP/1.1.", close=True) from None
        # How much of a read that brought the end of one request is the next one's header, the parser does not say; a
        # pipelining client's read may be large, and is counted from the next one on.
        if self.reading is None:
            if between and self._finished is not None:
                self._remember(data, self._finished)
        elif self.in_head and self._finished is None:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_bytes:
                raise _too_large(self._limits)

    def _remember(self, data: bytes, exchange: Exchange) -> None:
        """If `data` is one ordinary request that is let in, its head need not be parsed when it comes again."""
        header = exchange.header
        if not (exchange.close or exchange.refusal or b"expect" in header or b"transfer-encoding" in header):
            self._heads.remember(data, exchange.received, RequestHead(exchange.method, exchange.target, header))

    def _take(self, head: RequestHead, body: bytes, now: float) -> None:
        """Read a request whose head was read before: what the callbacks below do of others, at once."""
        self.reading = exchange = Exchange(new_request_id())
        exchange.method, exchange.target, exchange.header = head
        exchange.chunks = True
        self.in_head = False
        self._sink.head(exchange)
        if body:
            self.on_body(body)
        self._arrived = now
        self.on_message_complete()

    def close(self) -> None:
        """Nothing more will be read. The parser and the sink refer back to here: together they would stay in memory."""
        del self._parser, self._sink
        self._finished = None

    # --- httptools' callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        if self.ended:  # the parser reads on behind HTTP/1.0 that would keep its connection; here it ends
            raise _EndedError
        self.reading = Exchange(new_request_id())
        self._header = self.reading.header
        self.in_head = True
        self._head_bytes = 0
        self._size_left = self._limits.header_bytes
        self._fields_left = self._limits.headers

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._spend(len(url))
        self._exchange.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field."""
        self._size_left -= len(name) + len(value) + 4  # the separators; written out: this is called most often of all
        self._fields_left -= 1
        if self._size_left < 0 or self._fields_left < 0:
            raise _too_large(self._limits)
        name = name.lower()
        if not self.in_head:
            if name in _FORBIDDEN_TRAILERS:
                raise Refusal(
                    "bad-framing", "A trailer field must not change the request's framing or caller.", close=True
                )
            return
        header = self._header
        if name not in header:
            header[name] = value
        elif name in _SINGLE:
            raise Refusal("bad-framing", f"The header field {name.decode('latin-1')} must come once.", close=True)
        else:
            header[name] += b", " + value

    def on_headers_complete(self) -> None:
        """The header is whole."""
        exchange = self._exchange
        parser = self._parser
        exchange.method = parser.get_method()
        version = parser.get_http_version()
        exchange.chunks = version == "1.1"
        exchange.close = version != "1.1" or not parser.should_keep_alive()
        self.in_head = False
        self._size_left = self._limits.header_bytes  # the trailers', which the fields' count covers too
        _check_head(exchange, version, upgrade=parser.should_upgrade())
        self._sink.head(exchange)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        exchange = self._exchange
        exchange.received += len(body)
        if exchange.refusal is None:
            self._sink.hold(exchange, len(body))
            exchange.body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        exchange = self._exchange
        exchange.complete = True
        exchange.started = self._arrived
        self.ended = exchange.close
        self.reading = None
        self._finished = exchange

    @property
    def _exchange(self) -> Exchange:
        assert self.reading is not None  # noqa: S101 - the parser calls on_message_begin first
        return self.reading

    def _spend(self, size: int) -> None:
        self._size_left -= size + 4
        if self._size_left < 0:
            raise _too_large(self._limits)


def _check_head(exchange: Exchange, version: str, *, upgrade: bool) -> None:
    header = exchange.header
    if version not in ("1.1", "1.0"):
        raise Refusal("http-version-not-supported", "Speak HTTP/1.1.", close=True)
    if upgrade:
        raise _upgrade()
    if version == "1.1" and not header.get(b"host"):
        raise Refusal("bad-framing", "The header field Host is missing.", close=True)
    if not exchange.target.startswith(b"/"):
        raise Refusal("bad-framing", "The request target must be a path.", close=True)
    coding = header.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            raise Refusal("bad-framing", "HTTP/1.0 has no transfer codings.", close=True)
        if coding.lower() != b"chunked":
            raise Refusal("not-implemented", "The only transfer coding supported is chunked.", close=True)
    expectation = header.get(b"expect")
    if expectation is not None:
        if expectation.lower() != b"100-continue":
            raise Refusal("bad-framing", "The only expectation supported is 100-continue.", close=True)
        exchange.expects = version == "1.1"


def _too_large(limits: Limits) -> Refusal:
    detail = f"The header may have at most {limits.header_bytes} bytes and {limits.headers} fields."
    return Refusal("header-too-large", detail, close=True)


def _upgrade() -> Refusal:
    return Refusal("not-implemented", "Tunnels and upgrades to other protocols are not supported.", close=True)
