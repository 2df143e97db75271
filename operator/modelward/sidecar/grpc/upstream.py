"""The model server's side: one HTTP/2 connection on the loopback, on which calls go beside one another.

At most `upstream_connections` calls are under way, the others wait, boundedly. A call that the model server has not
begun when its connection ends is sent once more, as over HTTP/1.1.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from modelward.sidecar.config import Limits
from modelward.sidecar.exchange import Outcome, Response
from modelward.sidecar.grpc import framing, status
from modelward.sidecar.grpc.http2 import Headers, Peer
from modelward.sidecar.problems import Refusal

_CODE = re.compile(rb"[0-9]{1,2}")
_HEADER_BYTES = 16 << 10
_LAST_STREAM = 1 << 30  # then a new connection: identifiers of streams come to an end


class Call(NamedTuple):
    """What is sent: the method's path, metadata and message; and until when it may take (time.monotonic)."""

    path: bytes
    metadata: Headers
    message: bytes
    deadline: float
    slow: Refusal  # what a late answer is


class Failed(Response):
    """An answer with a status other than OK: `status` is its code, `body` its text."""


class _Asked:
    """A call on its way."""

    __slots__ = ("call", "connection", "done", "fresh", "headers", "parts", "size", "stream")

    def __init__(self, call: Call, done: Callable[[Outcome], None]) -> None:
        self.call = call
        self.done: Callable[[Outcome], None] | None = done
        self.fresh = False  # has been sent a second time already
        self.connection: _Connection | None = None
        self.stream = 0
        self.reset()

    def reset(self) -> None:
        self.headers: dict[bytes, bytes] | None = None
        self.parts: list[bytes] = []
        self.size = 0

    def finish(self, outcome: Outcome) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(outcome)


class Upstream:
    """The calls to one model server."""

    def __init__(self, host: str, port: int, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.authority = f"{host}:{port}".encode()
        self._address = (host, port)
        self._loop = loop
        self._connection: _Connection | None = None
        self._leaving: set[_Connection] = set()  # with calls under way, and no new ones
        self._opening: asyncio.Task[None] | None = None
        self._waiting: deque[_Asked] = deque()
        self._closed = False

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._leaving) + (self._connection is not None)

    def call(self, call: Call, done: Callable[[Outcome], None], *, streams: bool = False) -> Callable[[], None]:  # noqa: ARG002
        """Send `call`; `done` gets a Response, a Failed or a Refusal. Returns how to abandon it.

        Raises:
            Refusal: 503, too many calls wait already.
        """
        asked = _Asked(call, done)
        connection = self._connection
        if connection is not None and connection.free:
            connection.ask(asked)
        elif len(self._waiting) >= self.limits.upstream_queue:
            raise Refusal(
                "overloaded", "The model is busy; try again.", reason="queue-full", headers=b"retry-after: 1\r\n"
            )
        else:
            self._waiting.append(asked)
            self._open_if_needed()
        return lambda: self._abandon(asked)

    def _abandon(self, asked: _Asked) -> None:
        asked.done = None
        if asked.connection is not None:
            asked.connection.drop(asked)

    def _open_if_needed(self) -> None:
        if self._connection is None and self._opening is None and self._waiting and not self._closed:
            self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self.limits.connect_seconds):
                _, connection = await self._loop.create_connection(lambda: _Connection(self), *self._address)
        except (OSError, TimeoutError):
            self._opening = None
            while self._waiting:
                self._waiting.popleft().finish(
                    _bad("connect", "The model server does not accept connections on its gRPC port.")
                )
        else:
            self._opening = None
            if connection.over:
                self._open_if_needed()
                return
            self._connection = connection
            self.next(connection)

    def next(self, connection: "_Connection") -> None:
        """`connection` may have room for calls that wait."""
        if connection is self._connection:
            while self._waiting and connection.free:
                asked = self._waiting.popleft()
                if asked.done is not None:
                    connection.ask(asked)
        elif not connection.asked:
            self._leaving.discard(connection)
            connection.close()

    def leave(self, connection: "_Connection") -> None:
        """`connection` takes no new calls."""
        if connection is self._connection:
            self._connection = None
            self._leaving.add(connection)
        self.next(connection)
        self._open_if_needed()

    def again(self, asked: _Asked, refusal: Refusal) -> None:
        """A call that the model server has not begun: once more, or it is refused."""
        if asked.fresh or asked.done is None or self._closed:
            asked.finish(refusal)
        else:
            asked.fresh = True
            asked.reset()
            self._waiting.appendleft(asked)

    def gone(self, connection: "_Connection") -> None:
        """`connection` is no more."""
        self._leaving.discard(connection)
        if connection is self._connection:
            self._connection = None
        self._open_if_needed()

    def sweep(self) -> None:
        """End what takes too long; to be called about once a second."""
        now = time.monotonic()
        for connection in [*self._leaving, *([self._connection] if self._connection else [])]:
            connection.sweep(now)
        for asked in [each for each in self._waiting if each.done is None or each.call.deadline <= now]:
            self._waiting.remove(asked)
            asked.finish(asked.call.slow)

    def close(self) -> None:
        """Take no more calls; close the connection after those under way."""
        self._closed = True
        if self._connection is not None:
            self.leave(self._connection)


class _Connection(Peer):
    """The connection to the model server."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__(client=True, header_bytes=_HEADER_BYTES)
        self._upstream = upstream
        self.asked: dict[int, _Asked] = {}

    @property
    def free(self) -> bool:
        """Whether a call more may be sent."""
        most = min(self._upstream.limits.upstream_connections, self.h2.remote_settings.max_concurrent_streams)
        return not self.over and len(self.asked) < most

    def ask(self, asked: _Asked) -> None:
        """Send a call."""
        call = asked.call
        stream = self.h2.get_next_available_stream_id()
        asked.connection, asked.stream = self, stream
        self.asked[stream] = asked
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", call.path),
            (b":authority", self._upstream.authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *call.metadata,
        ]
        try:
            self.h2.send_headers(stream, headers)
            self.send(stream, framing.framed(call.message), lambda: self.h2.end_stream(stream))
        except ProtocolError:
            self._settle(stream, _bad("broken-off", "The model server broke off before its answer was whole."))
            return
        self.flush()
        if stream >= _LAST_STREAM:
            self._upstream.leave(self)

    def drop(self, asked: _Asked) -> None:
        """The answer of a call is not wanted any more."""
        if self.asked.pop(asked.stream, None) is None:
            return
        self._reset(asked.stream)
        self._upstream.next(self)

    def close(self) -> None:
        """No more calls."""
        if not self.over:
            self.over = True
            self.transport.close()

    def sweep(self, now: float) -> None:
        """End calls that have taken too long."""
        for stream, asked in [(s, each) for s, each in self.asked.items() if each.call.deadline <= now]:
            self._reset(stream)
            self._settle(stream, asked.call.slow)

    # --- events

    def take(self, event: events.Event) -> None:
        """Gather the answers."""
        match event:
            case events.ResponseReceived() | events.TrailersReceived():
                self._headers(event.stream_id, event.headers, ended=event.stream_ended is not None)
            case events.DataReceived():
                self._data(event)
            case events.StreamEnded():
                self._complete(event.stream_id)
            case events.StreamReset():
                self._broken(event)
            case events.ConnectionTerminated():
                self._leave(event.last_stream_id or 0)
            case _:
                pass

    def _headers(self, stream: int, headers: Headers, *, ended: bool) -> None:
        asked = self.asked.get(stream)
        if asked is None:
            return
        found = dict(headers)
        if asked.headers is None:
            asked.headers = found
        elif ended:  # trailers
            asked.headers |= found

    def _data(self, event: events.DataReceived) -> None:
        stream = event.stream_id
        self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        asked = self.asked.get(stream)
        if asked is None:
            return
        asked.size += len(event.data)
        asked.parts.append(event.data)
        most = self._upstream.limits.response_bytes
        if asked.size > most + framing.PREFIX_BYTES:
            self._reset(stream)
            self._settle(stream, _bad("too-large", f"The model's answer is larger than {most} bytes."))

    def _complete(self, stream: int) -> None:
        asked = self.asked.get(stream)
        if asked is not None:
            self.forget(stream)  # answered before the request was whole: its rest is not wanted
            self.answered()
            self._settle(stream, _outcome(asked))

    def _broken(self, event: events.StreamReset) -> None:
        asked = self.asked.pop(event.stream_id, None)
        self.forget(event.stream_id)
        if asked is None:
            return
        refusal = _bad("broken-off", "The model server broke off before its answer was whole.")
        if event.error_code == ErrorCodes.REFUSED_STREAM:
            self._upstream.again(asked, refusal)
        else:
            asked.finish(refusal)
        self._upstream.next(self)

    def _leave(self, last: int) -> None:
        """The model server takes no calls above `last` here."""
        self._unbegun(lambda stream, _: stream > last)
        self._upstream.leave(self)

    def lost(self, why: str) -> None:  # noqa: ARG002
        """Settle what was under way: once more what has no answer yet, if the connection was of use before."""
        used = self.h2.highest_outbound_stream_id > 1
        self._unbegun(lambda _, asked: used and asked.headers is None)
        asked, self.asked = self.asked, {}
        for each in asked.values():
            each.finish(_bad("broken-off", "The model server broke off before its answer was whole."))
        self._upstream.gone(self)

    def _unbegun(self, which: Callable[[int, _Asked], bool]) -> None:
        for stream in [stream for stream, asked in self.asked.items() if which(stream, asked)]:
            asked = self.asked.pop(stream)
            self.forget(stream)
            self._upstream.again(asked, _bad("broken-off", "The model server takes no calls."))

    def _reset(self, stream: int) -> None:
        self.forget(stream)
        self.answered()  # what still comes of it is not the model server's fault
        try:
            self.h2.reset_stream(stream, ErrorCodes.CANCEL)
        except ProtocolError:  # it is over already
            return
        self.flush()

    def _settle(self, stream: int, outcome: Outcome) -> None:
        asked = self.asked.pop(stream, None)
        if asked is not None:
            asked.finish(outcome)
        self._upstream.next(self)


def _outcome(asked: _Asked) -> Outcome:
    headers = asked.headers or {}
    code = headers.get(b"grpc-status", b"")
    if headers.get(b":status") != b"200" or not _CODE.fullmatch(code) or int(code) > status.MAX_CODE:
        return _bad("garbage", "The model server's answer is not one of gRPC.")
    if int(code):
        text = unquote(headers.get(b"grpc-message", b"").decode("latin-1"))
        return Failed(int(code), b"", text.encode())
    try:
        return Response(status.OK, b"", framing.message(asked.parts))
    except framing.FramingError:
        return _bad("garbage", "The model server's answer is not one message of gRPC.")


def _bad(reason: str, detail: str) -> Refusal:
    return Refusal("bad-upstream", detail, reason=f"upstream-{reason}")
