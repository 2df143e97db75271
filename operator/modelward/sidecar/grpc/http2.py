"""One end of an HTTP/2 connection (RFC 9113), bounded: what both sides of the sidecar have in common.

The state machine is h2's. Here is what it leaves to its user: sending by the other end's flow control, and patience
with it. A peer that makes work and asks for nothing (pings, settings, resets, empty frames, windows opened bit by bit)
spends a budget that answered requests and time fill up; when it is used up, the connection ends with ENHANCE_YOUR_CALM.
"""

import asyncio
import struct
import time
from collections.abc import Callable
from typing import cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple
from hyperframe.frame import Frame, GoAwayFrame

from modelward.sidecar import log
from modelward.sidecar.grpc.frames import FramesError, Meter

Headers = list[tuple[bytes, bytes]]

MAX_STREAMS = 100  # at a time, on one connection
_SLICE = 16 << 10  # bytes that are read before the budget is looked at again
_STREAM_WINDOW = 256 << 10
_CONNECTION_WINDOW = 1 << 20
_PREFACE_BYTES = 24  # of a client

_BUDGET = 1000.0
_A_SECOND = 10.0
_AN_ANSWER = 16.0
_BYTES_A_FRAME = 4096  # a peer may open its windows, and reports so, as often as this many bytes are sent to it
_GOAWAY = struct.Struct(">BHBBIII")


def once(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field whose value does not come again: the tables of HPACK, which are searched for each field, hold none."""
    field: tuple[bytes, bytes] = NeverIndexedHeaderTuple(name, value)
    return field


class _Connection(H2Connection):
    """h2 remembers how streams were closed; the last ones are enough, and do not add up over the connections."""

    MAX_CLOSED_STREAMS = 512

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[events.Event]]:
        """Tell of it, and go on: what is under way ends well. h2 would end everything here and now."""
        told = events.ConnectionTerminated()
        told.error_code, told.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [told]


class Sending:
    """The rest of a body, and what comes behind it; how much of it went out."""

    __slots__ = ("rest", "sent", "then")

    def __init__(self, rest: memoryview, then: Callable[[], None]) -> None:
        self.rest = rest
        self.sent = 0
        self.then = then


class Peer(asyncio.Protocol):
    """An end of a connection. Subclasses take the events that are theirs (`take`), and the end of it all (`lost`)."""

    def __init__(self, *, client: bool, header_bytes: int) -> None:
        # Of headers a few are read, each strictly, and none is passed on: h2 need not look at every character of all.
        self.h2 = _Connection(
            H2Configuration(
                client_side=client, header_encoding=False, validate_inbound_headers=False,
                validate_outbound_headers=False, normalize_outbound_headers=False,
            )
        )  # fmt: skip
        self.h2.local_settings = Settings(
            client=client,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: header_bytes,
                SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
                SettingCodes.ENABLE_PUSH: 0,
            },
        )
        # What is a little too large is refused by a status; only what is absurd ends the connection.
        self.h2.decoder.max_header_list_size = 4 * header_bytes
        self._meter = Meter(0 if client else _PREFACE_BYTES, 4 * header_bytes)
        self._unsent: dict[int, Sending] = {}
        self._wanted = 0  # pieces of bodies that were for somebody, of those that the meter has counted
        self._blocked = False  # the other end does not read
        self.over = False  # nothing is read or written any more
        self._budget = _BUDGET
        self._filled = time.monotonic()

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.transport = cast("asyncio.Transport", transport)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_CONNECTION_WINDOW - 65_535)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Read what came, and do what it asks for."""
        for start in range(0, len(data), _SLICE):
            if self.over:
                return
            piece = data[start : start + _SLICE]
            try:
                self._budget -= self._meter.idle(piece)
                for event in self.h2.receive_data(piece):
                    self._wanted += isinstance(event, events.DataReceived)
                    self._take(event)
                # What h2 tells nothing of was for a stream that is over; the last one may not have come as a whole.
                unwanted = max(self._meter.data - self._wanted - 1, 0)
                self._wanted += unwanted
                self._budget -= unwanted
            except (ProtocolError, FramesError):
                self._end("it does not speak HTTP/2 as the standard has it")
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, this connection is at its end
                log.fault("an HTTP/2 connection met a fault in the sidecar", error)
                self._end("a fault in the sidecar")
                return
            if self._budget < 0 and not self._refill():
                self.go_away(self.h2.highest_inbound_stream_id, ErrorCodes.ENHANCE_YOUR_CALM)
                self._end("it makes work and asks for nothing")
                return
        self.flush()

    def pause_writing(self) -> None:
        """The other end does not read: send no more for a while, and read no more."""
        self._blocked = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._blocked = False
        if not self.over:
            self.transport.resume_reading()
            self._go_on(0)
            self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """It is over."""
        self.over = True
        self._unsent.clear()
        self.lost("the connection was lost")

    # --- for subclasses

    def take(self, event: events.Event) -> None:
        """Do what `event` asks for."""
        raise NotImplementedError

    def lost(self, why: str) -> None:
        """The connection cannot be used any more; may be told twice."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what h2 has to say."""
        data = self.h2.data_to_send()
        if data and not self.over:
            self.transport.write(data)

    def go_away(self, last: int, code: int = ErrorCodes.NO_ERROR) -> None:
        """Say that nothing above stream `last` will be answered. h2 would take nothing more after one of its own."""
        self.flush()
        self.transport.write(_GOAWAY.pack(0, 8, 7, 0, 0, last, code))

    def send(self, stream: int, body: bytes, then: Callable[[], None]) -> Sending:
        """Send `body` on `stream`, as fast as the other end lets it; then call `then`, which may send the end.

        Raises:
            ProtocolError: the stream is closed.
        """
        unsent = self._unsent[stream] = Sending(memoryview(body), then)
        self._send(stream, unsent)
        return unsent

    def forget(self, stream: int) -> None:
        """What is unsent of `stream` is not wanted."""
        self._unsent.pop(stream, None)

    def answered(self) -> None:
        """A request was answered: the budget grows."""
        self._budget = min(_BUDGET, self._budget + _AN_ANSWER)

    # --- sending

    def _send(self, stream: int, unsent: Sending) -> None:
        rest = unsent.rest
        while rest:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(rest))
            if size <= 0 or self._blocked:
                unsent.rest = rest
                return
            self.h2.send_data(stream, bytes(rest[:size]))
            unsent.sent += size
            self._budget += size / _BYTES_A_FRAME
            rest = rest[size:]
            if rest:
                self.flush()
        del self._unsent[stream]
        unsent.then()

    def _go_on(self, stream: int) -> None:
        """The windows have grown, that of `stream` or (0) any."""
        for each in list(self._unsent) if stream == 0 else [stream]:
            unsent = self._unsent.get(each)
            if unsent is not None and not self._blocked:
                try:
                    self._send(each, unsent)
                except ProtocolError:
                    self.forget(each)  # it was reset; that is told by an event of its own

    def _take(self, event: events.Event) -> None:
        if isinstance(event, events.WindowUpdated):
            self._go_on(event.stream_id or 0)
        elif isinstance(event, events.RemoteSettingsChanged):
            self._go_on(0)
            self.take(event)
        else:
            self.take(event)

    # --- patience

    def _refill(self) -> bool:
        now = time.monotonic()
        self._budget = min(_BUDGET, self._budget + (now - self._filled) * _A_SECOND)
        self._filled = now
        return self._budget >= 0

    def _end(self, why: str) -> None:
        self.flush()
        self.over = True
        self.transport.close()
        self.lost(why)
