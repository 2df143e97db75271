"""Reads tables from the bytes of a file: csv with or without a header, npz with `X`, parquet, recorded traffic.

A column holds numbers, or texts of a few kinds: categories, which become their places in the sorted list of them.
"""

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from modelward.detect import traffic
from modelward.detect.archive import ArchiveError, read_arrays
from modelward.detect.encoding import UNSEEN, Array, Column

MAX_VALUES = 100_000_000
MAX_CATEGORIES = 64
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


class TableError(Exception):
    """A file that cannot be read as a table; the message says what and where, and what would mend it."""


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` (n, d), encoded, NaN where a value is missing. `kinds` (d): what each column holds.

    `named`: the columns' names are the file's; otherwise they are made up.
    """

    kinds: tuple[Column, ...]
    rows: Array
    named: bool

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns' names; None: the file gives none."""
        return tuple(kind.name for kind in self.kinds) if self.named else None

    def select(self, names: Sequence[str]) -> "Table":
        """The columns of these names, in their order.

        Raises:
            TableError: one is not there.
        """
        known = [kind.name for kind in self.kinds]
        chosen = _chosen(known, names, ())
        return Table(tuple(self.kinds[index] for index in chosen), self.rows[:, chosen], named=True)


def read(
    content: bytes,
    suffix: str,
    wanted: Sequence[str] = (),
    assumed: Sequence[str] = (),
    without: Collection[str] = (),
    known: Sequence[Column] | None = None,
    *,
    texts: bool = False,
) -> Table:
    """Read a table; `suffix` is the file's (`.csv`, `.npz`, `.parquet`, `.jsonl`). With `wanted`, those columns alone.

    `assumed` are the names of the columns of a file that gives none, if they are as many. Columns `without` are left
    out. `known`: what the columns of these names hold, where that is settled; a text that is none of a column's
    categories is `UNSEEN` then. `texts`: other columns may hold categories as well.

    Raises:
        TableError: the file is not such a table, or a column holds neither numbers nor a few categories.
        ModuleNotFoundError: parquet, and pyarrow is not installed.
    """
    settled = _Settled({kind.name: kind for kind in known or ()}, texts)
    match suffix.lower():
        case ".csv" | ".data" | ".txt":
            return _read_csv(content, wanted, assumed, without, settled)
        case ".npz":
            table = _read_npz(content, assumed)
            if without and table.named:
                known_names = [kind.name for kind in table.kinds]
                wanted = [known_names[index] for index in _chosen(known_names, wanted, without)]
            return table.select(wanted) if wanted else table
        case ".parquet":
            return _read_parquet(content, wanted, without, settled)
        case ".jsonl" | ".ndjson" | ".log":
            return _read_traffic(content, wanted, assumed, without, settled)
    raise TableError(f"files that end in {suffix or 'nothing'} are not read; give csv, npz, parquet or jsonl")


class _Settled(NamedTuple):
    """What columns are known to hold, and whether others may hold categories."""

    kinds: Mapping[str, Column]
    texts: bool


def _read_csv(
    content: bytes,
    wanted: Sequence[str],
    assumed: Sequence[str],
    without: Collection[str],
    settled: _Settled,
) -> Table:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"not UTF-8 text (byte {error.start})") from error
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)) if line]
    except csv.Error as error:
        raise TableError(f"not readable as csv: {error}") from error
    if not lines:
        raise TableError("the file is empty")
    width = len(lines[0])
    uneven = next((number for number, line in enumerate(lines, 1) if len(line) != width), 0)
    if uneven:
        raise TableError(f"row {uneven} has {len(lines[uneven - 1])} values, the first has {width}")
    # A number is no name: a first line that has one is a row, whatever else is in it.
    header = None if any(_is_number(cell) for cell in lines[0]) else tuple(cell.strip() for cell in lines[0])
    body = lines[1:] if header else lines
    if header and len(set(header)) != width:
        raise TableError("two columns of the header have the same name")
    names = header or _names(width, assumed)
    chosen = _chosen(names, wanted, without)
    first = 1 + bool(header)
    encoded = [_encoded([line[index].strip() for line in body], names[index], settled, first) for index in chosen]
    return _table(encoded, len(body), named=bool(header or wanted))


def _table(encoded: Sequence[tuple[Array, Column]], count: int, *, named: bool) -> Table:
    rows = np.column_stack([values for values, _ in encoded]) if encoded else np.empty((count, 0))
    return Table(tuple(kind for _, kind in encoded), rows, named)


def _encoded(cells: Sequence[str | None], name: str, settled: _Settled, first: int) -> tuple[Array, Column]:
    """A column's numbers, or the places of its categories. `first`: where the file's rows begin, for messages."""
    kind = settled.kinds.get(name)
    if kind is None or kind.categories is None:
        numbers = [math.nan if cell is None else _number(cell) for cell in cells]
        stranger = next((index for index, number in enumerate(numbers) if number is None), None)
        if stranger is None:
            return np.array(numbers, dtype=np.float64), Column(name)
        where = f"row {first + stranger}, column {name}"
        if kind is not None or not settled.texts:
            raise TableError(f"{where}: not a number; choose the columns of numbers with --columns")
        texts = sorted({cell for cell in cells if cell is not None and cell.lower() not in _MISSING})
        if len(texts) > MAX_CATEGORIES:
            raise TableError(
                f"{where}: not a number, and {len(texts)} different texts are too many to be categories (at most "
                f"{MAX_CATEGORIES}): choose the columns with --columns"
            )
        kind = Column(name, tuple(texts))
    places = {text: float(place) for place, text in enumerate(kind.categories or ())}
    return np.array([_code(cell, places) for cell in cells], dtype=np.float64), kind


def _code(cell: str | None, places: Mapping[str, float]) -> float:
    if cell is None or (cell not in places and cell.lower() in _MISSING):
        return math.nan
    return places.get(cell, float(UNSEEN))


def _is_number(cell: str) -> bool:
    number = _number(cell)
    return number is not None and not math.isnan(number)


def _names(width: int, assumed: Sequence[str]) -> tuple[str, ...]:
    return tuple(assumed) if len(assumed) == width else tuple(f"x{index}" for index in range(width))


def _delimiter(text: str) -> str:
    """Comma, semicolon or tab: the one that the first line has most of."""
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)


def _number(cell: str) -> float | None:
    text = cell.strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError:
        return None


def _chosen(names: Sequence[str], wanted: Sequence[str], without: Collection[str]) -> list[int]:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise TableError(f"no column {', '.join(missing[:5])}; there are {', '.join(names[:20])}")
    return [names.index(name) for name in wanted or names if name not in without]


def _read_npz(content: bytes, assumed: Sequence[str]) -> Table:
    try:
        arrays = read_arrays(content, 8 * MAX_VALUES)
    except ArchiveError as error:
        raise TableError(str(error)) from error
    if "X" not in arrays:
        raise TableError("the npz has no array `X` (rows x features)")
    rows, columns = arrays["X"], arrays.get("columns")
    if rows.ndim != 2 or rows.dtype.kind not in "fiub":
        raise TableError("`X` must be a table of numbers (rows x features)")
    names = tuple(str(name) for name in columns) if columns is not None else _names(rows.shape[1], assumed)
    if len(names) != rows.shape[1]:
        raise TableError(f"`columns` names {len(names)} columns and `X` has {rows.shape[1]}")
    named = columns is not None or bool(assumed)
    return Table(tuple(Column(name) for name in names), rows.astype(np.float64), named)


def _read_parquet(content: bytes, wanted: Sequence[str], without: Collection[str], settled: _Settled) -> Table:
    import pyarrow  # noqa: ICN001, PLC0415 - large, and of use for this alone
    import pyarrow.parquet  # noqa: PLC0415

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise TableError("not readable as parquet") from error
    names = tuple(table.column_names)
    encoded = []
    for name in (names[index] for index in _chosen(names, wanted, without)):
        kind, column, types = table.schema.field(name).type, table.column(name), pyarrow.types
        if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
            known = settled.kinds.get(name)
            if known is not None and known.categories is not None:
                raise TableError(f"column {name} is of type {kind}; the baseline has categories there")
            encoded.append((column.cast(pyarrow.float64()).to_numpy().astype(np.float64), Column(name)))
        elif types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
            cells = [None if cell is None else str(cell).strip() for cell in column.to_pylist()]
            encoded.append(_encoded(cells, name, settled, 1))
        else:
            raise TableError(f"column {name} is of type {kind}; choose columns of numbers or texts with --columns")
    return _table(encoded, table.num_rows, named=True)


def _read_traffic(
    content: bytes,
    wanted: Sequence[str],
    assumed: Sequence[str],
    without: Collection[str],
    settled: _Settled,
) -> Table:
    try:
        window = traffic.read(content)
    except traffic.TrafficError as error:
        raise TableError(str(error)) from error
    names = window.names
    own = len(wanted) == len(names) and all(
        given == name or "[" in name for given, name in zip(wanted, names, strict=True)
    )
    if own and not window.named:
        names, wanted = tuple(wanted), ()  # the model's own names for the elements of its inputs
        named = True
    else:
        named = window.named
        names = names if named else _assumed(names, assumed)
    chosen = _chosen(names, wanted, without)
    encoded = [_encoded(window.columns[index], names[index], settled, 1) for index in chosen]
    return _table(encoded, len(window.columns[0]), named=named or bool(wanted or assumed))


def _assumed(names: tuple[str, ...], assumed: Sequence[str]) -> tuple[str, ...]:
    return tuple(assumed) if len(assumed) == len(names) else names
