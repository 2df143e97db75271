"""Messages of gRPC in the bodies of HTTP/2: five bytes before each, four of them its length. One message a call."""

import struct
from collections.abc import Sequence

_PREFIX = struct.Struct(">BI")
PREFIX_BYTES = _PREFIX.size


class FramingError(Exception):
    """A body that is not one whole message."""


class CompressedError(FramingError):
    """A message that is compressed, which nobody has agreed on."""


def framed(message: bytes) -> bytes:
    """`message` as a body."""
    return _PREFIX.pack(0, len(message)) + message


def message(parts: Sequence[bytes]) -> bytes:
    """The one message in a body.

    Raises:
        FramingError: there is none, more than one, or it is compressed.
    """
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(body) < PREFIX_BYTES:
        raise FramingError
    compressed, length = _PREFIX.unpack_from(body)
    if compressed == 1:
        raise CompressedError
    if compressed or length != len(body) - PREFIX_BYTES:
        raise FramingError
    return body[PREFIX_BYTES:]
