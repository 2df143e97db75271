"""A model's inputs as rows of numbers, and rows as bodies of its protocol.

A row is a vector: the elements of all inputs one after another. Texts and truth values stand in it as numbers: a
category's place among those known, and 0 or 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from modelward.detect.encoding import Array
from modelward.detect.table import Table, TableError

Protocol = Literal["v1", "v2"]
_BITS = {f"{sign}INT{bits}": (sign, bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
MAX_WIDTH = 1 << 16
_TEXT = "a"  # of an input of text where no category is known


class LayoutError(Exception):
    """The inputs cannot be laid out as rows; the message says why and what would mend it."""


@dataclass(frozen=True)
class Part:
    """One input. `shape`: of a row, without the batch's axis; `batched`: it has one. `texts`: categories by element."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    batched: bool = True
    columns: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    texts: tuple[tuple[str, ...] | None, ...] = ()

    @property
    def width(self) -> int:
        """How many elements a row has."""
        return math.prod(self.shape)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its elements, as data name their columns; empty where nobody has named them."""
        if len(self.columns) == self.width:
            return self.columns
        return (self.name,) if self.width == 1 else ()

    def elements(self, numbers: Array) -> list[Any]:
        """The elements as JSON has them."""
        if self.datatype == "BYTES":
            return [self._text(index, number) for index, number in enumerate(numbers)]
        if self.datatype == "BOOL":
            return [bool(number >= 0.5) for number in numbers]
        if self.datatype in _BITS:
            sign, bits = _BITS[self.datatype]
            low, high = (0, (1 << bits) - 1) if sign else (-(1 << bits - 1), (1 << bits - 1) - 1)
            return [min(max(round(float(number)), low), high) for number in numbers]
        return [float(number) for number in numbers]

    def _text(self, index: int, number: float) -> str:
        known = self.texts[index] if index < len(self.texts) else None
        return known[min(max(round(float(number)), 0), len(known) - 1)] if known else _TEXT


@dataclass(frozen=True)
class Layout:
    """The inputs of a model, in the order in which a row has them."""

    protocol: Protocol
    parts: tuple[Part, ...]
    outputs: tuple[str, ...] = ()

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any], protocol: Protocol) -> Layout:
        """From `spec.schema` of a manifest, or from what the protocol's metadata say of a model.

        Raises:
            LayoutError: there are no inputs, or they have no shape that is known.
        """
        inputs = schema.get("inputs") or ()
        if not inputs:
            raise LayoutError("no inputs are declared")
        outputs = tuple(str(one["name"]) for one in schema.get("outputs") or ())
        return cls(protocol, tuple(_part(one) for one in inputs), outputs)

    @property
    def width(self) -> int:
        """How many elements a row has."""
        return sum(part.width for part in self.parts)

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Height, width and channels, where the one input is an image."""
        part = self.parts[0]
        if len(self.parts) > 1 or len(part.shape) not in (2, 3) or min(part.shape[:2]) < 4:
            return None
        return (part.shape[0], part.shape[1], part.shape[2] if len(part.shape) == 3 else 1)

    def fitted(self, table: Table) -> tuple[Layout, Array]:
        """The table's rows in the order of the inputs, and the layout that knows their categories.

        Raises:
            TableError: a column is missing, or there are too many or too few.
        """
        layout = self._widened(len(table.kinds))
        names = [name for part in layout.parts for name in part.names]
        if table.columns is not None and len(names) == layout.width:
            table = table.select(names)
        elif len(table.kinds) != layout.width:
            raise TableError(f"{len(table.kinds)} columns; a row of the model's has {layout.width}")
        kinds, parts = list(table.kinds), []
        for part in layout.parts:
            own, kinds = kinds[: part.width], kinds[part.width :]
            parts.append(replace(part, texts=tuple(kind.categories for kind in own)))
        return replace(layout, parts=tuple(parts)), table.rows

    def _widened(self, width: int) -> Layout:
        """With the one axis that is open as long as the data have it."""
        part = self.parts[0]
        if len(self.parts) > 1 or list(part.shape).count(-1) != 1:
            return self
        known = abs(math.prod(part.shape))
        shape = tuple(width // known if axis == -1 else axis for axis in part.shape)
        return replace(self, parts=(replace(part, shape=shape),))

    @property
    def ranges(self) -> tuple[Array, Array] | None:
        """The declared bounds of each element; None: one has none."""
        low = [np.full(part.width, math.nan if part.minimum is None else part.minimum) for part in self.parts]
        high = [np.full(part.width, math.nan if part.maximum is None else part.maximum) for part in self.parts]
        bounds = np.concatenate(low), np.concatenate(high)
        return bounds if all(np.isfinite(one).all() for one in bounds) else None

    def middle(self) -> Array:
        """A row in the middle of what is declared; where nothing is, ones."""
        parts = []
        for part in self.parts:
            low, high = part.minimum, part.maximum
            number = 1.0 if low is None and high is None else (low if high is None else high if low is None else
                                                               (low + high) / 2)  # fmt: skip
            parts.append(np.full(part.width, number))
        return np.concatenate(parts)

    def document(self, row: Array) -> dict[str, Any]:
        """The body of a request for one row, before it is JSON: attacks change it."""
        parts = np.split(row, np.cumsum([part.width for part in self.parts])[:-1])
        if self.protocol == "v1":
            nested = {
                part.name: np.array(part.elements(numbers), dtype=object).reshape(part.shape).tolist()
                for part, numbers in zip(self.parts, parts, strict=True)
            }
            return {"instances": [nested if len(nested) > 1 else next(iter(nested.values()))]}
        inputs = [
            {
                "name": part.name,
                "datatype": part.datatype,
                "shape": [*([1] if part.batched else []), *part.shape],
                "data": part.elements(numbers),
            }
            for part, numbers in zip(self.parts, parts, strict=True)
        ]
        wanted = {"outputs": [{"name": name} for name in self.outputs]} if self.outputs else {}
        return {"inputs": inputs} | wanted

    def body(self, row: Array) -> bytes:
        """The body of a request for one row."""
        return json.dumps(self.document(row)).encode()


def _part(declared: Mapping[str, Any]) -> Part:
    shape: Sequence[int] = [int(axis) for axis in declared.get("shape") or ()]
    name = str(declared.get("name", ""))
    if not name or not shape:
        raise LayoutError("an input has no name or no shape")
    if not 0 < abs(math.prod(axis or 1 for axis in shape)) <= MAX_WIDTH or min(shape) < -1:
        raise LayoutError(f"the input {name!r} has more than {MAX_WIDTH:,} elements a row, or an axis that cannot be")
    batched = shape[0] in (-1, 0, 1) or len(shape) > 1
    inner = tuple(shape[1:]) if batched else tuple(shape)
    if 0 in inner:
        raise LayoutError(f"the input {name!r} has an axis without elements")
    if list(inner).count(-1) > 1:
        raise LayoutError(f"the input {name!r} has more than one open axis: give its shape in the manifest")
    return Part(
        name,
        str(declared.get("datatype", "FP64")),
        inner,
        batched,
        tuple(declared.get("columns") or ()),
        declared.get("minimum"),
        declared.get("maximum"),
    )
