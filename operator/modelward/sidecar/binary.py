"""Tensor data as bytes: the binary tensor data extension of the Open Inference Protocol, and of Triton.

The body is a JSON part and, after it, the data of those tensors whose parameter `binary_data_size` says so, in the
order in which they stand there; the header `Inference-Header-Content-Length` tells where the JSON part ends. Data are
little-endian, row-major, without gaps; a BOOL is one byte, 0 or 1; each BYTES element follows its length, four bytes.
Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol/binary-tensor-data-extension
"""

import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, cast

import msgspec
import numpy as np
from msgspec import UnsetType

from modelward.sidecar.problems import Refusal

HEADER = b"inference-header-content-length"
MEDIA = b"application/octet-stream"
SIZE = "binary_data_size"
# Parameters that change where a tensor's data are read from, or written to. Shared memory is refused: whatever a model
# server reads from there, nobody has checked.
RESERVED = frozenset(
    (SIZE, "binary_data", "binary_data_output",
     "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
)  # fmt: skip

_DTYPES = {
    "BOOL": "u1", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DTYPES = {datatype: np.dtype(code) for datatype, code in _DTYPES.items()}
_LENGTH = struct.Struct("<I")
_DIGITS = re.compile(rb"[0-9]{1,10}")
_HEADER_LINE = re.compile(rb"(\A|\r\n)inference-header-content-length: ([^\r]*)(?=\r\n)")


class UnfitError(Exception):
    """Bytes that are no data of their datatype; the message goes after the tensor's name, and has no value in it."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body, and the value of the header that tells how long its JSON part is (None: all of it is JSON)."""

    content: bytes
    json_length: bytes | None = None

    @classmethod
    def of(cls, head: bytes, rest: Sequence[bytes | memoryview]) -> "Body":
        """The JSON part and, if any, the tensors' data after it."""
        return cls(b"".join((head, *rest)), b"%d" % len(head) if rest else None)

    def split(self) -> tuple[bytes, "Trailer | None"]:
        """The JSON part, and what comes after it.

        Raises:
            Refusal: 422, the header is no number, or more than the body has.
        """
        if self.json_length is None:
            return self.content, None
        if not _DIGITS.fullmatch(self.json_length) or int(self.json_length) > len(self.content):
            raise Refusal(
                "schema-violation",
                "The header Inference-Header-Content-Length must be the number of bytes of the JSON part of the body.",
            )
        length = int(self.json_length)
        return self.content[:length], Trailer(memoryview(self.content)[length:])


class Trailer:
    """The bytes after the JSON part; each is taken once, and none may be left."""

    __slots__ = ("_rest",)

    def __init__(self, rest: memoryview) -> None:
        self._rest = rest

    def take(self, size: int) -> memoryview:
        """The next `size` bytes; raises Refusal (422) when there are fewer."""
        if size > len(self._rest):
            raise Refusal(
                "schema-violation", f"The body ends before the tensors' data do: it is shorter than `{SIZE}` says."
            )
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def end(self) -> None:
        """Raise Refusal (422) when bytes are left."""
        if len(self._rest):
            raise Refusal(
                "schema-violation",
                f"The body has {len(self._rest)} bytes more than its tensors: each input sent as bytes has its "
                f"size in the parameter `{SIZE}`.",
            )


def size_of(parameters: Mapping[str, Any] | UnsetType | None, trailer: Trailer | None) -> int | None:
    """How many bytes of `trailer` are this tensor's data; None: its data are in the JSON part.

    Raises:
        Refusal: 422, the size is no whole number, or there is no such trailer.
    """
    if not parameters or SIZE not in parameters:
        return None
    size = parameters[SIZE]
    if type(size) is not int or size < 0:
        raise Refusal("schema-violation", f"The parameter `{SIZE}` must be a number of bytes.")
    if trailer is None:
        raise Refusal(
            "schema-violation",
            f"The parameter `{SIZE}` needs the binary tensor data after the JSON part, and the header "
            "Inference-Header-Content-Length.",
        )
    return size


def refuse_reserved(parameters: Mapping[str, Any] | UnsetType, own: str) -> None:
    """Raise Refusal (422) for a parameter that says where data are and is not `own`, the one that belongs here."""
    for name in RESERVED.intersection(cast("Mapping[str, Any]", parameters)):
        if name != own:
            raise Refusal("schema-violation", f"The parameter `{name}` cannot be used here.")
        if name != SIZE and not isinstance(parameters[name], bool):  # type: ignore[index]
            raise Refusal("schema-violation", f"The parameter `{name}` must be true or false.")


def header_value(rendered: bytes) -> bytes | None:
    """The length of the JSON part in the rendered header lines of an answer; one that comes twice is no number."""
    if HEADER not in rendered:
        return None
    found = _HEADER_LINE.findall(rendered)
    return b",".join(value for _, value in found) if found else None


def with_header_value(rendered: bytes, value: bytes) -> bytes:
    """Header lines that tell the length of the JSON part, telling another."""
    return _HEADER_LINE.sub(rb"\1" + HEADER + b": " + value, rendered)


def numbers(datatype: str, raw: memoryview, count: int) -> np.ndarray:
    """The `count` elements in `raw`, of any datatype but BYTES, not copied. BOOL: as booleans.

    Raises:
        UnfitError: another number of bytes, or a BOOL that is neither 0 nor 1.
    """
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise UnfitError(
            f"its data have {len(raw)} bytes; {count} elements of {datatype} have {count * dtype.itemsize}."
        )
    found = np.frombuffer(raw, dtype)
    if datatype != "BOOL":
        return found
    if found.max() > 1:
        raise UnfitError(f"element [{int(np.argmax(found > 1))}] must be the byte 0 or 1, as the datatype BOOL asks.")
    return found.view(np.bool_)


class Texts:
    """BYTES elements where they lie: nobody pays for a list of them who does not look at one.

    Args:
        raw: each element after its length, four bytes.
        count: how many there are.

    Raises:
        UnfitError: another number of elements, or a length beyond the end.
    """

    __slots__ = ("_data", "_starts", "longest", "plain")

    def __init__(self, raw: memoryview, count: int) -> None:
        self._data = bytes(raw)
        self._starts = _starts(self._data, count)
        starts, end = self._starts, len(self._data)
        printable = (np.frombuffer(self._data, np.uint8) - 32) < 95
        for offset in range(_LENGTH.size):  # the lengths are no text
            printable[starts + offset] = True
        self.plain: bool = bool(printable.all())
        """Whether all of them are printable ASCII."""
        self.longest = int(np.diff(starts, append=end).max()) - _LENGTH.size
        """Bytes of the longest."""

    def __len__(self) -> int:
        return len(self._starts)

    def tolist(self) -> list[str]:
        """The elements as text; raises UnfitError when one is not UTF-8."""
        data, starts = self._data, self._starts.tolist()
        bounds = zip(starts, [*starts[1:], len(data)], strict=True)
        if self.plain:
            chars = data.decode("latin-1")  # a character a byte
            return [chars[start + 4 : end] for start, end in bounds]
        found: list[str] = []
        try:
            found.extend(data[start + 4 : end].decode() for start, end in bounds)
        except UnicodeDecodeError:
            raise UnfitError(f"element [{len(found)}] must be text in UTF-8, as in JSON.") from None
        return found


def _starts(data: bytes, count: int) -> np.ndarray:
    """Where the length of each element stands in `data`, int64 (count,). Raises UnfitError."""
    end = len(data)
    if count * _LENGTH.size > end:
        raise UnfitError(f"its data have {end} bytes, too few for {count} elements of BYTES.")
    short = _starts_of_short(data, count)
    if short is not None:
        return short
    length_at = _LENGTH.unpack_from
    found = array("q")
    at = 0
    try:
        for _ in repeat(None, count):
            found.append(at)
            at += 4 + length_at(data, at)[0]
    except struct.error:
        raise UnfitError(f"its data end before element [{len(found) - 1}] of {count} does.") from None
    if at > end:
        raise UnfitError(f"its data end before element [{count - 1}] of {count} does.")
    if at != end:
        raise UnfitError(f"its data have {end - at} bytes more than the {count} elements that the shape asks for.")
    return np.frombuffer(found, np.int64)


def _starts_of_short(data: bytes, count: int) -> np.ndarray | None:
    """`_starts` where each element is shorter than 256 bytes, as most are; None where one is not, or they do not fit.

    The lowest byte of a length is taken for all of it, which costs a third less. If the walk ends with the data and the
    other bytes of every length that it saw are 0, it has seen the right ones.
    """
    found = array("q")
    append = found.append
    at = 0
    try:
        for _ in repeat(None, count):
            append(at)
            at += 4 + data[at]
    except IndexError:
        return None
    if at != len(data):
        return None
    starts, codes = np.frombuffer(found, np.int64), np.frombuffer(data, np.uint8)
    return None if (codes[starts + 1] | codes[starts + 2] | codes[starts + 3]).any() else starts


def to_bytes(datatype: str, data: Sequence[Any]) -> bytes:
    """The bytes of `data`, which were once read from some.

    Raises:
        UnfitError: a number is not one of the datatype (any longer).
    """
    if datatype == "BYTES":
        pack = _LENGTH.pack
        encoded = [element.encode() for element in data]
        return b"".join([pack(len(element)) + element for element in encoded])
    dtype = np.dtype(np.bool_) if datatype == "BOOL" else DTYPES[datatype]
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(data, dtype)
    except (OverflowError, ValueError, TypeError):
        raise UnfitError(f"a treated element is no {datatype}.") from None
    if dtype.kind == "f" and not np.isfinite(found).all():
        raise UnfitError(f"a treated element is beyond the datatype {datatype}.")
    return found.tobytes()
