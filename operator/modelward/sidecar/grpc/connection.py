"""A client's gRPC connection: calls in, answers out, beside one another; patience and memory bounded.

A call is judged by its headers before any of its message is kept. A refused one is answered at once, and the rest of it
is not wanted.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from modelward.sidecar import caller
from modelward.sidecar.exchange import CLIENT_GONE, Exchange, Outcome, Response, Stream
from modelward.sidecar.grpc import framing, status
from modelward.sidecar.grpc.http2 import Headers, Peer, Sending, once
from modelward.sidecar.problems import Refusal
from modelward.sidecar.reader import new_request_id
from modelward.sidecar.server import Server

_DRAIN_SECONDS = 1.0  # for calls that are on their way when the end comes
_ANY_STREAM = (1 << 31) - 1
_SHARE = 4  # of `connections`: one of HTTP/2 takes 16 KiB, idle as it is, and bears a hundred calls at a time
_NEVER = float("inf")
# What of a call's metadata counts: the rest is neither kept nor passed on. None of it may come twice.
_COUNTS = frozenset(
    (b"authorization", b"content-type", b"grpc-encoding", b"grpc-timeout", b"traceparent", b"tracestate",
     b"x-modelward-purpose", b":method", b":path")
)  # fmt: skip
_PSEUDO = 4  # fields that HTTP/2 has in place of the request line
_OPENING: Headers = [
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity"),
]


class _Stream:
    """A call: its exchange, and until when it is waited for (the clock of the server)."""

    __slots__ = ("abandon", "deadline", "exchange", "id", "parts", "sending")

    def __init__(self, identifier: int, exchange: Exchange, deadline: float) -> None:
        self.id = identifier
        self.exchange = exchange
        self.deadline = deadline
        self.parts: list[bytes] = []
        self.abandon: Callable[[], None] | None = None
        self.sending: Sending | None = None  # the answer


class Connection(Peer):
    """One client's connection. `deadline` is when it must be looked at again, on the server's clock."""

    def __init__(self, server: Server) -> None:
        super().__init__(client=False, header_bytes=server.limits.header_bytes)
        self._server = server
        self._streams: dict[int, _Stream] = {}
        self._idle_until = _NEVER
        self._leave_at = _NEVER  # when calls that were under way at the end must have come
        self._left = False
        self.deadline = _NEVER

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or say that there are too many."""
        server = self._server
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert() if tls is not None else None
        self._certificate = caller.from_certificate(certificate) if certificate else None
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.over = True
            transport.close()
            return
        super().connection_made(transport)
        server.connections.add(self)
        if len(server.connections) > max(server.limits.connections // _SHARE, 1):
            self.go_away(0, ErrorCodes.ENHANCE_YOUR_CALM)
            self._end("too many connections")
        else:
            self._idle(server.limits.head_seconds)
            if server.draining:
                self.drain()

    def lost(self, why: str) -> None:  # noqa: ARG002
        """Forget everything; what was not answered is over too."""
        self.deadline = _NEVER
        self._server.connections.discard(self)
        for stream in list(self._streams.values()):
            self._gone(stream)

    def abort(self) -> None:
        """End the connection, whatever is under way."""
        self.transport.abort()

    def drain(self) -> None:
        """End the connection soon: calls that are on their way are still answered, and clients told to send no more."""
        if not self.over and self._leave_at == _NEVER:
            self.go_away(_ANY_STREAM)
            self._leave_at = self._server.clock() + _DRAIN_SECONDS
            self.deadline = min(self.deadline, self._leave_at)

    def expire(self) -> None:
        """Something has been waited for too long."""
        now = self._server.clock()
        if now >= self._leave_at and not self._left:
            self._left = True
            self.go_away(self.h2.highest_inbound_stream_id)
        for stream in list(self._streams.values()):
            if stream.deadline <= now or (self._left and not stream.exchange.complete):
                self._expire(stream)
        if not self._streams and (self._left or now >= self._idle_until):
            if not self._left:
                self.go_away(self.h2.highest_inbound_stream_id)
            self._end("idle")
            return
        self.flush()
        self.deadline = min(
            [_NEVER if self._left else self._leave_at, _NEVER if self._streams else self._idle_until]
            + [stream.deadline for stream in self._streams.values()]
        )

    def _expire(self, stream: _Stream) -> None:
        if stream.exchange.complete:  # its answer is not taken
            self._reset(stream.id, ErrorCodes.CANCEL)
            self._gone(stream)
        else:
            self._refuse(stream, Refusal("request-timeout", "The request did not arrive in time."))

    def _idle(self, seconds: float) -> None:
        self._idle_until = self._server.clock() + seconds
        self.deadline = min(self.deadline, self._idle_until)

    # --- events

    def take(self, event: events.Event) -> None:
        """Read calls."""
        match event:
            case events.RequestReceived():
                self._head(event.stream_id, event.headers)
            case events.DataReceived():
                self._data(event)
            case events.StreamEnded():
                self._complete(event.stream_id)
            case events.StreamReset():
                self.forget(event.stream_id)
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    self._gone(stream)
            case events.TrailersReceived():
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    self._refuse(stream, Refusal("bad-framing", "A request of gRPC has no trailers."))
            case _:
                pass

    def _head(self, identifier: int, headers: Headers) -> None:
        server = self._server
        exchange = Exchange(new_request_id())
        exchange.address = self._address
        exchange.certificate = self._certificate
        stream = _Stream(identifier, exchange, server.clock() + server.limits.body_seconds)
        self._streams[identifier] = stream
        self.deadline = min(self.deadline, stream.deadline)
        try:
            self._read(exchange, headers)
            server.application.admit(exchange)
        except Refusal as refusal:
            self._refuse(stream, refusal)

    def _read(self, exchange: Exchange, headers: Headers) -> None:
        limits = self._server.limits
        size = 0
        twice = False
        for name, value in headers:
            size += len(name) + len(value)
            if name in _COUNTS:
                twice = twice or name in exchange.header
                exchange.header[name] = value
        exchange.target = exchange.header.pop(b":path", b"")
        if exchange.header.pop(b":method", b"") == b"POST":  # it is recorded
            exchange.method = b"POST"
        if size > limits.header_bytes or len(headers) > limits.headers + _PSEUDO:
            raise Refusal("header-too-large", f"The metadata may have at most {limits.header_bytes} bytes.")
        if twice:
            raise Refusal("bad-framing", "A field of the metadata that counts comes twice.")

    def _data(self, event: events.DataReceived) -> None:
        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.exchange.complete:
            return
        server, exchange, size = self._server, stream.exchange, len(event.data)
        exchange.received += size
        if exchange.received > server.limits.body_bytes + framing.PREFIX_BYTES:
            detail = f"The message may have at most {server.limits.body_bytes} bytes."
            self._refuse(stream, Refusal("body-too-large", detail))
        elif server.buffered + size > server.limits.buffered_bytes:
            detail = "Too many request bodies are being received at once; try again."
            self._refuse(stream, Refusal("overloaded", detail, headers=b"retry-after: 1\r\n"))
        else:
            server.buffered += size
            exchange.body.append(event.data)

    def _complete(self, identifier: int) -> None:
        stream = self._streams.get(identifier)
        if stream is None:
            return
        exchange = stream.exchange
        exchange.complete = True
        exchange.started = time.perf_counter()
        stream.deadline = _NEVER
        try:
            stream.abandon = self._server.application.respond(exchange, partial(self._answer, stream))
        except Refusal as refusal:
            self._refuse(stream, refusal)

    # --- answering

    def _answer(self, stream: _Stream, outcome: Outcome) -> None:
        if stream.id not in self._streams:
            return
        stream.abandon = None
        if isinstance(outcome, Refusal):
            self._refuse(stream, outcome)
        elif isinstance(outcome, Response):
            self._respond(stream, outcome)
        else:
            assert not isinstance(outcome, Stream)  # noqa: S101 - no call of this service has one
        self.flush()

    def _refuse(self, stream: _Stream, refusal: Refusal) -> None:
        stream.exchange.refusal = refusal
        exchange = stream.exchange
        trailers = [once(*field) for field in status.refused(refusal, exchange.id)]
        try:
            self.h2.send_headers(stream.id, [*_OPENING, *_metadata(exchange), *trailers], end_stream=True)
        except ProtocolError:  # the client has reset it, which is about to be told
            self._gone(stream)
            return
        if not exchange.complete:
            self._reset(stream.id, ErrorCodes.NO_ERROR)  # the rest of it is not wanted
        self._finish(stream, refusal.status, status.code_of(refusal), 0)

    def _respond(self, stream: _Stream, response: Response) -> None:
        stream.deadline = self._server.clock() + self._server.limits.write_seconds
        self.deadline = min(self.deadline, stream.deadline)
        try:
            self.h2.send_headers(stream.id, [*_OPENING, *_metadata(stream.exchange)])
            end = partial(self._close, stream, len(response.body))
            stream.sending = self.send(stream.id, framing.framed(response.body), end)
        except ProtocolError:
            self._gone(stream)

    def _close(self, stream: _Stream, sent: int) -> None:
        self.h2.send_headers(stream.id, [(b"grpc-status", b"0")], end_stream=True)
        self._finish(stream, 200, status.OK, sent)

    def _gone(self, stream: _Stream) -> None:
        """The client does not want it any more."""
        if stream.abandon is not None:
            stream.abandon()
            stream.abandon = None
        # Who leaves before the last byte has read the others.
        sent = stream.sending.sent - framing.PREFIX_BYTES if stream.sending else 0
        self._finish(stream, CLIENT_GONE, status.CANCELLED, max(sent, 0))

    def _finish(self, stream: _Stream, told: int, code: int, sent: int) -> None:
        if self._streams.pop(stream.id, None) is None:
            return
        self.forget(stream.id)
        exchange = stream.exchange
        self._server.buffered -= sum(map(len, exchange.body))
        exchange.body.clear()
        exchange.status, exchange.grpc_status, exchange.sent = told, code, sent
        if told != CLIENT_GONE:
            self.answered()
        self._server.application.finished(exchange)
        if not self._streams and not self.over:
            self._idle(0 if self._left else self._server.limits.idle_seconds)

    def _reset(self, identifier: int, code: ErrorCodes) -> None:
        self.forget(identifier)
        try:
            self.h2.reset_stream(identifier, code)
        except ProtocolError:  # it is over already
            return


def _metadata(exchange: Exchange) -> Headers:
    found = [once(b"x-modelward-request-id", exchange.id.encode())]
    if exchange.finding is not None and (exchange.refusal is None or exchange.failure is not None):
        found.append((b"x-modelward-verdict", exchange.finding.name.encode()))
    return found
