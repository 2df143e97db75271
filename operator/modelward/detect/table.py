"""Reads tables of numbers from the bytes of a file: csv with or without a header, npz with `X`, parquet."""

import csv
import io
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from modelward.detect.archive import ArchiveError, read_arrays
from modelward.detect.encoding import Array

MAX_VALUES = 100_000_000
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?"}


class TableError(Exception):
    """A file that cannot be read as a table of numbers; the message says what and where, and what would mend it."""


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` (n, d), NaN where a value is missing. `columns` are their names; None: the file gives none."""

    columns: tuple[str, ...] | None
    rows: Array

    def select(self, names: Sequence[str]) -> "Table":
        """The columns of these names, in their order.

        Raises:
            TableError: one is not there.
        """
        known = self.columns or tuple(f"x{index}" for index in range(self.rows.shape[1]))
        missing = [name for name in names if name not in known]
        if missing:
            raise TableError(f"no column {', '.join(missing[:5])}; there are {', '.join(known[:20])}")
        return Table(tuple(names), self.rows[:, [known.index(name) for name in names]])


def read(
    content: bytes,
    suffix: str,
    wanted: Sequence[str] = (),
    assumed: Sequence[str] = (),
    without: Collection[str] = (),
) -> Table:
    """Read a table; `suffix` is the file's (`.csv`, `.npz`, `.parquet`). With `wanted`, those columns alone.

    `assumed` are the names of the columns of a file that gives none, if they are as many. Columns `without` are left
    out: they need not be of numbers.

    Raises:
        TableError: the file is not such a table, or a column is not of numbers.
        ModuleNotFoundError: parquet, and pyarrow is not installed.
    """
    match suffix.lower():
        case ".csv" | ".data" | ".txt":
            return _read_csv(content, wanted, assumed, without)
        case ".npz":
            table = _read_npz(content, assumed)
            if without and table.columns:
                wanted = [table.columns[index] for index in _chosen(table.columns, wanted, without)]
            return table.select(wanted) if wanted else table
        case ".parquet":
            return _read_parquet(content, wanted, without)
    raise TableError(f"files that end in {suffix or 'nothing'} are not read; give csv, npz or parquet")


def _read_csv(content: bytes, wanted: Sequence[str], assumed: Sequence[str], without: Collection[str]) -> Table:
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
    header = None if all(_number(cell) is not None for cell in lines[0]) else tuple(cell.strip() for cell in lines[0])
    body = lines[1:] if header else lines
    if header and len(set(header)) != width:
        raise TableError("two columns of the header have the same name")
    names = header or _names(width, assumed)
    chosen = _chosen(names, wanted, without)
    rows = np.empty((len(body), len(chosen)))
    for index, line in enumerate(body):
        for target, source in enumerate(chosen):
            value = _number(line[source])
            if value is None:
                where = f"row {index + 1 + bool(header)}, column {names[source]}"
                raise TableError(f"{where}: not a number; choose the columns of numbers with --columns")
            rows[index, target] = value
    return Table(tuple(names[index] for index in chosen) if header or wanted else None, rows)


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
    names = tuple(str(name) for name in columns) if columns is not None else None
    if names is None and assumed:
        names = _names(rows.shape[1], assumed)
    if names is not None and len(names) != rows.shape[1]:
        raise TableError(f"`columns` names {len(names)} columns and `X` has {rows.shape[1]}")
    return Table(names, rows.astype(np.float64))


def _read_parquet(content: bytes, wanted: Sequence[str], without: Collection[str]) -> Table:
    import pyarrow  # noqa: ICN001, PLC0415 - large, and of use for this alone
    import pyarrow.parquet  # noqa: PLC0415

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise TableError("not readable as parquet") from error
    names = tuple(table.column_names)
    chosen = [names[index] for index in _chosen(names, wanted, without)]
    columns = []
    for name in chosen:
        kind = table.schema.field(name).type
        if not (pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind) or pyarrow.types.is_boolean(kind)):
            raise TableError(f"column {name} is of type {kind}; choose the columns of numbers with --columns")
        columns.append(table.column(name).cast(pyarrow.float64()).to_numpy())
    return Table(tuple(chosen), np.column_stack(columns).astype(np.float64))
