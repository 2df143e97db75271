"""The API server, as the admission server needs it: list, watch, and write Events. Nothing else is allowed to it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

MAX_LINE = 8 * 1024 * 1024
"""Bytes of one event of a watch; objects have 1.5 MiB at most, and JSON escapes at most five-fold."""

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
# A bookmark comes every minute: silence for longer means a connection that is dead and does not know it.
_WATCH_TIMEOUT = httpx.Timeout(10.0, connect=5.0, read=100.0)
_PAGE = 500
_MERGE = "application/merge-patch+json"

Object = dict[str, Any]
Query = Mapping[str, str]


class ApiError(Exception):
    """The API server said no, or something that is no answer (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}" if status else message)
        self.status = status


class GoneError(ApiError):
    """The version asked for is too old (410): list again."""


class _Bearer(httpx.Auth):
    """A service account's token, read anew for each request: the kubelet replaces it every hour."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._file.read_text().strip()}"
        yield request


class Client:
    """A connection to the API server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def list(self, path: str, query: Query, accept: str) -> tuple[list[Object], str]:
        """Return all objects of a collection, and the version at which to begin watching.

        Raises:
            ApiError: the API server refused; `GoneError` when the list changed too much while it was read.
            httpx.HTTPError: it did not answer.
        """
        items: list[Object] = []
        pages = {**query, "limit": str(_PAGE)}
        while True:
            page = _json(await self._http.get(path, params=pages, headers={"Accept": accept}))
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, str(metadata["resourceVersion"])
            pages["continue"] = metadata["continue"]

    async def watch(self, path: str, query: Query, accept: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object) of each change until the API server ends the watch.

        Raises:
            ApiError: as for `list`.
            httpx.HTTPError: the connection broke.
        """
        request = self._http.build_request(
            "GET", path, params={**query, "watch": "1"}, headers={"Accept": accept}, timeout=_WATCH_TIMEOUT
        )
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code != 200:
                await response.aread()
                _json(response)
            yield "OPEN", {}
            async for line in _lines(response):
                event = _decoded(line)
                kind, item = event.get("type"), event.get("object")
                if not isinstance(kind, str) or not isinstance(item, dict):
                    raise ApiError(0, "an event of a watch has no type or no object")
                if kind == "ERROR":
                    raise _error(item.get("code"), item.get("message"))
                yield kind, item
        finally:
            await response.aclose()

    async def create(self, path: str, item: Object) -> None:
        """Make an object.

        Raises:
            ApiError: refused; status 409 where it exists.
            httpx.HTTPError: no answer.
        """
        _json(await self._http.post(path, content=msgspec.json.encode(item), headers=_JSON))

    async def merge(self, path: str, patch: Object) -> Object:
        """Change an object by a JSON merge patch (RFC 7386), and return it as it is then.

        Raises:
            ApiError: refused.
            httpx.HTTPError: no answer.
        """
        headers = {"Content-Type": _MERGE}
        return _json(await self._http.patch(path, content=msgspec.json.encode(patch), headers=headers))


_JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def connected(url: str, ca: Path, token: Path) -> AsyncIterator[Client]:
    """Connect to the API server.

    Args:
        url: of the API server.
        ca: file with its certificate authorities.
        token: file with the service account's token.
    """
    async with httpx.AsyncClient(
        base_url=url,
        verify=ssl.create_default_context(cafile=str(ca)),
        auth=_Bearer(token),
        timeout=_TIMEOUT,
        trust_env=False,  # the API server is never behind a proxy
        headers={"Accept": "application/json", "User-Agent": "modelward-admission"},
    ) as http:
        yield Client(http)


def _json(response: httpx.Response) -> Object:
    document = _decoded(response.content)
    if not response.is_success:
        raise _error(response.status_code, document.get("message"))
    return document


def _decoded(text: bytes) -> Object:
    try:
        return msgspec.json.decode(text, type=Object)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ApiError(0, "the answer is not a JSON object") from None


def _error(status: Any, message: Any) -> ApiError:
    text = str(message)[:300]
    return GoneError(410, text) if status == 410 else ApiError(status if isinstance(status, int) else 0, text)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE:
            raise ApiError(0, f"an event of a watch is larger than {MAX_LINE} bytes")
