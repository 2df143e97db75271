"""Heads of messages that came before, byte for byte, and what they were found to say.

A client says the same again and again on its connections, and so does a model server: only bodies differ. Reading a
head anew takes ten times as long as comparing it with one that was read before, and what the same bytes say is the
same. (HTTP/2 and 3 do not even send it again: HPACK, RFC 7541.) Whether the caller still may is asked each time.

There may be tokens in a head: it is forgotten within seconds, so nothing stays in memory that is not in use.
"""

from typing import Generic, NamedTuple, TypeVar

_MAX_HEADS = 256
_MAX_BYTES = 4096
_SECONDS = 10.0
_END = b"\r\n\r\n"

T = TypeVar("T")


class Known(NamedTuple, Generic[T]):
    """What a head says, where it ends, and how long its message is as a whole."""

    says: T
    end: int
    size: int


class Heads(Generic[T]):
    """Remembers the heads of messages whose length is told (Content-Length). Nothing is pushed out to make room."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known[T]] = {}
        self._forget_at = 0.0

    def find(self, data: bytes) -> Known[T] | None:
        """What is known of the head of `data`, if `data` is one whole message with such a head."""
        known = self._known.get(data[: data.find(_END) + 4])
        return known if known is not None and known.size == len(data) else None

    def remember(self, data: bytes, body: int, says: T) -> None:
        """`data`, one whole message with `body` bytes after the head, has a head that says this."""
        end = len(data) - body
        if end <= _MAX_BYTES and data.find(_END) + 4 == end and len(self._known) < _MAX_HEADS:
            self._known[data[:end]] = Known(says, end, len(data))

    def forget(self) -> None:
        """Know nothing any more."""
        self._known.clear()

    def sweep(self, now: float) -> None:
        """Forget what has been known for a while; to be called about once a second with a monotonic clock."""
        if now >= self._forget_at:
            self._forget_at = now + _SECONDS
            self.forget()
