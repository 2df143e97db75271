"""Reads a data set from a file: csv with or without a header, npz with `X`, parquet. Bounded in size and in memory."""

import csv
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from modelward.detect import traffic
from modelward.detect.archive import ArchiveError, read_arrays
from modelward.privacy.values import number_in
from modelward.scan.dataset import EXACT, MISSING, Codes, Column, DataError, DataSet, Written, column, written

MAX_ROWS: Final = 2_000_000
MAX_COLUMNS: Final = 2_000
MAX_CELLS: Final = 50_000_000
MAX_BYTES: Final = 1 << 30
MAX_TEXT: Final = 256 << 20  # characters of distinct values
MAX_DISTINCT: Final = 10_000_000  # values of text, in all columns: some 150 bytes each while they are read
LABELS: Final = "y"  # as the array of an npz is called
_SAMPLE = 1 << 16


def read(path: Path) -> DataSet:
    """Read the file.

    Raises:
        DataError: it is no such table, or too large a one.
        OSError: it cannot be opened.
        ModuleNotFoundError: parquet, and pyarrow is not installed.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DataError(f"it has {size:,} bytes and at most {MAX_BYTES:,} are read. Fix: give a sample of its rows")
    match path.suffix.lower():
        case ".csv" | ".tsv" | ".data" | ".txt":
            found = _csv(path)
        case ".npz":
            found = _npz(path.read_bytes())
        case ".parquet":
            found = _parquet(path)
        case suffix:
            raise DataError(f"files that end in {suffix or 'nothing'} are not read. Fix: give csv, npz or parquet")
    if not found.rows:
        raise DataError("it has no rows. Fix: give a file with at least one row of data")
    return found


def recorded(content: bytes, names: Sequence[str]) -> DataSet:
    """The inputs in an access log; `names` are those of its elements, if they are as many.

    Raises:
        DataError: it is no such log.
    """
    try:
        window = traffic.read(content)
    except traffic.TrafficError as error:
        raise DataError(str(error)) from error
    named = window.named or len(names) == len(window.names)
    chosen = names if len(names) == len(window.names) else window.names
    return DataSet(
        tuple(
            column(name, [cell or "" for cell in cells], np.arange(len(cells)))
            for name, cells in zip(chosen, window.columns, strict=True)
        ),
        named,
    )


def _csv(path: Path) -> DataSet:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _table(file)
    except UnicodeDecodeError as error:
        raise DataError("it is not UTF-8 text. Fix: save it as UTF-8", _undecodable(path)) from error


def _undecodable(path: Path) -> int:
    """The first line that is no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


def _table(file: TextIO) -> DataSet:
    delimiter = _delimiter(file)
    reader = csv.reader(file, delimiter=delimiter)
    lines = _lines(reader)
    began, first = next(lines, (0, []))
    if not first:
        raise DataError("it is empty. Fix: give a file with a header and rows")
    width = len(first)
    if width > MAX_COLUMNS:
        raise DataError(f"it has {width:,} columns and at most {MAX_COLUMNS:,} are read. Fix: leave some out", began)
    places: list[dict[str, int]] = [{} for _ in range(width)]
    codes = [array("i") for _ in range(width)]
    starts = array("q")
    text = distinct = 0
    for line, cells in lines:
        if len(cells) != width:
            raise DataError(_uneven(len(cells), width, delimiter), line)
        starts.append(line)
        for known, column_codes, cell in zip(places, codes, cells, strict=True):
            code = known.get(cell)
            if code is None:
                code = known[cell] = len(known)
                text += len(cell)
                distinct += 1
            column_codes.append(code)
        _bounded(len(starts), width, text, distinct, line)
    header = _is_header(first, places, len(starts))
    if not header:  # the first line is a row like the others
        starts.insert(0, began)
        for known, column_codes, cell in zip(places, codes, first, strict=True):
            column_codes.insert(0, known.setdefault(cell, len(known)))
    names = _header(first, began) if header else _numbered(width)
    columns = tuple(
        column(name, tuple(known), np.array(column_codes, dtype=np.int64))
        for name, known, column_codes in zip(names, places, codes, strict=True)
    )
    return DataSet(columns, header, np.array(starts, dtype=np.int64))


def _lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not blank, and the line that each begins at."""
    while True:
        began = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f'not readable as csv: {error}. Fix: quote text with `"` and close every quote', began
            ) from error
        if cells:
            yield began, cells


def _delimiter(file: TextIO) -> str:
    """Comma, semicolon or tab: the one that the first line has most of."""
    first = file.readline(_SAMPLE)
    file.seek(0)
    return max(",;\t", key=first.count)


def _uneven(found: int, width: int, delimiter: str) -> str:
    shown = "a tab" if delimiter == "\t" else f"`{delimiter}`"
    return (
        f"it has {found} values and the first line has {width}. Fix: give every line as many, separated by {shown};"
        " quote text that has the separator in it"
    )


def _bounded(rows: int, width: int, text: int, distinct: int, line: int) -> None:
    if rows > MAX_ROWS or rows * width > MAX_CELLS:
        limit = min(MAX_ROWS, MAX_CELLS // width)
        raise DataError(f"it has more than {limit:,} rows of {width:,} columns. Fix: give a sample of its rows", line)
    if distinct > MAX_DISTINCT:
        raise DataError(f"it has more than {MAX_DISTINCT:,} different values. Fix: give a sample of its rows", line)
    if text > MAX_TEXT:
        raise DataError(
            f"its distinct values have more than {MAX_TEXT:,} characters. Fix: give a sample of its rows", line
        )


def _is_header(first: list[str], places: list[dict[str, int]], rows: int) -> bool:
    """Whether the first line names the columns: no number in it, and hardly a word that the column has again."""
    if any(number_in(cell) is not None for cell in first) or all(cell.strip().lower() in MISSING for cell in first):
        return False
    recurring = sum(cell in known for cell, known in zip(first, places, strict=True))
    return rows == 0 or 2 * recurring < len(first)


def _header(first: list[str], line: int) -> tuple[str, ...]:
    names = [cell.strip() for cell in first]
    for index, name in enumerate(names):
        if not name:
            raise DataError(f"column {index + 1} of the header has no name. Fix: give it one", line)
        if names.index(name) != index:
            raise DataError(
                f"columns {names.index(name) + 1} and {index + 1} have the same name. Fix: rename one", line
            )
    return tuple(names)


def _numbered(width: int) -> tuple[str, ...]:
    return tuple(f"x{index}" for index in range(width))


def _npz(content: bytes) -> DataSet:
    try:
        arrays = read_arrays(content, 8 * MAX_CELLS)
    except ArchiveError as error:
        raise DataError(f"{error}. Fix: write it with numpy.savez(file, X=rows)") from error
    rows = arrays.get("X")
    if rows is None or rows.ndim != 2 or rows.dtype.kind not in "fiubU":
        raise DataError("it has no array `X` of rows x columns, numbers or text. Fix: numpy.savez(file, X=rows)")
    count, width = rows.shape
    if width > MAX_COLUMNS or count > MAX_ROWS or rows.size > MAX_CELLS:
        raise DataError(
            f"it has {count:,} rows and {width:,} columns; at most {MAX_ROWS:,}, {MAX_COLUMNS:,} and"
            f" {MAX_CELLS:,} cells are read. Fix: give a sample of its rows"
        )
    given = arrays.get("columns")
    names = _numbered(width) if given is None else tuple(str(name) for name in given.ravel())
    if len(names) != width or len(set(names)) != width:
        raise DataError(f"`columns` must name {width} columns, each once. Fix: give a name for each column of `X`")
    columns = [_of_array(name, rows[:, index]) for index, name in enumerate(names)]
    labels = arrays.get(LABELS)
    if labels is not None and LABELS not in names:
        if labels.ravel().shape != (count,) or labels.dtype.kind not in "fiubU":
            raise DataError(f"`{LABELS}` must have a label for each of the {count:,} rows. Fix: give as many")
        columns.append(_of_array(LABELS, labels.ravel()))
    return DataSet(tuple(columns), given is not None)


def _of_array(name: str, values: npt.NDArray[Any]) -> Column:
    found, codes = np.unique(values, return_inverse=True)
    codes = codes.astype(np.int64).ravel()
    if found.dtype.kind == "U":
        return column(name, found.tolist(), codes)
    if found.dtype.kind in "iu" and len(found) and max(-float(found[0]), float(found[-1])) >= EXACT:
        return column(name, [written(value) for value in found.tolist()], codes)
    numbers = found.astype(np.float64)
    return Column(name, Written(np.where(np.isfinite(numbers), numbers, np.nan)), codes)  # an infinity is a gap


def _parquet(path: Path) -> DataSet:
    import pyarrow  # noqa: ICN001, PLC0415 - large, and of use for this alone
    import pyarrow.parquet  # noqa: PLC0415

    try:
        file = pyarrow.parquet.ParquetFile(path)
        count, width = file.metadata.num_rows, file.metadata.num_columns
        if width > MAX_COLUMNS or count > MAX_ROWS or count * width > MAX_CELLS:
            raise DataError(f"it has {count:,} rows and {width:,} columns, too many. Fix: give a sample of its rows")
        groups = range(file.metadata.num_row_groups)
        size = sum(file.metadata.row_group(index).total_byte_size for index in groups)
        if size > MAX_BYTES:
            raise DataError(f"it unpacks to {size:,} bytes, at most {MAX_BYTES:,}. Fix: give a sample of its rows")
        table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError("it is not readable as parquet. Fix: write it anew, or give csv") from error
    return DataSet(tuple(_of_arrow(name, table.column(name)) for name in table.column_names))


def _of_arrow(name: str, values: Any) -> Column:
    """Nested values are told apart by how they are written."""
    import pyarrow  # noqa: ICN001, PLC0415

    kind = values.type
    if pyarrow.types.is_floating(kind) or (pyarrow.types.is_integer(kind) and not values.null_count):
        return _of_array(name, values.to_numpy())
    try:
        encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
    except NotImplementedError:
        return _of_list(name, values.to_pylist())
    codes: Codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return column(name, [written(value) for value in encoded.dictionary.to_pylist()], codes)


def _of_list(name: str, values: list[Any]) -> Column:
    places: dict[str, int] = {}
    codes = np.array([places.setdefault(written(value), len(places)) for value in values], dtype=np.int64)
    return column(name, tuple(places), codes)
