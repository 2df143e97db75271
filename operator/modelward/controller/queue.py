"""A queue of keys to reconcile: each once at a time, changes that come together seen together, failures tried again.

kopf's own retries keep their state in annotations and finalizers of the objects they are about. What is kept here is
kept in memory: a restart reconciles everything anyway, and uninstalling leaves no finalizer behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0
_WORKERS = 8  # they wait for the API server most of the time

log = logging.getLogger(__name__)


class GoneError(Exception):
    """What was to be reconciled is not there any more."""


class WorkQueue(Generic[Key]):
    """Calls `process(key)` for every key that was added since it was last called for it."""

    def __init__(self, process: Callable[[Key], Awaitable[None]]) -> None:
        self._process = process
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Ask for a key to be processed, now or in some seconds; what is asked for already is asked for once."""
        if delay > 0:
            loop = asyncio.get_running_loop()
            timer = self._timers.get(key)
            if timer is None or timer.when() > loop.time() + delay:
                if timer:
                    timer.cancel()
                self._timers[key] = loop.call_later(delay, self._due, key)
        elif key in self._active:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def work(self) -> list[Coroutine[None, None, None]]:
        """Return the workers, which run until cancelled."""
        return [self._work() for _ in range(_WORKERS)]

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            try:
                await self._process(key)
                self._failures.pop(key, None)
            except Exception as error:  # noqa: BLE001 - one object's trouble must not stop the others
                self._retry(key, error)
            finally:
                self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _retry(self, key: Key, error: Exception) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(_FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10), _LAST_RETRY_SECONDS)
        log.warning("%s: %s; trying again in %.1f s", key, error, delay, exc_info=log.isEnabledFor(logging.DEBUG))
        self.add(key, delay)
