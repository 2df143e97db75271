"""The model server's side: pooled HTTP/1.1 connections on the loopback, one exchange at a time on each.

A pooled connection may be closed by the model server in the very moment that a request is written to it. If not a
byte of an answer came, the request is sent once more, on a fresh connection: inference is stateless, and every proxy
must do this.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

import httptools

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Outcome, Response, Stream
from modelward.sidecar.heads import Heads
from modelward.sidecar.problems import STATUS_LINES, Refusal

# What of an answer's header is passed on: what a client needs to read the body. The rest is nobody's declared output.
_PASSED = frozenset(
    (b"cache-control", b"content-encoding", b"content-type", b"inference-header-content-length", b"retry-after")
)
_REPEATABLE = (b"cache-control",)  # of any other the first one counts, here as for the client
_MAX_HEADERS = 64
_EVENTS = b"text/event-stream"


class Call:
    """A request on its way: what to send, whom to tell, and until when it may take (the loop's clock).

    `streams`: an answer of server-sent events is told as it comes.
    """

    __slots__ = ("deadline", "done", "fresh", "payload", "streams")

    def __init__(
        self, payload: bytes, done: Callable[[Outcome], None], deadline: float, *, streams: bool = False
    ) -> None:
        self.payload = payload
        self.done: Callable[[Outcome], None] | None = done
        self.deadline = deadline
        self.streams = streams
        self.fresh = False  # has been given a new connection already

    def finish(self, outcome: Outcome) -> None:
        """Tell the outcome, once."""
        done, self.done = self.done, None
        if done is not None:
            done(outcome)


class AnswerHead(NamedTuple):
    """What the head of an ordinary answer says: it comes whole, tells its length, and keeps its connection."""

    status: int
    headers: bytes


class Upstream:
    """The connections to one model server, and the calls that wait for one."""

    def __init__(self, host: str, port: int, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self._address = (host, port)
        self._loop = loop
        self._idle: list[UpstreamConnection] = []
        self._busy: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Call] = deque()
        self._closed = False
        self.heads: Heads[AnswerHead] = Heads()

    @property
    def connections(self) -> int:
        """How many there are, those being opened included."""
        return len(self._idle) + len(self._busy) + len(self._connecting)

    def call(self, payload: bytes, done: Callable[[Outcome], None], *, streams: bool = False) -> Callable[[], None]:
        """Send `payload`, a whole request; `done` gets the answer or the refusal. Returns how to abandon it.

        `streams`: an answer of server-sent events is given at its beginning, as a Stream.

        Raises:
            Refusal: 503, too many calls wait already.
        """
        call = Call(payload, done, self.deadline(), streams=streams)
        if self._idle:
            self._idle.pop().send(call)
        else:
            self._enqueue(call)
        return lambda: self._abandon(call)

    def deadline(self, seconds: float = 0.0) -> float:
        """When patience with the model ends, on the loop's clock: `seconds` from now, or `upstream_seconds`."""
        return self._loop.time() + (seconds or self.limits.upstream_seconds)

    def _enqueue(self, call: Call) -> None:
        if len(self._waiting) >= self.limits.upstream_queue:
            raise Refusal(
                "overloaded", "The model is busy; try again.", reason="queue-full", headers=b"retry-after: 1\r\n"
            )
        self._waiting.append(call)
        self._open_if_needed()

    def _open_if_needed(self) -> None:
        if len(self._connecting) < len(self._waiting) and self.connections < self.limits.upstream_connections:
            task = self._loop.create_task(self._open())
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                _, protocol = await self._loop.create_connection(lambda: UpstreamConnection(self), *self._address)
        except (OSError, TimeoutError):
            # Nobody listens: whoever waits is told now, unless a connection that works will come free.
            while self._waiting and not self._busy:
                self._waiting.popleft().finish(_bad("connect", "The model server does not accept connections."))
        else:
            self.release(protocol)

    def release(self, connection: "UpstreamConnection") -> None:
        """`connection` is free: give it the next call, or keep it."""
        self._busy.discard(connection)
        while self._waiting:
            call = self._waiting.popleft()
            if call.done is not None:
                connection.send(call)
                return
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def occupy(self, connection: "UpstreamConnection") -> None:
        """`connection` has a call."""
        self._busy.add(connection)

    def lost(self, connection: "UpstreamConnection", call: Call | None) -> None:
        """`connection` is gone; a `call` that was sent on it and saw no answer may be tried once more."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if call is not None:
            call.fresh = True
            self._waiting.appendleft(call)
        if self._waiting:
            self._open_if_needed()

    def _abandon(self, call: Call) -> None:
        call.done = None
        for connection in self._busy:
            if connection.call is call:
                connection.close()
                return

    def sweep(self) -> None:
        """End what takes too long; to be called about once a second."""
        now = self._loop.time()
        self.heads.sweep(now)
        for connection in [each for each in self._busy if each.call is not None and each.call.deadline <= now]:
            connection.expire()
        while self._waiting and (self._waiting[0].done is None or self._waiting[0].deadline <= now):
            self._waiting.popleft().finish(_slow())

    def close(self) -> None:
        """Close idle connections now and the others after their call."""
        self._closed = True
        for connection in list(self._idle):
            connection.close()


class UpstreamConnection(asyncio.Protocol):
    """One connection to the model server."""

    __slots__ = ("_begun", "_body", "_complete", "_events", "_fields", "_framed", "_headers", "_held", "_parser",
                 "_reusable", "_size", "_status", "_stream", "_stream_ends", "_transport", "_upstream", "_used",
                 "call")  # fmt: skip

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._used = False
        self.call: Call | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._begun = False  # some of the answer has come
        self._status = 0
        self._headers: list[bytes] = []
        self._fields = 0  # of the header, those passed on and the others
        self._body: list[bytes] = []
        self._size = 0
        self._framed = False  # the end of the body is told by its length or by chunks
        self._complete = False
        self._reusable = False
        self._events = False  # the answer says that it is a stream of events
        self._stream: Stream | None = None  # it, once it is told as one
        self._held = False  # not read from, while the client does not read
        self._stream_ends = 0.0  # when at the latest, on the loop's clock

    def send(self, call: Call) -> None:
        """Send `call`; the connection is free."""
        self.call = call
        self._upstream.occupy(self)
        self._transport.write(call.payload)

    def close(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """The call has taken too long."""
        self._settle(_slow())
        self._transport.abort()

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read the answer."""
        if self.call is None:
            self._transport.abort()  # bytes that nobody asked for: this connection cannot be trusted further
            return
        whole = not self._begun
        if whole:
            known = self._upstream.heads.find(data)
            if known is not None:
                self._answered(Response(*known.says, data[known.end :]))
                return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__
            refusal = (
                cause
                if isinstance(cause, Refusal)
                else _bad("garbage", "The model server's answer is not valid HTTP/1.1.")
            )
            self._settle(refusal)
            self._transport.abort()
            return
        if self._complete:
            if whole and self._reusable and not self._events:
                answer = AnswerHead(self._status, b"".join(self._headers))
                self._upstream.heads.remember(data, sum(map(len, self._body)), answer)
            self._deliver(reusable=self._reusable)

    def eof_received(self) -> None:
        """The model server closed: that ends a body whose length was not told."""
        if self.call is not None and self._status and not self._framed and not self._complete:
            self._deliver(reusable=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Settle what was under way."""
        if self._stream is not None:
            self._stream.end(_bad("broken-off", "The model server broke off before its answer was whole."))
        call, self.call = self.call, None
        del self._parser  # it refers back to here
        if call is None or call.done is None:
            self._upstream.lost(self, None)
        elif self._used and not self._status and not call.fresh:
            self._upstream.lost(self, call)
        else:
            self._upstream.lost(self, None)
            call.finish(_bad("broken-off", "The model server broke off before its answer was whole."))

    # --- httptools' callbacks

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self._complete:
            raise _bad("garbage", "The model server answered twice.")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field, which says nothing of how the body is to be read."""
        lower = name.lower()
        self._fields += 1
        self._spend(len(lower) + len(value))
        if self._fields > _MAX_HEADERS:
            raise _bad("too-large", "The model server's answer has too many header fields.")
        if self._status:
            return
        if lower in (b"content-length", b"transfer-encoding"):
            self._framed = True
        elif lower in _PASSED:
            start = lower + b": "
            if lower not in _REPEATABLE and any([each.startswith(start) for each in self._headers]):  # noqa: C419
                return
            self._headers.append(b"%b%b\r\n" % (start, value))
            if lower == b"content-type":
                self._events = value.partition(b";")[0].strip().lower() == _EVENTS

    def on_headers_complete(self) -> None:
        """The header is whole."""
        self._status = self._parser.get_status_code()
        if self._status not in STATUS_LINES:  # there is no way to pass it on
            raise _bad("garbage", "The model server's answer has a status that HTTP does not know.")
        # Asked now: once the message is over, the parser has forgotten how its end was told.
        self._reusable = self._parser.should_keep_alive()
        if self._events and self._status == 200 and self.call is not None and self.call.streams:
            self._stream = Stream(200, b"".join(self._headers), self._hold, self._go_on)
            self._stream_ends = self._upstream.deadline(self._upstream.limits.stream_seconds)
            self.call.finish(self._stream)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._spend(len(body))
        if self._stream is None:
            self._body.append(body)
        elif self._stream.piece(body):
            if self.call is not None:  # patience is for each piece, up to the end of the whole
                self.call.deadline = min(self._upstream.deadline(), self._stream_ends)
        else:
            raise _bad("unwanted", "The stream was broken off.")

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._status < 200:  # an interim answer; the final one follows
            self._headers.clear()
            self._events = False
            self._status = 0
            self._framed = False
        else:
            self._complete = True

    def _spend(self, size: int) -> None:
        self._size += size
        if self._size > self._upstream.limits.response_bytes:
            raise _bad("too-large", f"The model's answer is larger than {self._upstream.limits.response_bytes} bytes.")

    def _hold(self) -> None:
        if not self._held and not self._transport.is_closing():
            self._held = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        if self._held and not self._transport.is_closing():
            self._transport.resume_reading()
        self._held = False

    # --- ending a call

    def _deliver(self, *, reusable: bool) -> None:
        response = Response(self._status, b"".join(self._headers), b"".join(self._body))
        stream, self._stream = self._stream, None
        if reusable:
            self._go_on()
            self._reset()
            self._answered(response, stream)
        else:
            call, self.call = self.call, None
            self._transport.close()
            _tell(call, response, stream)

    def _answered(self, response: Response, stream: Stream | None = None) -> None:
        """The answer is whole, and the connection stays."""
        call, self.call = self.call, None
        self._used = True
        self._upstream.release(self)
        _tell(call, response, stream)

    def _settle(self, refusal: Refusal) -> None:
        if self._stream is not None:
            self._stream.end(refusal)
        call, self.call = self.call, None
        if call is not None:
            call.finish(refusal)


def _tell(call: Call | None, response: Response, stream: Stream | None) -> None:
    if stream is not None:
        stream.end(None)
    elif call is not None:
        call.finish(response)


def _bad(reason: str, detail: str) -> Refusal:
    return Refusal("bad-upstream", detail, reason=f"upstream-{reason}")


def _slow() -> Refusal:
    return Refusal("upstream-timeout", "The model did not answer in time.")
