"""One document over HTTPS: bounded in size and time, from the address asked for and no other.

A redirect is not followed. It would let whoever answers choose where this pod connects to, which is what the
installation's list of addresses is there to decide.
"""

import asyncio
import os
import re
import socket
import ssl
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools

MAX_BYTES = 256 << 10  # header and body together
SECONDS = 5.0
_MAX_AGE = re.compile(rb"(?:^|[,\s])max-age=\"?(\d{1,9})", re.IGNORECASE)
_FRAMING = (b"content-length", b"transfer-encoding")


class FetchError(Exception):
    """The document cannot be had; the message says why, in words of ours alone."""


class Fetched(NamedTuple):
    """A document, and for how many seconds its server says that it holds (None: it does not say)."""

    body: bytes
    max_age: int | None


async def fetch(url: str, context: ssl.SSLContext, seconds: float = SECONDS) -> Fetched:
    """The document at `url`, which is https and has been found plain by `allowlist.problem`.

    Raises:
        FetchError: no connection, no trust, no answer in time, or none that can be used.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _fetch(url, context)
    except TimeoutError:
        raise FetchError(f"no answer within {seconds:g} seconds") from None
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"its certificate does not verify: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise FetchError(f"TLS fails: {error.reason}") from None
    except socket.gaierror:
        raise FetchError("its host name does not resolve") from None
    except OSError as error:
        raise FetchError(os.strerror(error.errno) if error.errno else "the connection fails") from None
    except httptools.HttpParserError:
        raise FetchError("its answer is not HTTP") from None


async def _fetch(url: str, context: ssl.SSLContext) -> Fetched:
    parts = urlsplit(url)
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(host, parts.port or 443, ssl=context, server_hostname=host)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {target} HTTP/1.1\r\nhost: {parts.netloc}\r\naccept: application/json\r\n"
            "accept-encoding: identity\r\nconnection: close\r\nuser-agent: modelward-sidecar\r\n\r\n".encode()
        )
        answer = _Answer()
        received = 0
        while not answer.complete:
            data = await reader.read(1 << 16)
            if not data:
                break
            received += len(data)
            if received > MAX_BYTES:
                raise FetchError(f"its answer has more than {MAX_BYTES} bytes")
            answer.feed(data)
        return answer.document()
    finally:
        writer.transport.abort()


class _Answer:
    """An answer as it arrives."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._header: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._status = 0
        self.complete = False

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # --- httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.complete = self._status >= 200
        if not self.complete:  # an interim answer: the real one follows
            self._header.clear()

    # ---

    def document(self) -> Fetched:
        """What came, judged.

        Raises:
            FetchError: it cannot be used.
        """
        if not self._status or (not self.complete and any(name in self._header for name in _FRAMING)):
            raise FetchError("its answer broke off")
        if 300 <= self._status < 400:
            raise FetchError(f"it redirects (status {self._status}), which is not followed: give the final address")
        if self._status != 200:
            raise FetchError(f"it answers with status {self._status}")
        if self._header.get(b"content-encoding", b"identity").lower() != b"identity":
            raise FetchError("its answer is compressed, which was not asked for")
        cache = self._header.get(b"cache-control", b"")
        found = _MAX_AGE.search(cache)
        return Fetched(b"".join(self._body), int(found[1]) if found else None)
