"""A client over TLS that costs little: raw protocol, one request after the other on each of some connections."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import httptools
import uvloop


@dataclass(frozen=True)
class Load:
    """What came of a load: seconds it took, and the latency of each request."""

    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def request(path: str, body: bytes, token: str = "") -> bytes:
    """A POST as bytes."""
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: application/json\r\n"
        f"content-type: application/json\r\n{authorization}content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, make: Callable[[], bytes | None], expected: int, latencies: list[float]) -> None:
        self._make = make
        self._expected = expected
        self._latencies = latencies
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        payload = self._make()
        if payload is None:
            self._transport.close()
            self.done.set_result(None)
            return
        self._body = b""
        self._sent = time.perf_counter()
        self._transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body = body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != self._expected:
            self.done.set_exception(RuntimeError(f"status {status}: {self._body[:500]!r}"))
            self._transport.abort()
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the connection broke: {error!r}"))


def load(
    url: str,
    make: Callable[[], bytes | None],
    *,
    connections: int,
    expected: int,
    context: ssl.SSLContext | None,
) -> Load:
    """Send what `make` gives until it gives None.

    Raises:
        RuntimeError: an answer had another status, or a connection broke.
    """

    async def run() -> Load:
        parts = urlsplit(url)
        latencies: list[float] = []
        began = time.perf_counter()
        opened = [
            await asyncio.get_running_loop().create_connection(
                lambda: _Connection(make, expected, latencies), parts.hostname, parts.port, ssl=context
            )
            for _ in range(connections)
        ]
        await asyncio.gather(*(connection.done for _, connection in opened))
        return Load(time.perf_counter() - began, latencies)

    return uvloop.run(run())


def counted(payloads: list[bytes], count: int) -> Callable[[], bytes | None]:
    """Payloads in turn, this many in all."""
    left = count

    def make() -> bytes | None:
        nonlocal left
        left -= 1
        return payloads[left % len(payloads)] if left >= 0 else None

    return make
