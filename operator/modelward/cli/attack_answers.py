"""Reads answers of HTTP/1 from a socket, whatever is at its other end: bounded in bytes, lines and time."""

from __future__ import annotations

import re
import socket
import time

from modelward.attack.exchange import Reply

MAX_BODY = 1 << 20
_MAX_LINE = 64 << 10
_MAX_HEADERS = 128
_MAX_INTERIM = 8
_MAX_CHUNKS = 8192  # each costs as much as a line, however little there is in it
_PIECE = 64 << 10
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |\r|\n|$)")
_SIZE = re.compile(r"[0-9]{1,15}")
_CHUNK = re.compile(rb"[0-9A-Fa-f]{1,12}")


class Incoming:
    """What comes on a socket, within so many seconds in all, however slowly; after what has come before."""

    def __init__(self, source: socket.socket, seconds: float, before: bytes = b"") -> None:
        self._source = source
        self._until = time.monotonic() + seconds
        self.rest = before

    def line(self) -> bytes:
        """A line with its end, or what there is of it.

        Raises:
            OSError: nothing came in time, or it broke off.
            ValueError: it is too long.
        """
        self._left()  # also where all has come: lines without end are time as well
        while b"\n" not in self.rest:
            if len(self.rest) > _MAX_LINE:
                raise ValueError("a line is too long")
            if not self._more():
                line, self.rest = self.rest, b""
                return line
        line, _, self.rest = self.rest.partition(b"\n")
        return line + b"\n"

    def take(self, size: int) -> bytes:
        """So many bytes, or as many as come."""
        while len(self.rest) < size and self._more():
            pass
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _more(self) -> bool:
        self._source.settimeout(self._left())
        piece = self._source.recv(_PIECE)
        self.rest += piece
        return bool(piece)


def read(incoming: Incoming, method: str) -> Reply:
    """One answer (RFC 9112), interim ones left out, at most MAX_BODY of its body.

    Its `trouble` is `closed` where the connection cannot be used any more.

    Raises:
        ValueError: what came is none.
        OSError: nothing came, or it broke off.
    """
    for _ in range(_MAX_INTERIM):
        status, headers = _head(incoming)
        if status >= 200 or status == 101:
            break
    else:
        raise ValueError("too many interim answers")
    if method == "HEAD" or status in (204, 304):
        return Reply(status, headers)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, whole = _chunks(incoming)
    elif "content-length" in headers:
        if not _SIZE.fullmatch(headers["content-length"]):
            raise ValueError("no length")
        size = int(headers["content-length"])
        body = incoming.take(min(size, MAX_BODY))
        whole = len(body) == size
    else:
        body, whole = incoming.take(MAX_BODY), False
    return Reply(status, headers, body, "" if whole else "closed")


def _head(incoming: Incoming) -> tuple[int, dict[str, str]]:
    first = incoming.line()
    if not first:
        raise ConnectionResetError
    found = _STATUS.match(first)
    if found is None:
        raise ValueError("not an answer of HTTP/1")
    headers: dict[str, str] = {}
    for _ in range(_MAX_HEADERS):
        line = incoming.line().strip()
        if not line:
            return int(found[1]), headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    raise ValueError("too many headers")


def _chunks(incoming: Incoming) -> tuple[bytes, bool]:
    body = b""
    for _ in range(_MAX_CHUNKS):
        if len(body) >= MAX_BODY:
            break
        size = incoming.line().partition(b";")[0].strip()
        if not _CHUNK.fullmatch(size):
            raise ValueError("no size of a chunk")
        if int(size, 16) == 0:
            for _ in range(_MAX_HEADERS):
                if not incoming.line().strip():
                    return body, True
            return body, False
        wanted = min(int(size, 16), MAX_BODY - len(body))
        piece = incoming.take(wanted)
        body += piece
        if len(piece) < int(size, 16):
            return body, False
        incoming.line()
    return body, False
