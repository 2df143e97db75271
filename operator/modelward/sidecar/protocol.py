"""A client's connection: requests in, answers out in their order, patience and memory bounded.

A request is judged by its header before any of its body is kept. A refused one is answered at once; the rest of its
body is read only if it is short, and otherwise the connection ends, gently: closing a socket with unread bytes would
reset it and could take the answer away from the client.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Literal, cast

from modelward.sidecar import caller
from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import (
    CLIENT_GONE,
    Exchange,
    Outcome,
    Response,
    Stream,
    refused,
    render,
    render_stream_head,
)
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import RequestReader, new_request_id
from modelward.sidecar.server import Server

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_SKIP_BYTES = 64 << 10  # of a refused request's body, so as to keep its connection
_LINGER_BYTES = 1 << 20
_LINGER_SECONDS = 2.0
_DRAIN_SECONDS = 1.0  # for a request that is still arriving, or an answer that is not taken: a Job waits for our end
_NEVER = float("inf")


class Connection(asyncio.Protocol):
    """One client's connection. `deadline` is when its present wait ends, on the loop's clock."""

    __slots__ = ("_abandon", "_address", "_answering", "_blocked", "_certificate", "_last", "_linger_left", "_paused",
                 "_pending", "_pumping", "_reader", "_server", "_stream", "_transport", "_waiting",
                 "deadline")  # fmt: skip

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader = RequestReader(server.limits, self, server.heads)
        self._pending: deque[Exchange] = (
            deque()
        )  # in order: the first is next to be answered, the last may still be arriving
        self._answering = False  # the application has the first of them
        self._abandon: Callable[[], None] | None = None
        self._stream: Stream | None = None  # the answer under way, where it comes piece by piece
        self._pumping = False
        self._last = False  # nothing more will be read
        self._linger_left = 0
        self._blocked = False  # the client does not read its answers
        self._paused = False  # we do not read its requests
        self._waiting: _Wait = "nothing"
        self.deadline = _NEVER

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        server = self._server
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        self._certificate = caller.from_certificate(certificate) if certificate else None
        server.connections.add(self)
        if len(server.connections) > server.limits.connections:
            self._fail(
                Refusal("overloaded", "Too many connections; try again.", headers=b"retry-after: 1\r\n", close=True)
            )
            self._pump()
        else:
            self._wait("request", server.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Read what came; answer what is whole."""
        if self._last:
            self._swallow(len(data))
            return
        try:
            self._reader.feed(data, time.perf_counter())
        except Refusal as refusal:
            self._fail(refusal)
        self._last = self._last or self._reader.ended
        self._pump()

    def eof_received(self) -> None:
        """The client has gone: the transport closes, and what it asked is abandoned."""

    def pause_writing(self) -> None:
        """The client is not reading: begin no further answer, for a while, and hold up the one that comes in pieces."""
        self._blocked = True
        if self._stream is not None:
            self._stream.pause()

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked = False
        self._wait_no_more()
        if self._stream is not None:
            self._stream.resume()
        self._pump()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget everything; what was not answered is over too."""
        self.deadline = _NEVER
        self._last = True
        self._server.connections.discard(self)
        self._stream = None
        if self._abandon is not None:
            self._abandon()
            self._abandon = None
        while self._pending:
            exchange = self._pending.popleft()
            self._finish(exchange, CLIENT_GONE, exchange.sent)
        self._reader.close()

    # --- the reader's callbacks

    def head(self, exchange: Exchange) -> None:
        """Have the application judge the header, before any of the body is kept."""
        server = self._server
        exchange.address = self._address
        exchange.certificate = self._certificate
        self._pending.append(exchange)
        length = int(exchange.header.get(b"content-length", b"0"))
        try:
            if length > server.limits.body_bytes:
                raise _too_large(server.limits)
            server.application.admit(exchange)
        except Refusal as refusal:
            exchange.refusal = refusal
            # The rest of the body is not worth reading, unless it is short and its length known.
            if refusal.close or length > _SKIP_BYTES or exchange.expects or b"transfer-encoding" in exchange.header:
                exchange.close = True

    def hold(self, exchange: Exchange, size: int) -> None:
        """Count bytes of a body against its limit, and against that of all bodies together."""
        server = self._server
        if exchange.received > server.limits.body_bytes:
            raise _too_large(server.limits)
        if server.buffered + size > server.limits.buffered_bytes:
            raise Refusal(
                "overloaded",
                "Too many request bodies are being received at once; try again.",
                headers=b"retry-after: 1\r\n",
                close=True,
            )
        server.buffered += size

    # --- answering

    def _pump(self) -> None:
        """Answer, in order, whatever can be answered now."""
        if self._pumping:
            return
        self._pumping = True
        while self._pending and not self._answering and not self._blocked and not self._linger_left:
            exchange = self._pending[0]
            if exchange.refusal is not None and (exchange.complete or exchange.close):
                self._write(exchange, refused(exchange.refusal, exchange.id))
            elif exchange.complete:
                self._start(exchange)
            else:
                break
        self._pumping = False
        self._rest()

    def _start(self, exchange: Exchange) -> None:
        self._answering = True
        try:
            abandon = self._server.application.respond(exchange, partial(self._answer, exchange))
        except Refusal as refusal:
            self._answer(exchange, refusal)
        else:
            if self._answering:
                self._abandon = abandon

    def _answer(self, exchange: Exchange, outcome: Outcome) -> None:
        if isinstance(outcome, Stream):
            self._pass_on(exchange, outcome)
            return
        self._answering = False
        self._abandon = None
        if isinstance(outcome, Refusal):
            exchange.refusal = outcome
            outcome = refused(outcome, exchange.id)
        self._write(exchange, outcome)
        self._pump()

    def _write(self, exchange: Exchange, response: Response) -> None:
        self._pending.popleft()
        final = exchange.close or self._server.draining or (self._last and not self._pending)
        head = exchange.method == b"HEAD"
        self._transport.write(render(response, request_id=exchange.id, close=final, head=head))
        self._wait_no_more()
        self._finish(exchange, response.status, 0 if head else len(response.body))
        if final:
            self._end(unread=not exchange.complete)

    def _pass_on(self, exchange: Exchange, stream: Stream) -> None:
        """Answer piece by piece, as the model makes them; the exchange stays the first until its end."""
        if not exchange.chunks:
            exchange.close = True  # the end of the connection is then that of the answer
        exchange.streamed = True
        final = exchange.close or self._server.draining or (self._last and len(self._pending) == 1)
        head = render_stream_head(stream, request_id=exchange.id, chunked=exchange.chunks, close=final)
        self._stream = stream
        stream.open(partial(self._piece, exchange), partial(self._end_stream, exchange, stream.status, final))
        self._transport.write(head)
        self._rest()

    def _piece(self, exchange: Exchange, data: bytes) -> None:
        exchange.sent += len(data)
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if exchange.chunks else data)
        self._rest()

    def _end_stream(self, exchange: Exchange, status: int, final: bool, refusal: Refusal | None) -> None:  # noqa: FBT001
        if self._stream is None:
            return  # the client has gone
        self._answering = False
        self._abandon = None
        self._stream = None
        self._pending.popleft()
        exchange.refusal = refusal
        if refusal is None and exchange.chunks:
            self._transport.write(b"0\r\n\r\n")
        self._wait_no_more()
        self._finish(exchange, status, exchange.sent)
        if refusal is not None:
            self._last = True
            self._transport.abort()  # the client must see that the answer is not whole
        elif final or self._server.draining:
            self._end(unread=False)
        self._pump()

    def _finish(self, exchange: Exchange, status: int, sent: int) -> None:
        self._server.buffered -= sum(map(len, exchange.body))
        exchange.body.clear()
        exchange.status = status
        exchange.sent = sent
        self._server.application.finished(exchange)

    def _end(self, *, unread: bool) -> None:
        self._last = True
        if not unread:
            self._transport.close()
            return
        # Closing a socket that still holds unread bytes resets it, and the client might never see the answer.
        self._linger_left = _LINGER_BYTES
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _swallow(self, size: int) -> None:
        if self._linger_left:
            self._linger_left -= size
            if self._linger_left <= 0:
                self._transport.abort()

    def _fail(self, refusal: Refusal) -> None:
        """What comes from here on makes no sense, or is not wanted: refuse the exchange under way, and read no more."""
        self._last = True
        exchange = self._reader.reading or Exchange(new_request_id())
        if not self._pending or self._pending[-1] is not exchange:
            exchange.address = self._address
            self._pending.append(exchange)
        exchange.refusal = exchange.refusal or refusal
        exchange.close = True

    # --- waiting

    def _rest(self) -> None:
        """Nothing more can be done now: say what is waited for, and how long."""
        limits = self._server.limits
        backlog = len(self._pending) > 1
        if backlog != self._paused and not self._last:
            self._paused = backlog
            (self._transport.pause_reading if backlog else self._transport.resume_reading)()
        if self._linger_left:
            self._wait("linger", _LINGER_SECONDS)
        elif self._blocked:
            self._wait("client", limits.write_seconds)
        elif self._answering or self._last:
            self._wait("nothing", _NEVER)
        elif self._pending:
            self._wait_for_body(self._pending[0])
        elif self._reader.reading is not None:
            self._wait("head", limits.head_seconds)
        else:
            self._wait("request", limits.idle_seconds)

    def _wait_for_body(self, exchange: Exchange) -> None:
        if exchange.expects and exchange.refusal is None:
            exchange.expects = False
            self._transport.write(_CONTINUE)
        self._wait("body", self._server.limits.body_seconds)

    def _wait(self, what: "_Wait", seconds: float) -> None:
        """Begin a wait; one that is under way is not prolonged by a trickle of bytes."""
        if what != self._waiting:
            self._waiting = what
            if what == "nothing":
                self.deadline = _NEVER
                return
            if self._server.draining:
                seconds = min(seconds, _DRAIN_SECONDS)
            self.deadline = self._server.clock() + seconds

    def _wait_no_more(self) -> None:
        """What was waited for has come: its deadline must not hit what comes after."""
        self._waiting = "nothing"
        self.deadline = _NEVER

    def expire(self) -> None:
        """The wait has been too long."""
        if self._waiting in ("head", "body"):
            self._fail(Refusal("request-timeout", "The request did not arrive in time.", close=True))
            self._pump()
        elif self._waiting == "request":
            self._transport.close()
        else:
            self._transport.abort()

    def abort(self) -> None:
        """End the connection, whatever is under way."""
        self._transport.abort()

    def drain(self) -> None:
        """End the connection with its next answer; what waits for its client has not long."""
        if self._waiting != "nothing":
            self.deadline = min(self.deadline, self._server.clock() + _DRAIN_SECONDS)


_Wait = Literal["nothing", "request", "head", "body", "client", "linger"]


def _too_large(limits: Limits) -> Refusal:
    return Refusal("body-too-large", f"The body may have at most {limits.body_bytes} bytes.", close=True)
