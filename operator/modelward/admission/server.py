"""HTTP/1.1 under an ASGI application: as much of it as the API server and probes speak, and bounds on all of it.

httptools (llhttp, strict) frames; what is no HTTP/1.1 ends the connection. One request is answered at a time: who sends
the next before the answer to the first has it answered, and is cut off. A small server of its own because it stays
resident in every replica: the general ones bring a command line, reloading and processes with them, and as many MiB.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from http import HTTPStatus
from typing import Any, cast

import httptools

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_CONNECTIONS = 1024
MAX_HEAD = 16 * 1024
"""Bytes of a request line and its header."""
HEAD_SECONDS = 10.0
IDLE_SECONDS = 120.0
"""Longer than the API server keeps an idle connection, so that it is the one to close."""
_SWEEP_SECONDS = 5.0
_BACKLOG = 2048
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class _Exchange:
    """A request, as far as it has come, and its answer."""

    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.method = ""
        self.path = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.complete = False
        self.keep = False
        """Whether the client means to ask again on its connection; known once the request is complete."""
        self.gone = False
        self.head: Message | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def receive(self) -> Message:
        while not (self.chunks or self.complete or self.gone):
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        if self.gone:
            return {"type": "http.disconnect"}
        body = b"".join(self.chunks)
        self.chunks.clear()
        return {"type": "http.request", "body": body, "more_body": not self.complete}

    async def send(self, message: Message) -> None:
        """Take the answer: its head, and then its body in one piece."""
        if self.head is None:
            self.head = message
        else:
            self.connection.answer(self, self.head, message["body"])


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._exchange: _Exchange | None = None
        self._head_bytes = 0  # fed since the head began
        self._spent = 0  # of them, parsed: a head may come whole in one piece
        self._keep = True
        self.since = 0.0
        """When it became idle, or the head that is being read began."""

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return self._exchange is None

    @property
    def in_head(self) -> bool:
        """Whether a request has begun whose header is not whole."""
        return self._exchange is None and self._head_bytes > 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.since = self._server.now()
        self._server.connections.add(self)
        if len(self._server.connections) > MAX_CONNECTIONS:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        self._server.connections.discard(self)
        self._server.changed()
        if self._exchange is not None:
            self._exchange.gone = True
            self._exchange.wake()

    def data_received(self, data: bytes) -> None:
        if not self._keep:
            return  # cut off; what still comes is not read
        if self._exchange is None:
            if self._head_bytes == 0:
                self.since = self._server.now()
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # framing, or what is not spoken here
            self._refuse(431 if self._spent > MAX_HEAD else 400)
        else:
            if self._exchange is None and self._head_bytes > MAX_HEAD:
                self._refuse(431)

    # --- httptools' callbacks

    def on_message_begin(self) -> None:
        if self._exchange is not None:
            raise ValueError("a request before its turn")
        self._incoming = _Exchange(self)
        self._spent = 0

    def on_url(self, url: bytes) -> None:
        self._spend(len(url))
        self._incoming.path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._spend(len(name) + len(value))
        self._incoming.headers.append((name.lower(), value))

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > MAX_HEAD:
            raise ValueError("a head that is too large")

    def on_headers_complete(self) -> None:
        exchange = self._exchange = self._incoming
        self._head_bytes = 0
        if (b"expect", b"100-continue") in exchange.headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        path = exchange.path.split(b"?", 1)[0].decode("ascii", "replace")
        exchange.method = self._parser.get_method().decode("ascii")
        scope = {"type": "http", "method": exchange.method, "path": path, "headers": exchange.headers}
        self._server.run(scope, exchange)

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.chunks.append(body)
            self._exchange.wake()

    def on_message_complete(self) -> None:
        if self._exchange is not None:
            self._exchange.complete = True
            self._exchange.keep = self._parser.should_keep_alive()
            self._exchange.wake()

    # --- answers

    def answer(self, exchange: _Exchange, head: Message, body: bytes) -> None:
        """Write an answer; the connection goes on only if all was in order."""
        if exchange is not self._exchange or self._transport.is_closing():
            return
        headers = head["headers"]
        self._keep = (
            self._keep and exchange.keep and not self._server.leaving and (b"connection", b"close") not in headers
        )
        lines = [b"HTTP/1.1 %d %s\r\n" % (head["status"], _PHRASES[head["status"]].encode())]
        lines += [b"%s: %s\r\n" % header for header in headers if header[0] != b"connection"]
        lines += [b"\r\n" if self._keep else b"connection: close\r\n\r\n", b"" if exchange.method == "HEAD" else body]
        self._transport.write(b"".join(lines))
        self._exchange = None
        self.since = self._server.now()
        if not self._keep:
            self._transport.close()
        self._server.changed()

    def _refuse(self, status: int) -> None:
        """Cut off; an exchange under way is answered all the same."""
        self._keep = False
        if self._exchange is None:
            line = f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            self._transport.write(line.encode())
            self._transport.close()
        elif not self._exchange.complete:
            self._exchange.gone = True  # its body will never be whole
            self._exchange.wake()
            self._transport.close()

    def give_up(self, exchange: _Exchange) -> None:
        """Cut off where the application ended without an answer."""
        if exchange is self._exchange:
            self.abort()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Server:
    """Serves an application on one address, in plaintext or over TLS."""

    def __init__(self, application: Application, host: str, port: int, context: ssl.SSLContext | None = None) -> None:
        """Prepare; `start` binds.

        Args:
            application: ASGI, of requests whose answers have one piece and a content-length.
            host: address; empty for all, of both families.
            port: 0 for one that is free.
            context: None for plaintext.
        """
        self._application = application
        self._address = host or None, port
        self._context = context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.connections: set[_Connection] = set()
        self.leaving = False

    @property
    def started(self) -> bool:
        """Whether it listens."""
        return self._server is not None and self._server.is_serving()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("not started")
        return int(self._server.sockets[0].getsockname()[1])

    def now(self) -> float:
        """Return the event loop's time."""
        return asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is not to be had.
        """
        host, port = self._address
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            host,
            port,
            ssl=self._context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=HEAD_SECONDS if self._context else None,
        )
        self._background(self._sweep())

    async def stop(self, seconds: float) -> None:
        """Accept no more, answer what has been asked, and close; what takes longer is cut off."""
        self.leaving = True
        if self._server is not None:
            self._server.close()
        for connection in [one for one in self.connections if one.idle]:
            connection.close()
        try:
            async with asyncio.timeout(seconds):
                while self.connections:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for connection in list(self.connections):
                connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def changed(self) -> None:
        """Hear that a connection has become idle, or gone."""
        self._changed.set()

    def run(self, scope: Message, exchange: _Exchange) -> None:
        """Have a request answered."""
        self._background(self._answered(scope, exchange))

    async def _answered(self, scope: Message, exchange: _Exchange) -> None:
        try:
            await self._application(scope, exchange.receive, exchange.send)
        finally:
            exchange.connection.give_up(exchange)  # nothing, where it was answered

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _sweep(self) -> None:
        """Close what has been idle, or has sent a head, for too long."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self.now()
            for connection in list(self.connections):
                if connection.idle and now - connection.since > (HEAD_SECONDS if connection.in_head else IDLE_SECONDS):
                    connection.close()
