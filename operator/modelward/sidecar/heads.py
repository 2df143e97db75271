"""Heads of messages that came before, byte for byte, and what they were found to say.

A client says the same again and again on its connections, and so does a model server: only bodies differ. Reading a
head anew takes ten times as long as comparing it with one that was read before, and what the same bytes say is the
same. (HTTP/2 and 3 do not even send it again: HPACK, RFC 7541.) Whether the caller still may is asked each time.

There may be tokens in a head: it is forgotten within seconds, so nothing stays in memory that is not in use.
"""

from typing import Generic, NamedTuple, TypeVar

_MAX_HEADS = 256
_MAX_BYTES = 4096
_MAX_ONCE = 4096
_SECONDS = 10.0
_END = b"\r\n\r\n"

T = TypeVar("T")


class Known(NamedTuple, Generic[T]):
    """What a head says, where it ends, and how long its message is as a whole."""

    says: T
    end: int
    size: int


class Heads(Generic[T]):
    """Remembers the heads of messages whose length is told (Content-Length), once they come a second time.

    Who traces sends a new `traceparent` with each request: heads that never come again take no room from those that do.
    Nothing is pushed out to make any.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Known[T]] = {}
        self._once: set[int] = set()  # hashes of heads that came once
        self._forget_at = 0.0

    def find(self, data: bytes) -> Known[T] | None:
        """What is known of the head of `data`, if `data` is one whole message with such a head."""
        known = self._known.get(data[: data.find(_END) + 4])
        return known if known is not None and known.size == len(data) else None

    def remember(self, data: bytes, body: int, says: T) -> None:
        """`data`, one whole message with `body` bytes after the head, has a head that says this."""
        end = len(data) - body
        if end > _MAX_BYTES or data.find(_END) + 4 != end or len(self._known) >= _MAX_HEADS:
            return
        head = data[:end]
        came = hash(head)
        if came in self._once:
            self._known[head] = Known(says, end, len(data))
            return
        if len(self._once) >= _MAX_ONCE:
            self._once.clear()
        self._once.add(came)

    def forget(self) -> None:
        """Know nothing any more."""
        self._known.clear()
        self._once.clear()

    def sweep(self, now: float) -> None:
        """Forget what has been known for a while; to be called about once a second with a monotonic clock."""
        if now >= self._forget_at:
            self._forget_at = now + _SECONDS
            self.forget()
