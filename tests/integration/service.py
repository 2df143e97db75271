"""A Service of one port as kube-proxy makes it: each new connection goes to one of the endpoints, at the TCP level."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from tests.ports import free_port


class Service:
    """Listens while entered; connections that are open stay open when their endpoint is taken out."""

    def __init__(self) -> None:
        self.port = free_port()
        self.endpoints: tuple[int, ...] = ()
        """Ports of this machine; replaced as a whole, from any thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._call(asyncio.start_server, self._serve, "127.0.0.1", self.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work(*arguments), self._loop).result(timeout=10)

    async def _end(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.1)  # transports that were closed a moment ago end in the loop's next rounds

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        endpoints = self.endpoints
        if not endpoints:  # kube-proxy rejects where there is none
            writer.transport.abort()
            return
        try:
            there = await asyncio.open_connection("127.0.0.1", endpoints[next(self._turn) % len(endpoints)])
        except OSError:
            writer.transport.abort()
            return
        for source, target in ((reader, there[1]), (there[0], writer)):
            task = asyncio.ensure_future(_pipe(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                target.write(chunk)
                await target.drain()
    finally:
        target.close()
