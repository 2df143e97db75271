"""The HTTP server under the reviews, over real sockets: what is said in pieces, out of turn, too long or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from modelward.admission import server as under_test
from modelward.admission.server import MAX_HEAD, Message, Receive, Send, Server

POST = b"POST /admit?timeout=2s HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with method, path and body; /slow takes a moment, /silent says nothing, /early does not read."""
    body, more = b"", scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            gone.append(scope["path"])
            return
        body += message["body"]
        more = message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    if scope["path"] == "/silent":
        return
    text = f"{scope['method']} {scope['path']} ".encode() + body
    closing = [(b"connection", b"close")] if scope["path"] == "/last" else []
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode()), *closing]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


gone: list[str] = []


@asynccontextmanager
async def serving(application: Any = echo) -> AsyncIterator[Server]:
    server = Server(application, "127.0.0.1", 0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1.0)
        assert not server.connections


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, server: Server) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(60):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, body

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(request)
        return await self.answer()

    async def ended(self) -> bool:
        """Whether the server has closed, with nothing more to say."""
        try:
            async with asyncio.timeout(60):
                return await self.reader.read() == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()


async def test_one_request_after_the_other_on_one_connection() -> None:
    async with serving() as server:
        client = await Client.of(server)
        for _ in range(3):
            status, headers, body = await client.ask(POST)
            assert (status, body) == (200, b"POST /admit hello")
            assert "connection" not in headers
        assert len(server.connections) == 1
        client.close()


async def test_a_request_in_pieces_of_any_size() -> None:
    async with serving() as server:
        client = await Client.of(server)
        for size in (1, 7, 30):
            for begin in range(0, len(POST), size):
                client.writer.write(POST[begin : begin + size])
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"POST /admit hello"
        client.close()


async def test_a_chunked_body() -> None:
    async with serving() as server:
        client = await Client.of(server)
        head = b"POST /admit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert (await client.ask(head + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"))[2] == b"POST /admit hello"
        assert (await client.ask(POST))[0] == 200
        client.close()


async def test_who_waits_for_leave_to_send_a_body_gets_it() -> None:
    async with serving() as server:
        client = await Client.of(server)
        client.writer.write(b"POST /admit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        async with asyncio.timeout(60):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"hello"))[2] == b"POST /admit hello"
        client.close()


@pytest.mark.parametrize(
    "request_",
    [
        POST.replace(b"host: x", b"connection: close"),
        POST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        POST.replace(b"/admit", b"/last"),
    ],
)
async def test_a_connection_ends_when_either_side_asks_for_it(request_: bytes) -> None:
    async with serving() as server:
        client = await Client.of(server)
        status, headers, _ = await client.ask(request_)
        assert status == 200
        assert headers["connection"] == "close"
        assert await client.ended()
        client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /admit HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /admit HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /admit HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /admit HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\x00",
    ],
)
async def test_what_is_no_http_is_cut_off(garbage: bytes) -> None:
    async with serving() as server:
        client = await Client.of(server)
        client.writer.write(garbage)
        async with asyncio.timeout(60):
            assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
        client.close()


async def test_a_head_has_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        for head in (b"GET / HTTP/1.1\r\nx: " + b"y" * MAX_HEAD, b"GET /" + b"y" * MAX_HEAD + b" HTTP/1.1\r\n\r\n"):
            client = await Client.of(server)
            assert (await client.ask(head))[0] == 431
            assert await client.ended()
            client.close()


async def test_a_second_request_before_the_first_answer_ends_the_connection_after_it() -> None:
    async with serving() as server:
        client = await Client.of(server)
        client.writer.write(POST.replace(b"/admit", b"/slow"))
        client.writer.write(POST)
        status, headers, body = await client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"POST /slow hello")
        assert await client.ended()
        client.close()


async def test_an_answer_before_the_body_ends_the_connection() -> None:
    """What is too large is refused at its beginning; the rest is not read as another request."""
    async with serving() as server:
        client = await Client.of(server)
        status, headers, _ = await client.ask(POST.replace(b"/admit", b"/early")[:-3])
        assert (status, headers["connection"]) == (200, "close")
        assert await client.ended()
        client.close()


async def test_who_hangs_up_is_not_answered() -> None:
    gone.clear()
    async with serving() as server:
        client = await Client.of(server)
        client.writer.write(POST[:-1])
        await client.writer.drain()
        await asyncio.sleep(0.05)
        client.close()
        await until(lambda: gone == ["/admit"])
        await until(lambda: not server.connections)


async def test_an_application_that_says_nothing_ends_the_connection() -> None:
    async with serving() as server:
        client = await Client.of(server)
        client.writer.write(POST.replace(b"/admit", b"/silent"))
        assert await client.ended()
        client.close()


async def test_too_many_connections_are_refused_and_those_there_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "MAX_CONNECTIONS", 2)
    async with serving() as server:
        first, second = await Client.of(server), await Client.of(server)
        await until(lambda: len(server.connections) == 2)
        third = await Client.of(server)
        assert (await third.answer())[0] == 503
        assert await third.ended()
        for client in (first, second):
            assert (await client.ask(POST))[0] == 200
            client.close()
        third.close()


async def test_idle_and_slow_connections_are_swept_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_SWEEP_SECONDS", 0.02), ("IDLE_SECONDS", 0.4), ("HEAD_SECONDS", 0.4)):
        monkeypatch.setattr(under_test, name, seconds)
    async with serving() as server:
        idle, slow, busy = [await Client.of(server) for _ in range(3)]
        slow.writer.write(POST[:10])
        busy.writer.write(POST.replace(b"/admit", b"/slow"))
        assert (await busy.answer())[0] == 200
        assert await idle.ended()
        assert await slow.ended()
        for client in (idle, slow, busy):
            client.close()


async def test_leaving_answers_what_was_asked_and_takes_no_more() -> None:
    go_on = asyncio.Event()

    async def held(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/held":
            await go_on.wait()
        await echo(scope, receive, send)

    async with serving(held) as server:
        idle, busy = await Client.of(server), await Client.of(server)
        assert (await idle.ask(POST))[0] == 200
        busy.writer.write(POST.replace(b"/admit", b"/held"))
        await until(lambda: sum(not connection.idle for connection in server.connections) == 1)
        port = server.port
        stopping = asyncio.ensure_future(server.stop(60.0))
        assert await idle.ended()
        go_on.set()
        status, headers, _ = await busy.answer()
        assert (status, headers["connection"]) == (200, "close")
        await stopping
        with pytest.raises(OSError, match="onnect"):
            await asyncio.open_connection("127.0.0.1", port)
        for client in (idle, busy):
            client.close()


async def test_leaving_does_not_wait_for_ever() -> None:
    async def never(scope: Message, receive: Receive, send: Send) -> None:
        await asyncio.sleep(3600)

    async with serving(never) as server:
        client = await Client.of(server)
        client.writer.write(POST)
        await until(lambda: any(not connection.idle for connection in server.connections))
        await server.stop(0.05)
        assert await client.ended()
        client.close()


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await Server(echo, "127.0.0.1", server.port).start()


@given(
    st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([POST, POST[:20], POST[20:], b"\r\n"]), max_size=5)
)
def test_no_bytes_break_it(pieces: list[bytes]) -> None:
    async def talk() -> None:
        async with serving() as server:
            client = await Client.of(server)
            said = b""
            with contextlib.suppress(ConnectionError, RuntimeError):  # cut off with bytes unread
                for piece in pieces:
                    client.writer.write(piece)
                    await asyncio.sleep(0)
                client.writer.write_eof()
                async with asyncio.timeout(60):
                    said = await client.reader.read()
            assert said == b"" or said.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
            client.close()

    uvloop.run(talk())


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)
