"""A copy of a collection of the API server, kept up to date by list and watch."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from modelward.admission.client import ApiError, Client, GoneError

T = TypeVar("T")

STALE_SECONDS = 600.0
"""After that long without a word from the API server a copy is not trusted; a watch lasts five minutes at most."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 30.0
_WATCH_SECONDS = (240, 300)

log = logging.getLogger(__name__)


class Reflector(Generic[T]):
    """Lists a collection, then watches it; lists again when the API server no longer knows the version.

    `items` holds what `keep` made of each object, by namespace (empty where the kind has none) and name.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        keep: Callable[[dict[str, Any]], T],
        *,
        query: Mapping[str, str] | None = None,
        accept: tuple[str, str] = ("application/json", "application/json"),
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            client: of the API server.
            path: of the collection.
            keep: makes of an object what is kept of it.
            query: selectors.
            accept: media types of the list and of the watch.
            changed: called after each change of `items`, and after the first list.
            clock: seconds.
        """
        self.items: dict[str, dict[str, T]] = {}
        self._client = client
        self._path = path
        self._keep = keep
        self._query = dict(query or {})
        self._list_accept, self._watch_accept = accept
        self._changed = changed
        self._clock = clock
        self._version: str | None = None
        self._heard: float | None = None
        self._failures = 0

    @property
    def synced(self) -> bool:
        """Whether `items` is what the API server has, give or take a moment."""
        return self._heard is not None and self._clock() - self._heard < STALE_SECONDS

    async def run(self) -> None:
        """Keep the copy until cancelled."""
        while True:
            begun = self._clock()
            try:
                if self._version is None:
                    await self._list()
                await self._watch(self._version or "")
            except GoneError:
                self._version = None
            except (ApiError, OSError, KeyError, TypeError) as error:
                log.warning("%s: %s: %s", self._path, type(error).__name__, error)
                if not isinstance(error, OSError):
                    self._version = None  # an answer that was not understood: begin anew
            await self._wait(worked=self._clock() - begun)

    async def _list(self) -> None:
        objects, version = await self._client.list(self._path, self._query, self._list_accept)
        items: dict[str, dict[str, T]] = {}
        for item in objects:
            namespace, name = _key(item)
            items.setdefault(namespace, {})[name] = self._keep(item)
        self.items = items
        self._version = version
        self._hear()
        self._changed()

    async def _watch(self, version: str) -> None:
        seconds = random.randint(*_WATCH_SECONDS)  # noqa: S311 - spreads load, guards nothing
        query = {
            **self._query,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        async for kind, item in self._client.watch(self._path, query, self._watch_accept):
            self._hear()
            if kind == "OPEN":
                continue
            self._version = str(item["metadata"]["resourceVersion"])
            if kind == "BOOKMARK":
                continue
            namespace, name = _key(item)
            if kind == "DELETED":
                self.items.get(namespace, {}).pop(name, None)
            else:
                self.items.setdefault(namespace, {})[name] = self._keep(item)
            self._changed()

    def _hear(self) -> None:
        self._heard = self._clock()

    async def _wait(self, *, worked: float) -> None:
        """Wait before the next round: the longer, the more rounds have ended at once."""
        if worked > _LONGEST_WAIT:
            self._failures = 0
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing


def _key(item: dict[str, Any]) -> tuple[str, str]:
    metadata = item["metadata"]
    return str(metadata.get("namespace", "")), str(metadata["name"])
