"""Declared input tensors, compiled: each knows how to read its data strictly and what to say when it does not fit.

Reading is typed from the first byte (msgspec): a boolean is not an integer, `1e999` is not a number, and a bound is
checked where the number is read. Data that come as bytes are held to the same, as arrays. What a caller sent never
appears in a message, only where it stood.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from msgspec import Meta

from modelward.privacy import sanitise
from modelward.privacy.values import TreatmentError
from modelward.sidecar import binary, config
from modelward.sidecar.binary import Texts
from modelward.sidecar.problems import Refusal

MAX_RANK = 8
MAX_ELEMENTS = 1 << 22  # a 4 MiB body cannot hold more numbers than that

_INTEGER_BITS = {"INT8": 8, "INT16": 16, "INT32": 32, "INT64": 64, "UINT8": 8, "UINT16": 16, "UINT32": 32, "UINT64": 64}
_FLOAT_MAX = {"FP16": 65504.0, "FP32": 3.4028234663852886e38, "FP64": math.inf}
_INT64_MAX = (1 << 63) - 1
_WHERE = re.compile(r" - at `\$((?:\[\d+\])+)`$")
_WANTED = re.compile(r"Expected `(\w+)`(?:, got `(\w+)`| (<=|>=) ([^ ]+))")


@dataclass(slots=True)
class Tensor:
    """One input of one request: what was declared, the shape that came, and the data flattened in row-major order.

    `kept` False: the model does not get it. `binary`: it came as bytes, and goes on as bytes.
    """

    spec: "TensorSpec"
    shape: list[int]
    data: list[Any]
    kept: bool = True
    binary: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.data)

    @property
    def rows(self) -> int:
        """How many there are: as the first axis says where its length is not declared, otherwise one."""
        return self.shape[0] if self.spec.shape[0] == -1 else 1

    def numbers(self) -> np.ndarray:
        """The elements as float64, to be read only."""
        return np.array(self.data, dtype=np.float64)

    def every(self, offset: int, stride: int) -> list[Any]:
        """The elements from `offset` on, one in each `stride`, to be read only."""
        return self.data[offset::stride]

    def to_bytes(self) -> bytes | memoryview:
        """The elements as bytes; raises Refusal (422) when a treatment has made one that does not fit."""
        try:
            return binary.to_bytes(self.spec.datatype, self.data)
        except binary.UnfitError as error:
            raise self.spec.refuse(str(error)) from None


class BytesTensor(Tensor):
    """One that came as bytes: they are what counts until the first look at `data`, the list from then on."""

    __slots__ = ("_elements", "_list", "_raw")
    binary = True

    def __init__(
        self, spec: "TensorSpec", shape: list[int], elements: list[str] | Texts | np.ndarray, raw: memoryview
    ) -> None:
        self.spec = spec
        self.shape = shape
        self.kept = True
        self._elements = elements
        self._list: list[Any] = []
        self._raw: memoryview | None = raw

    def __len__(self) -> int:
        return len(self._elements)

    @property
    def data(self) -> list[Any]:  # type: ignore[override] # who changes the list changes the tensor, as with the other
        """The elements, flattened in row-major order."""
        if self._raw is not None:
            self._raw = None
            self._list = self._elements if isinstance(self._elements, list) else self._elements.tolist()
        return self._list

    def numbers(self) -> np.ndarray:
        """The elements as float64, to be read only."""
        return np.asarray(self._elements if self._raw is not None else self._list, dtype=np.float64)

    def every(self, offset: int, stride: int) -> list[Any]:
        """The elements from `offset` on, one in each `stride`, to be read only."""
        elements = self._elements if self._raw is not None else self._list
        if isinstance(elements, np.ndarray):
            chosen: list[Any] = elements[offset::stride].tolist()
            return chosen
        return (elements if isinstance(elements, list) else elements.tolist())[offset::stride]

    def to_bytes(self) -> bytes | memoryview:
        """The bytes that came, if nobody has looked at the list."""
        return self._raw if self._raw is not None else Tensor.to_bytes(self)


class TensorSpec:
    """A declared input (or, where nothing is declared, just a data type), ready to read data.

    `width` is the number of elements in a row: the product of the axes after the batch axis. `columns` names them, as
    far as they are named: the declared names, the input's own name for a single one, none otherwise.
    """

    __slots__ = ("_flat", "_high", "_low", "_seen_count", "_seen_shape", "_unchecked", "columns", "datatype", "name",
                 "numeric", "shape", "width")  # fmt: skip

    def __init__(self, declared: config.TensorDeclaration) -> None:
        self.name = declared.name
        self.datatype = declared.datatype
        self.shape = declared.shape
        self.numeric = declared.datatype not in ("BOOL", "BYTES")
        if math.prod(axis for axis in declared.shape if axis != -1) > MAX_ELEMENTS:
            raise config.ConfigError(
                f"the declared shape of {quote(declared.name)} has more than {MAX_ELEMENTS} elements, "
                "which no request can hold; declare smaller axes, or -1 for any length"
            )
        self._low, self._high = _bounds(declared)
        element, self._unchecked = _element_type(declared.datatype, self._low, self._high)
        self._flat: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[element])  # type: ignore[valid-type]
        inner = declared.shape[1:] if declared.shape[0] == -1 else declared.shape
        self.width = math.prod(inner) if -1 not in inner else -1
        # Columns name the last axis; of a row with several axes they name nothing here.
        named = declared.columns if len(declared.columns) == self.width else []
        self.columns = named or ([self.name] if self.width == 1 else [])
        self._seen_shape: list[int] = []  # the last shape that fitted, and its number of elements
        self._seen_count = 0

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest that an element may be."""
        return self._low, self._high

    def read(self, raw: bytes | msgspec.Raw, shape: Sequence[int]) -> Tensor:
        """Read `data`, flat or nested, that is said to have `shape`.

        Raises:
            Refusal: 422; names this input and the position of the first element that does not fit.
        """
        return Tensor(self, list(shape), self.elements(raw, shape))

    def elements(self, raw: bytes | msgspec.Raw, shape: Sequence[int]) -> list[Any]:
        """The elements alone, flattened in row-major order; raises as `read` does."""
        count = self._check_shape(shape)
        try:
            data = self._flat.decode(raw)
        except msgspec.ValidationError as error:
            if not _is_nested(error):
                raise self._refuse_element(error) from None
            data = self._read_nested(raw, shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal("malformed-json", f"Input {quote(self.name)}: `data` cannot be read.") from None
        if len(data) != count:
            raise self.refuse(f"`data` has {len(data)} elements and the shape {list(shape)} asks for {count}.")
        if self._unchecked:
            self._check_bounds(data)
        if self.datatype == "BYTES":
            data = self._sanitised(data)
        return data

    def read_bytes(self, raw: memoryview, shape: Sequence[int]) -> Tensor:
        """Read the elements from their bytes, said to have `shape`; held to all that `read` holds them to.

        Raises:
            Refusal: 422, as `read` does.
        """
        count = self._check_shape(shape)
        try:
            if self.datatype == "BYTES":
                return self._read_texts(Texts(raw, count), raw, shape)
            array = binary.numbers(self.datatype, raw, count)
        except binary.UnfitError as error:
            raise self.refuse(str(error)) from None
        if self.numeric:
            self._check_range(array)
        return BytesTensor(self, list(shape), array, raw)

    def _read_texts(self, found: Texts, raw: memoryview, shape: Sequence[int]) -> Tensor:
        if found.plain and found.longest <= sanitise.MAX_TEXT:
            return BytesTensor(self, list(shape), found, raw)
        texts = found.tolist()
        sanitised = self._sanitised(texts)
        tensor = BytesTensor(self, list(shape), sanitised, raw)
        if sanitised != texts:
            tensor.data  # noqa: B018 - the list is what counts
        return tensor

    def _check_range(self, array: np.ndarray) -> None:
        """Hold all elements to the bounds by their extremes; NaN makes both of them NaN."""
        if array.dtype.kind == "f":
            wide = array.astype(np.float32) if array.dtype.itemsize == 2 else array  # halves are slow to compare
            low, high = float(wide.min()), float(wide.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise self.refuse(f"element [{int(np.argmin(np.isfinite(array)))}] must be a finite number.")
            array = wide.astype(np.float64, copy=False)  # in which the bounds are given
        else:
            low, high = int(array.min()), int(array.max())
        if low < self._low:
            raise self.refuse(f"element [{int(np.argmax(array < self._low))}] must be at least {self._low}.")
        if high > self._high:
            raise self.refuse(f"element [{int(np.argmax(array > self._high))}] must be at most {self._high}.")

    def _check_shape(self, shape: Sequence[int]) -> int:
        if shape == self._seen_shape:  # callers mostly send one row after the other
            return self._seen_count
        declared = self.shape
        if len(shape) != len(declared) or any(want not in (-1, got) for want, got in zip(declared, shape, strict=True)):
            raise self.refuse(f"the shape must be {declared} (-1 stands for any length), not {list(shape)[:MAX_RANK]}.")
        count = math.prod(shape)
        if min(shape) < 1 or count > MAX_ELEMENTS:
            raise self.refuse(f"each axis must be at least 1 long, with at most {MAX_ELEMENTS} elements in all.")
        self._seen_shape, self._seen_count = list(shape), count
        return count

    def _read_nested(self, raw: bytes | msgspec.Raw, shape: Sequence[int]) -> list[Any]:
        try:
            flat = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal("malformed-json", f"Input {quote(self.name)}: `data` cannot be read.") from None
        for depth, length in enumerate(shape):
            if depth:
                flat = [element for row in flat for element in row]
            below = shape[depth + 1] if depth + 1 < len(shape) else 0
            if any(below and (not isinstance(row, list) or len(row) != below) for row in flat) or (
                depth == 0 and len(flat) != length
            ):
                raise self.refuse(f"`data` is nested otherwise than the shape {list(shape)} says.")
        try:
            return self._flat.decode(msgspec.json.encode(flat))
        except msgspec.ValidationError as error:
            raise self._refuse_element(error) from None

    def _check_bounds(self, data: list[Any]) -> None:
        """Hold whole numbers to bounds beyond 64 signed bits, which msgspec cannot."""
        low, high = self._low, self._high
        for index, value in enumerate(data):
            if not low <= value <= high:
                raise self.refuse(f"element [{index}] must be between {low} and {high}.")

    def _sanitised(self, data: list[Any]) -> list[Any]:
        """Text in normal form, without what is not to be seen; it is what the model, and every treatment, gets."""
        try:
            return sanitise.texts(data)
        except TreatmentError as error:
            raise self.refuse(f"each element {error}.") from None

    def _refuse_element(self, error: msgspec.ValidationError) -> Refusal:
        where, what = _WHERE.search(str(error)), _WANTED.match(str(error))
        place = f"element {where[1]}" if where else "`data`"
        if what is None:
            return self.refuse(f"{place} does not fit the datatype {self.datatype}.")
        wanted, got, relation, bound = what.groups()
        if relation:
            return self.refuse(f"{place} must be {'at most' if relation == '<=' else 'at least'} {bound}.")
        return self.refuse(f"{place} must be {wanted}, as the datatype {self.datatype} asks, not {got}.")

    def refuse(self, detail: str) -> Refusal:
        """A 422 that names this input."""
        return Refusal("schema-violation", f"Input {quote(self.name)}: {detail}")


def _is_nested(error: msgspec.ValidationError) -> bool:
    return str(error).endswith(", got `array` - at `$[0]`")


def _bounds(declared: config.TensorDeclaration) -> tuple[float, float]:
    """The least and the greatest that an element may be: whole numbers where the datatype is of those."""
    low = -math.inf if declared.minimum is None else declared.minimum
    high = math.inf if declared.maximum is None else declared.maximum
    if declared.datatype in _INTEGER_BITS:
        bits = _INTEGER_BITS[declared.datatype]
        unsigned = declared.datatype.startswith("U")
        low = max(low, 0 if unsigned else -(1 << (bits - 1)))
        high = min(high, (1 << bits) - 1 if unsigned else (1 << (bits - 1)) - 1)
        return math.ceil(low), math.floor(high)
    largest = _FLOAT_MAX.get(declared.datatype, math.inf)
    return max(low, -largest), min(high, largest)


def _element_type(datatype: config.Datatype, low: float, high: float) -> tuple[Any, bool]:
    """The msgspec type of one element, and whether its bounds are still to be checked: msgspec cannot hold them all."""
    if datatype in _INTEGER_BITS:
        if abs(low) <= _INT64_MAX and abs(high) <= _INT64_MAX:
            return Annotated[int, Meta(ge=low, le=high)], False
        return int, True
    if datatype in _FLOAT_MAX:
        return Annotated[float, Meta(ge=_if_finite(low), le=_if_finite(high))], False
    return (bool if datatype == "BOOL" else str), False


def _if_finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def quote(name: str) -> str:
    """A name for a message: cut short, in backticks."""
    return f"`{name[:64]}`"
