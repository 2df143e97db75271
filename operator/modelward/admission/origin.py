"""HTTP/1.1 to one server: verified, bounded in size and time, and a connection kept for what follows at once.

As much of HTTP as the API server speaks to a client that lists, watches and writes Events. A client for every server
there is would be a tenth of this process's memory, and most of the time that it takes to start.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

SECONDS = 10.0
"""For a connection, and for each part of an answer unless more is asked for."""

MAX_HEADER = 64 * 1024
_CHUNK = 64 * 1024
_IDLE_SECONDS = 10.0  # an API server closes later, so a request on a kept connection meets one that is there
_MAX_IDLE = 4


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Origin:
    """A server, by its address."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: `https://host:port`, perhaps with a path that all paths are below; for `http` the context is unused.
            context: whom to trust.
        """
        parts = urlsplit(url)
        secured = parts.scheme == "https"
        self._context = context if secured else None
        self._host, self._port = parts.hostname or "", parts.port or (443 if secured else 80)
        self._name, self._prefix = parts.netloc, parts.path.rstrip("/")
        self._idle: list[tuple[float, _Connection]] = []

    @asynccontextmanager
    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """Send a request, and give its answer as soon as its status is known.

        Raises:
            OSError: no connection, no trust, no answer in time, or none that is HTTP.
        """
        connection = self._kept() or await self._connected()
        answer = Answer(connection.reader)
        lines = {"host": self._name, **headers, "content-length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            connection.writer.write(f"{method} {self._prefix}{target} HTTP/1.1\r\n{head}\r\n".encode() + body)
            await answer.begin()
            yield answer
        finally:
            if answer.leaves_connection and len(self._idle) < _MAX_IDLE:
                self._idle.append((_now(), connection))
            else:
                connection.writer.transport.abort()

    def close(self) -> None:
        """Close the connections that are kept."""
        for _, connection in self._idle:
            connection.writer.transport.abort()
        self._idle.clear()

    def _kept(self) -> _Connection | None:
        while self._idle:
            since, connection = self._idle.pop()
            if _now() - since < _IDLE_SECONDS and not connection.reader.at_eof():
                return connection
            connection.writer.transport.abort()
        return None

    async def _connected(self) -> _Connection:
        async with asyncio.timeout(SECONDS):
            return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._context))


class Answer:
    """An answer as it arrives."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._message = _Message()

    @property
    def status(self) -> int:
        """The status; 0 while it has not come."""
        return self._message.status

    @property
    def leaves_connection(self) -> bool:
        """Whether all of it was read, and another request may follow on the connection."""
        return self._message.complete and self._message.keeps_alive

    async def begin(self) -> None:
        """Wait for the status; see `chunks` for what it raises."""
        received = 0
        while not self.status:
            received += await self._more(SECONDS)
            if not self.status and received > MAX_HEADER:
                raise ConnectionError(f"the header of the answer is larger than {MAX_HEADER} bytes")

    async def body(self, most: int) -> bytes:
        """Return the whole body.

        Raises:
            OSError: it did not come, or has more bytes than `most`.
        """
        body = bytearray()
        async for chunk in self.chunks(SECONDS):
            body += chunk
            if len(body) > most:
                raise ConnectionError(f"the answer is larger than {most} bytes")
        return bytes(body)

    async def chunks(self, seconds: float) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Args:
            seconds: of silence that are borne.

        Raises:
            OSError: the connection broke, was silent for longer, or what came is not HTTP.
        """
        while True:
            parts, self._message.parts = self._message.parts, []
            for part in parts:
                yield part
            if self._message.complete:
                return
            await self._more(seconds)

    async def _more(self, seconds: float) -> int:
        try:
            async with asyncio.timeout(seconds):
                data = await self._reader.read(_CHUNK)
        except TimeoutError:
            raise TimeoutError(f"no answer within {seconds:g} seconds") from None
        if not data:
            raise ConnectionError("the connection was closed before the answer was complete")
        try:
            self._message.parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise ConnectionError(f"the answer is not HTTP/1.1: {error}") from None
        return len(data)


class _Message:
    """What httptools' parser has read of an answer; its callbacks."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.status = 0
        self.complete = self.keeps_alive = False

    def on_message_begin(self) -> None:
        self.keeps_alive = False  # of a second answer, which nobody asked for: the connection is not used again

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status >= 200 and not self.status:  # others are interim: the answer follows
            self.status = status

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self.parts.append(body)

    def on_message_complete(self) -> None:
        if self.status and not self.complete:
            self.complete, self.keeps_alive = True, self.parser.should_keep_alive()


def _now() -> float:
    return asyncio.get_running_loop().time()
