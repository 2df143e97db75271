"""The API server, as the admission server needs it: list, watch, and write Events. Nothing else is allowed to it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec

from modelward.admission.origin import Answer, Origin

MAX_LINE = 8 * 1024 * 1024
"""Bytes of one event of a watch; objects have 1.5 MiB at most, and JSON escapes at most five-fold."""

MAX_PAGE = 64 * 1024 * 1024
"""Bytes of one page of a list."""

# A bookmark comes every minute: silence for longer means a connection that is dead and does not know it.
_WATCH_SECONDS = 100.0
_PAGE = 100
_MERGE = "application/merge-patch+json"
_JSON = "application/json"

Object = dict[str, Any]
Query = Mapping[str, str]


class ApiError(Exception):
    """The API server said no, or something that is no answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status


class GoneError(ApiError):
    """The version asked for is too old (410): list again."""


class Client:
    """A connection to the API server, as a service account."""

    def __init__(self, origin: Origin, token: Path) -> None:
        """Prepare.

        Args:
            origin: the API server.
            token: file with the token, read anew for each request: the kubelet replaces it every hour.
        """
        self._origin = origin
        self._token = token

    async def list(self, path: str, query: Query, accept: str) -> tuple[list[Object], str]:
        """Return all objects of a collection, and the version at which to begin watching.

        Raises:
            ApiError: the API server refused; `GoneError` when the list changed too much while it was read.
            OSError: it did not answer.
        """
        items: list[Object] = []
        pages = {**query, "limit": str(_PAGE)}
        while True:
            page = await self._json("GET", f"{path}?{urlencode(pages)}", accept)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, str(metadata["resourceVersion"])
            pages["continue"] = metadata["continue"]

    async def watch(self, path: str, query: Query, accept: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object) of each change until the API server ends the watch.

        Raises:
            ApiError: as for `list`.
            OSError: the connection broke.
        """
        target = f"{path}?{urlencode({**query, 'watch': '1'})}"
        async with self._origin.request("GET", target, self._headers(accept)) as answer:
            if answer.status != 200:
                await _document(answer)
                raise ApiError(answer.status, "a watch that is none")
            yield "OPEN", {}
            async for line in _lines(answer):
                event = _decoded(line)
                kind, item = event.get("type"), event.get("object")
                if not isinstance(kind, str) or not isinstance(item, dict):
                    raise ApiError(0, "an event of a watch has no type or no object")
                if kind == "ERROR":
                    raise _error(item.get("code"), item.get("message"))
                yield kind, item

    async def create(self, path: str, item: Object) -> None:
        """Make an object.

        Raises:
            ApiError: refused; status 409 where it exists.
            OSError: no answer.
        """
        await self._json("POST", path, body=msgspec.json.encode(item), content_type=_JSON)

    async def merge(self, path: str, patch: Object) -> Object:
        """Change an object by a JSON merge patch (RFC 7386), and return it as it is then.

        Raises:
            ApiError: refused.
            OSError: no answer.
        """
        return await self._json("PATCH", path, body=msgspec.json.encode(patch), content_type=_MERGE)

    async def _json(
        self, method: str, target: str, accept: str = _JSON, *, body: bytes = b"", content_type: str = ""
    ) -> Object:
        async with self._origin.request(method, target, self._headers(accept, content_type), body) as answer:
            return await _document(answer)

    def _headers(self, accept: str, content_type: str = "") -> dict[str, str]:
        headers = {
            "authorization": f"Bearer {self._token.read_text().strip()}",
            "accept": accept,
            "user-agent": "modelward-admission",
        }
        return {**headers, "content-type": content_type} if content_type else headers


@asynccontextmanager
async def connected(url: str, ca: Path, token: Path) -> AsyncIterator[Client]:
    """Connect to the API server.

    Args:
        url: of the API server.
        ca: file with its certificate authorities.
        token: file with the service account's token.
    """
    origin = Origin(url, ssl.create_default_context(cafile=str(ca)))
    try:
        yield Client(origin, token)
    finally:
        origin.close()


async def _document(answer: Answer) -> Object:
    document = _decoded(await answer.body(MAX_PAGE))
    if not 200 <= answer.status < 300:
        raise _error(answer.status, document.get("message"))
    return document


def _decoded(text: bytes) -> Object:
    try:
        return msgspec.json.decode(text, type=Object)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(0, "the answer is not a JSON object") from None


def _error(status: Any, message: Any) -> ApiError:
    text = str(message)[:300]
    return GoneError(410, text) if status == 410 else ApiError(status if isinstance(status, int) else 0, text)


async def _lines(answer: Answer) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in answer.chunks(_WATCH_SECONDS):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE:
            raise ApiError(0, f"an event of a watch is larger than {MAX_LINE} bytes")
