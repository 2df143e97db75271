"""What frames of HTTP/2 come in, looked at before h2 sees them.

h2 holds a frame until it is whole, and asks only then whether it may be so large: a client whom nobody knows yet could
have 16 MiB held on each connection, and a MiB more of header blocks without an end. And of some frames it tells
nothing, so that nobody can count them.
"""

_HEAD = 9  # bytes before the payload
_DATA, _HEADERS, _CONTINUATION = 0, 1, 9
_END_STREAM, _PADDED = 1, 8
SMALL = 1024  # a piece of a body that is not its last should have more bytes: each costs as much as a large one
MAX_FRAME_BYTES = 16 << 10  # as the standard has it, unless more is agreed on


class FramesError(Exception):
    """A frame, or a block of headers, that is larger than was agreed on."""


class Meter:
    """Follows the frames of one direction of a connection. `preface`: bytes before the first frame.

    `data` counts the frames of bodies that have begun.
    """

    __slots__ = ("_block", "_head", "_left", "_max_block", "data")

    def __init__(self, preface: int, max_block: int) -> None:
        self._left = preface
        self._head = b""
        self._block = 0
        self._max_block = max_block
        self.data = 0

    def idle(self, data: bytes) -> int:
        """How many frames begin in `data`, the next bytes, that ask for nothing: neither headers nor a piece of a body
        worth its frame. A padded one is none: what is small looks large.

        Raises:
            FramesError: one is too large.
        """
        count = at = 0
        end = len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            rest = data[at : at + _HEAD - len(self._head)]
            at += len(rest)
            head = self._head + rest
            if len(head) < _HEAD:
                self._head = head
                break
            self._head = b""
            self._left = size = head[0] << 16 | head[1] << 8 | head[2]
            kind = head[3]
            if kind in (_HEADERS, _CONTINUATION):
                self._block = size if kind == _HEADERS else self._block + size
            if size > MAX_FRAME_BYTES or self._block > self._max_block:
                raise FramesError
            if kind == _DATA:
                self.data += 1
                count += (size < SMALL and not head[4] & _END_STREAM) or head[4] & _PADDED != 0
            else:
                count += kind != _HEADERS
        return count
