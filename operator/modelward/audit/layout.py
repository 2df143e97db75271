"""What is counted, and which cell of the counted vector is whose: derived alike by all from the signed configuration.

The vector is made of blocks. Each row adds one to exactly one cell of every block, so every block sums to the number of
rows: whoever opens an aggregate can tell a broken one by that, and one row changes no more cells than there are blocks.
Blocks of what was true are of the rows of which somebody told that, by then or later, and sum to their number.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from modelward.fairness.groups import coder

MAX_CELLS: Final = 4096  # the slots of one ciphertext
MAX_COUNTED: Final = 64
MAX_LAYOUT_BYTES: Final = 128 << 10  # it lies beside the ciphertexts in one ConfigMap
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
_OUTCOMES: Final = ("selected", "not selected")
_TRUTHS: Final = ("selected, rightly", "selected, wrongly", "not selected, wrongly", "not selected, rightly")

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Rule = Annotated[str, Meta(max_length=64)]


class LayoutError(ValueError):
    """What is to be counted cannot be; the message says why."""


class Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """A field (an input, or a column of one) whose values are counted, each in the cell that it belongs to.

    `names`: the cells. Without `edges` they are the values themselves, as they are written; a value that has none is
    counted as `other`. With `edges`, which rise, they are names of intervals: below the first edge, from each edge up
    to the next, from the last edge on. `outcome`: a row is counted by how it was answered as well, favourably or not,
    and by the group that it was of before any treatment. `truth`: by whether that was right as well, once it is told.
    `rule` names what else decides which cell a row is of (which
    answers are favourable, a hierarchy): counts by another are not added to these.
    """

    field: Name
    names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_CELLS)]
    edges: Annotated[tuple[float, ...], Meta(max_length=MAX_CELLS)] = ()
    outcome: bool = False
    rule: Rule = ""
    truth: bool = False

    @property
    def groups(self) -> tuple[str, ...]:
        """The names, with one for what has none."""
        return self.names if OTHER in self.names else (*self.names, OTHER)

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells, in order.

        With `outcome` two of each group, with `truth` four, and one for rows of which it is not known.
        """
        kinds = _TRUTHS if self.truth else _OUTCOMES if self.outcome else ()
        if not kinds:
            return self.groups
        return (*(f"{group}: {kind}" for group in self.groups for kind in kinds), UNKNOWN)

    def finder(self) -> Callable[[Any], int]:
        """What gives the group, by its index, that a value belongs to."""
        find = coder(self.names, self.edges)
        if not self.edges:
            return find
        other = self.groups.index(OTHER)

        def between(value: Any) -> int:
            return other if isinstance(value, str) or not math.isfinite(value) else find(value)

        return between


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Cells of which each row is counted in one. `edges`: where the intervals meet that the cells are of.

    `rule`, `outcome`, `truth`: as of `Counted`; `field`: whose cells they are.
    """

    name: Name
    cells: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_CELLS)]
    edges: Annotated[tuple[float, ...], Meta(max_length=MAX_CELLS)] = ()
    rule: Rule = ""
    field: Annotated[str, Meta(max_length=256)] = ""
    outcome: bool = False
    truth: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError where it cannot be what it says it is."""
        if (self.outcome or self.truth) and len(self.cells) % len(self._kinds) != 1:
            raise ValueError("a group has not as many cells as others")

    @property
    def groups(self) -> tuple[str, ...]:
        """Of a block by outcome or truth the groups; each has its two, or four, cells in one order."""
        return tuple(cell.removesuffix(f": {self._kinds[0]}") for cell in self.cells[: -1 : len(self._kinds)])

    @property
    def _kinds(self) -> tuple[str, ...]:
        return _TRUTHS if self.truth else _OUTCOMES


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
        if one.edges and len(one.names) != len(one.edges) + 1:
            raise LayoutError(f"{one.field}: {len(one.edges)} edges make {len(one.edges) + 1} intervals to be named")
        if len(set(one.names)) != len(one.names):
            raise LayoutError(f"{one.field}: a name comes twice")
        if any(not low < high for low, high in pairwise(one.edges)):
            raise LayoutError(f"{one.field}: edges must rise, each above the one before")
    blocks = tuple(
        Block(
            one.field + (" by truth" if one.truth else " by outcome" if one.outcome else ""),
            one.cells,
            tuple(map(float, one.edges)),
            one.rule,
            one.field,
            one.outcome,
            one.truth,
        )
        for one in counted
    )
    layout = Layout(blocks, tuple(uncounted))
    if layout.size > MAX_CELLS:
        raise LayoutError(f"{layout.size:,} cells are to be counted, and one ciphertext holds {MAX_CELLS:,}")
    if len(layout.encode()) > MAX_LAYOUT_BYTES:
        raise LayoutError(f"the names of all cells are longer than {MAX_LAYOUT_BYTES:,} bytes together")
    return layout


def compared(blocks: Iterable[Counted | Block]) -> str:
    """Names what a verdict on fairness compares: fields, their groups, which answers are favourable. 64 hex digits."""
    parts = [
        [one.field, one.groups, tuple(map(float, one.edges)), one.rule]
        for one in blocks
        if one.outcome and not one.truth
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def read_layout(content: bytes) -> Layout:
    """A layout as `encode` wrote it. Raises LayoutError."""
    try:
        layout = msgspec.json.decode(content, type=Layout)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LayoutError(f"the layout cannot be read: {str(error)[:200]}") from error
    if not 0 < layout.size <= MAX_CELLS:
        raise LayoutError(f"the layout has {layout.size:,} cells, 1 to {MAX_CELLS:,} are possible")
    return layout


def interval_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the intervals between edges, and of those below the first and above the last."""
    bounds = [f"{edge:g}" for edge in edges]
    between = (f"[{low}, {high})" for low, high in pairwise(bounds))
    return (f"below {bounds[0]}", *between, f"{bounds[-1]} and above")
