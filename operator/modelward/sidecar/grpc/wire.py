"""Protocol buffers on the wire (https://protobuf.dev/programming-guides/encoding/): strict reading, and writing.

A message is described by a table of its fields. What the table does not know is refused, and so is a field that may
come once and comes twice: readers may differ on what such a message says, and what is forwarded is written anew.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types
PACKED = -1  # numbers that come packed, or one by one
_FIXED = {FIXED64: 8, FIXED32: 4}
_MAX_VARINT = 10  # bytes of 64 bits
_MAX_NUMBER = (1 << 29) - 1
_DOUBLE = struct.Struct("<d")


class WireError(Exception):
    """Bytes that are no message of their type; the message says what is wrong, without a value."""


class Field(NamedTuple):
    """A field: its name, its wire type, how its value is read, and how many there may be (0: one)."""

    name: str
    kind: int
    read: Callable[[Any], Any]
    most: int = 0


Table = Mapping[int, Field]


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The varint at `at`, and where the next byte is; raises WireError."""
    try:
        value = data[at]
        if value < 0x80:
            return value, at + 1
        value &= 0x7F
        for index in range(1, _MAX_VARINT):
            octet = data[at + index]
            value |= (octet & 0x7F) << (7 * index)
            if octet < 0x80:
                if value >> 64:
                    break
                return value, at + index + 1
    except IndexError:
        raise WireError("it ends in the middle of a number") from None
    raise WireError("a number has more than 64 bits")


def fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Number, wire type and value of each field: an integer for VARINT, the bytes for the others.

    Raises:
        WireError: the bytes are no message.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if not 0 < number <= _MAX_NUMBER:
            raise WireError("a field's number is out of range")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        if kind == LENGTH:
            size, at = varint(data, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise WireError("groups are not known")
        if size > end - at:
            raise WireError("it ends in the middle of a field")
        yield number, kind, data[at : at + size]
        at += size


def read(what: str, table: Table, data: memoryview) -> dict[str, Any]:
    """The fields of a message by their names; those that may come several times as lists. `what` is for errors.

    Raises:
        WireError: they do not fit the table.
    """
    found: dict[str, Any] = {}
    for number, kind, value in fields(data):
        field = table.get(number)
        if field is None:
            raise WireError(f"{what} has the field {number}, which is not known")
        if kind != field.kind and (field.kind != PACKED or kind not in (LENGTH, VARINT)):
            raise WireError(f"the field {field.name} of {what} has the wrong wire type")
        if field.most:
            values = found.setdefault(field.name, [])
            if len(values) >= field.most:
                raise WireError(f"{what} has more than {field.most} {field.name}")
            values.append(field.read(value))
        elif field.name in found:
            raise WireError(f"the field {field.name} of {what} comes twice")
        else:
            found[field.name] = field.read(value)
    return found


def text(value: memoryview) -> str:
    """A string; raises WireError when it is not UTF-8."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise WireError("a string is not UTF-8") from None


def truth(value: int) -> bool:
    """A bool; raises WireError when it is neither 0 nor 1."""
    if value > 1:
        raise WireError("a bool is neither 0 nor 1")
    return bool(value)


def signed(value: int) -> int:
    """An int64."""
    return value - (1 << 64) if value >> 63 else value


def double(value: memoryview) -> float:
    """A double."""
    number: float = _DOUBLE.unpack(value)[0]
    return number


def as_varint(value: int) -> bytes:
    """`value`, of 64 bits, with a sign or without."""
    value &= (1 << 64) - 1
    if value < 0x80:
        return bytes((value,))
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def put(number: int, value: bytes | memoryview) -> bytes:
    """A field of bytes, a string, a message or packed numbers."""
    return b"".join((as_varint(number << 3 | LENGTH), as_varint(len(value)), value))


def put_text(number: int, value: str) -> bytes:
    """A string; the empty one is not written, as proto3 has it."""
    return put(number, value.encode()) if value else b""


def put_number(number: int, value: int) -> bytes:
    """A number that is always written, as a member of a `oneof` is."""
    return as_varint(number << 3 | VARINT) + as_varint(value)


def put_double(number: int, value: float) -> bytes:
    """A double that is always written."""
    return as_varint(number << 3 | FIXED64) + _DOUBLE.pack(value)
