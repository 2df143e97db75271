"""Tensor data of gRPC messages: `InferTensorContents`, and the bytes that `raw_input_contents` would have for them.

Everything becomes raw bytes first (little-endian, row-major, as the binary tensor data extension has it too), which the
schema reads and holds to what is declared. Numbers are converted as arrays, never one by one.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelward.sidecar import binary
from modelward.sidecar.grpc import wire
from modelward.sidecar.grpc.wire import FIXED32, FIXED64, LENGTH, VARINT, WireError

# The field of `InferTensorContents` that holds a datatype's data. FP16 has none: it goes as raw bytes alone.
FIELDS = {
    "BOOL": 1, "INT8": 2, "INT16": 2, "INT32": 2, "INT64": 3, "UINT8": 4, "UINT16": 4, "UINT32": 4, "UINT64": 5,
    "FP32": 6, "FP64": 7, "BYTES": 8,
}  # fmt: skip
_BOOL, _FP32, _FP64, _BYTES = 1, 6, 7, 8
_SIGNED = (2, 3)
_UNPACKED = {1: VARINT, 2: VARINT, 3: VARINT, 4: VARINT, 5: VARINT, _FP32: FIXED32, _FP64: FIXED64}
_MAX_PIECES = 4096  # writers of proto3 pack numbers: into one piece
MAX_TEXTS = 1 << 18  # of a message: each is a field of its own, of two bytes at the least, and millions would fit
_LENGTH = struct.Struct("<I")


class Contents(NamedTuple):
    """The number of the field, and its pieces: packed numbers; or `texts` elements of BYTES in one, as raw bytes."""

    number: int
    pieces: Sequence[bytes | memoryview]
    texts: int = 0


def read(data: memoryview, most_texts: int = MAX_TEXTS) -> Contents | None:
    """The contents in a message `InferTensorContents`; None when it is empty.

    Raises:
        WireError: it is no such message, data of several types are in it, or more elements of BYTES than `most_texts`.
    """
    found = texts = 0
    pieces: list[bytes | memoryview] = []
    raw = bytearray()  # an object for each text would be a hundred times what was sent
    for number, kind, value in wire.fields(data):
        if found not in (0, number):
            raise WireError("a tensor's contents are of several types")
        found = number
        if number == _BYTES and kind == LENGTH:
            texts += 1
            if texts > most_texts:
                raise WireError(f"it has more than {MAX_TEXTS} elements of BYTES in typed contents; send them raw")
            raw += _LENGTH.pack(len(value))
            raw += value
            continue
        if number not in _UNPACKED or kind not in (LENGTH, _UNPACKED[number]):
            raise WireError("a tensor's contents have a field that is not known")
        if len(pieces) >= _MAX_PIECES:
            raise WireError(f"a tensor's contents come in more than {_MAX_PIECES} pieces; send the numbers packed")
        pieces.append(wire.as_varint(value) if kind == VARINT else value)
    if found == _BYTES:
        return Contents(found, [bytes(raw)], texts)
    return Contents(found, pieces) if found else None


def to_raw(datatype: str, contents: Contents) -> bytes | memoryview:
    """The contents as raw bytes.

    Raises:
        WireError: they are of another datatype's field, or a number is none of the datatype.
    """
    number, pieces, _ = contents
    if FIELDS.get(datatype) != number:
        raise WireError("a tensor's data are not in the field of its contents that belongs to its datatype")
    if number == _BYTES:
        return pieces[0]
    packed = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if number in (_FP32, _FP64):
        return packed
    if number == _BOOL:  # a byte, here and there
        if packed and np.frombuffer(packed, np.uint8).max() > 1:
            raise WireError("a bool is neither 0 nor 1")
        return packed
    values = _numbers(packed)
    dtype = binary.DTYPES[datatype]
    if values.dtype == np.uint64:
        values = values.view(np.int64) if number in _SIGNED else values
        info = np.iinfo(dtype)
        if values.min() < info.min or values.max() > info.max:
            raise WireError(f"a number is beyond the datatype {datatype}")
    return values.astype(dtype).tobytes()


def from_raw(datatype: str, raw: bytes | memoryview) -> bytes:
    """The message `InferTensorContents` with the data in `raw`, which are well-formed."""
    number = FIELDS[datatype]
    if number == _BYTES:
        return b"".join([wire.put(number, element) for element in _elements(raw)])
    if number in (_FP32, _FP64, _BOOL):
        return wire.put(number, raw)
    values = np.frombuffer(raw, binary.DTYPES[datatype])
    wide = values.astype(np.int64).view(np.uint64) if number in _SIGNED else values.astype(np.uint64)
    return wire.put(number, _packed(wide))


def _elements(raw: bytes | memoryview) -> list[memoryview]:
    view = memoryview(raw)
    elements = []
    at = 0
    while at < len(view):
        start = at + _LENGTH.size
        at = start + _LENGTH.unpack_from(view, at)[0]
        elements.append(view[start:at])
    return elements


def _numbers(packed: bytes | memoryview) -> np.ndarray:
    """The varints in `packed`, as uint64; as uint8 where all of them are small."""
    octets = np.frombuffer(packed, np.uint8)
    if not len(octets) or octets.max() < 0x80:
        return octets
    ends = np.flatnonzero(octets < 0x80)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise WireError("a tensor's contents end in the middle of a number")
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > 10 or (longest == 10 and octets[ends[lengths == 10]].max() > 1):
        raise WireError("a number has more than 64 bits")
    values = (octets[starts] & 0x7F).astype(np.uint64)
    for index in range(1, longest):
        longer = np.flatnonzero(lengths > index)
        values[longer] |= (octets[starts[longer] + index] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
    return values


def _packed(values: np.ndarray) -> bytes:
    """The varints of `values`, which are uint64."""
    if not len(values) or values.max() < 0x80:
        return values.astype(np.uint8).tobytes()
    lengths = np.ones(len(values), np.int64)
    for index in range(1, 10):
        lengths += values >= np.uint64(1 << 7 * index)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    octets = np.zeros(int(ends[-1]), np.uint8)
    for index in range(int(lengths.max())):
        longer = np.flatnonzero(lengths > index)
        low = (values[longer] >> np.uint64(7 * index)).astype(np.uint8) & 0x7F
        octets[starts[longer] + index] = low | ((lengths[longer] > index + 1).astype(np.uint8) << 7)
    return octets.tobytes()
