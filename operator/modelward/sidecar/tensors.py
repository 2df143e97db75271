"""Declared input tensors, compiled: each knows how to read its data strictly and what to say when it does not fit.

Reading is typed from the first byte (msgspec): a boolean is not an integer, `1e999` is not a number, and a bound is
checked where the number is read. What a caller sent never appears in a message, only where it stood.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from modelward.privacy import sanitise
from modelward.privacy.values import TreatmentError
from modelward.sidecar import config
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

    `kept` False: the model does not get it.
    """

    spec: "TensorSpec"
    shape: list[int]
    data: list[Any]
    kept: bool = True


class TensorSpec:
    """A declared input (or, where nothing is declared, just a data type), ready to read data.

    `width` is the number of elements in a row: the product of the axes after the batch axis. `columns` names them, as
    far as they are named: the declared names, the input's own name for a single one, none otherwise.
    """

    __slots__ = ("_bounds", "_flat", "_seen_count", "_seen_shape", "columns", "datatype", "name", "numeric", "shape",
                 "width")  # fmt: skip

    def __init__(self, declared: config.TensorDeclaration) -> None:
        self.name = declared.name
        self.datatype = declared.datatype
        self.shape = declared.shape
        self.numeric = declared.datatype not in ("BOOL", "BYTES")
        element, self._bounds = _element_type(declared)
        self._flat: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[element])  # type: ignore[valid-type]
        inner = declared.shape[1:] if declared.shape[0] == -1 else declared.shape
        self.width = math.prod(inner) if -1 not in inner else -1
        # Columns name the last axis; of a row with several axes they name nothing here.
        named = declared.columns if len(declared.columns) == self.width else []
        self.columns = named or ([self.name] if self.width == 1 else [])
        self._seen_shape: list[int] = []  # the last shape that fitted, and its number of elements
        self._seen_count = 0

    def read(self, raw: bytes | msgspec.Raw, shape: Sequence[int]) -> Tensor:
        """Read `data`, flat or nested, that is said to have `shape`.

        Raises:
            Refusal: 422; names this input and the position of the first element that does not fit.
        """
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
        if self._bounds is not None:
            self._check_bounds(data)
        if self.datatype == "BYTES":
            data = self._sanitised(data)
        return Tensor(self, list(shape), data)

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
        low, high = self._bounds  # type: ignore[misc]
        for index, value in enumerate(data):
            if not low <= value <= high:
                raise self.refuse(f"element [{index}] must be between {low} and {high}.")

    def _sanitised(self, data: list[Any]) -> list[Any]:
        """Text in normal form, without what is not to be seen; it is what the model, and every treatment, gets."""
        try:
            return [sanitise.text(value) for value in data]
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


def _element_type(declared: config.TensorDeclaration) -> tuple[Any, tuple[float, float] | None]:
    """The msgspec type of one element, and bounds still to be checked by hand where msgspec cannot hold them."""
    low = -math.inf if declared.minimum is None else declared.minimum
    high = math.inf if declared.maximum is None else declared.maximum
    if declared.datatype in _INTEGER_BITS:
        bits = _INTEGER_BITS[declared.datatype]
        unsigned = declared.datatype.startswith("U")
        low = max(low, 0 if unsigned else -(1 << (bits - 1)))
        high = min(high, (1 << bits) - 1 if unsigned else (1 << (bits - 1)) - 1)
        whole = (math.ceil(low), math.floor(high))
        if abs(whole[0]) <= _INT64_MAX and abs(whole[1]) <= _INT64_MAX:
            return Annotated[int, Meta(ge=whole[0], le=whole[1])], None
        return int, whole
    if declared.datatype in _FLOAT_MAX:
        largest = _FLOAT_MAX[declared.datatype]
        low, high = max(low, -largest), min(high, largest)
        return Annotated[float, Meta(ge=_if_finite(low), le=_if_finite(high))], None
    return (bool if declared.datatype == "BOOL" else str), None


def _if_finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def quote(name: str) -> str:
    """A name for a message: cut short, in backticks."""
    return f"`{name[:64]}`"
