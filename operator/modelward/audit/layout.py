"""What is counted, and which cell of the counted vector is whose: derived alike by all from the signed configuration.

The vector is made of blocks. Each row adds one to exactly one cell of every block, so every block sums to the number of
rows: whoever opens an aggregate can tell a broken one by that, and one row changes no more cells than there are blocks.
"""

import bisect
import hashlib
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

MAX_CELLS: Final = 4096  # the slots of one ciphertext
MAX_COUNTED: Final = 64
OTHER: Final = "other"
_OUTCOMES: Final = ("selected", "not selected")

Name = Annotated[str, Meta(min_length=1, max_length=256)]


class LayoutError(ValueError):
    """What is to be counted cannot be; the message says why."""


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A field (an input, or a column of one) whose values are counted, each in the cell that it belongs to.

    `values`: a cell for each text or number that is named. `edges`: rising; a cell for each interval [low, high)
    between them, one for what is below, and one for what is above. One of the two. What fits none is `other`.
    `outcome`: counted once with and once without a favourable answer, each in a cell of its own.
    """

    field: Name
    values: Annotated[tuple[Name, ...], Meta(max_length=MAX_CELLS)] = ()
    edges: Annotated[tuple[float, ...], Meta(max_length=MAX_CELLS)] = ()
    outcome: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The cells, in order."""
        if not self.outcome:
            return self._groups
        return tuple(f"{group}, {outcome}" for group in self._groups for outcome in _OUTCOMES)

    @property
    def _groups(self) -> tuple[str, ...]:
        if not self.edges:
            return (*self.values, OTHER)
        bounds = [f"{edge:g}" for edge in self.edges]
        between = [f"[{low}, {high})" for low, high in pairwise(bounds)]
        return (f"below {bounds[0]}", *between, f"{bounds[-1]} and above", OTHER)

    def finder(self) -> Callable[[Any], int]:
        """What gives the group, by its index, that a value belongs to; with `outcome` a group has two cells."""
        other = len(self._groups) - 1
        if self.edges:
            edges = self.edges

            def between(value: Any) -> int:
                if isinstance(value, str) or not math.isfinite(value):
                    return other
                return bisect.bisect_right(edges, value)

            return between
        places = {value: index for index, value in enumerate(self.values)}

        def named(value: Any) -> int:
            return places.get(value if isinstance(value, str) else _text(value), other)

        return named


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cells of which each row is counted in one."""

    name: Name
    cells: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_CELLS)]


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The blocks of a vector, one after the other. `uncounted`: fields that were asked for and have no known values."""

    blocks: Annotated[tuple[Block, ...], Meta(max_length=MAX_COUNTED)]
    uncounted: Annotated[tuple[Name, ...], Meta(max_length=1024)] = ()

    @property
    def size(self) -> int:
        """Cells in all."""
        return sum(len(block.cells) for block in self.blocks)

    def encode(self) -> bytes:
        """As it lies in an aggregate."""
        return msgspec.json.encode(self)

    def digest(self) -> str:
        """Names the layout: 64 hex digits."""
        return hashlib.sha256(self.encode()).hexdigest()


def layout_of(counted: Sequence[Counted], uncounted: Sequence[str] = ()) -> Layout:
    """The layout that follows from what is counted.

    Raises:
        LayoutError: there is nothing to count, edges do not rise, or there are more cells than a ciphertext has slots.
    """
    if not counted:
        raise LayoutError("there is nothing to count")
    if len(counted) > MAX_COUNTED:
        raise LayoutError(f"{len(counted)} fields are to be counted, and at most {MAX_COUNTED} can be")
    for one in counted:
        if bool(one.values) == bool(one.edges):
            raise LayoutError(f"{one.field}: either values or edges tell its cells")
        if any(not low < high for low, high in pairwise(one.edges)):
            raise LayoutError(f"{one.field}: edges must rise, each above the one before")
    blocks = tuple(Block(one.field + (" by outcome" if one.outcome else ""), one.names) for one in counted)
    layout = Layout(blocks, tuple(uncounted))
    if layout.size > MAX_CELLS:
        raise LayoutError(f"{layout.size:,} cells are to be counted, and one ciphertext holds {MAX_CELLS:,}")
    return layout


def read_layout(content: bytes) -> Layout:
    """A layout as `encode` wrote it. Raises LayoutError."""
    try:
        layout = msgspec.json.decode(content, type=Layout)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutError(f"the layout cannot be read: {str(error)[:200]}") from error
    if not 0 < layout.size <= MAX_CELLS:
        raise LayoutError(f"the layout has {layout.size:,} cells, 1 to {MAX_CELLS:,} are possible")
    return layout


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}"
