"""A recorded window of traffic: an access log whose records hold the inputs that the model got.

Such records are there where a policy says `recordValues: true`. Requests that a detector had something to say of are
left out: what is to be called ordinary is not learnt from what was not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

Value = float | bool | str | None
MAX_ROWS = 1_000_000


class TrafficError(Exception):
    """A log that cannot be fitted on; the message says why and what would mend it."""


class _Record(msgspec.Struct, frozen=True):
    request: str = ""
    rows: Annotated[int, Meta(ge=0, le=MAX_ROWS)] = 0
    verdict: str = ""
    status: int = 0
    values: dict[str, list[Value]] | str | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """`columns`: of each element of a row, the values as text, None where one is missing.

    `names`: an input's own name, or, where a row of it has several elements, that and the element's place; `named` is
    whether no input has several.
    """

    names: tuple[str, ...]
    columns: tuple[list[str | None], ...]
    named: bool


def read(content: bytes) -> Window:
    """Read the lines of a log.

    Raises:
        TrafficError: a line is none, no record has inputs, or two records have different ones.
    """
    widths: dict[str, int] | None = None
    columns: tuple[list[str | None], ...] = ()
    for number, record in _records(content):
        inputs = record.values
        if not isinstance(inputs, dict) or not inputs or not record.rows:
            continue
        found = {name: len(values) // record.rows for name, values in inputs.items()}
        if any(len(values) != found[name] * record.rows for name, values in inputs.items()) or not all(found.values()):
            raise TrafficError(f"line {number}: {record.rows} rows do not go into its inputs' values")
        if widths is None:
            widths = found
            columns = tuple([] for _ in range(sum(found.values())))
        elif found != widths:
            raise TrafficError(f"line {number}: its inputs are not those of the lines before: give one model's log")
        _append(columns, inputs, widths)
    if widths is None:
        raise TrafficError(
            "no record of an ordinary request holds inputs: they are recorded where a policy sets `recordValues: true`"
        )
    names = [name if width == 1 else f"{name}[{place}]" for name, width in widths.items() for place in range(width)]
    return Window(tuple(names), columns, named=max(widths.values()) == 1)


def _records(content: bytes) -> Iterator[tuple[int, _Record]]:
    decoder = msgspec.json.Decoder(_Record)
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = decoder.decode(line)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            raise TrafficError(f"line {number} is no record of an access log: {str(error)[:200]}") from error
        if record.request and not record.verdict and record.status < 400:
            yield number, record


def _append(columns: tuple[list[str | None], ...], inputs: dict[str, list[Value]], widths: dict[str, int]) -> None:
    at = 0
    for name, width in widths.items():
        for place in range(width):
            columns[at].extend(None if value is None else _text(value) for value in inputs[name][place::width])
            at += 1


def _text(value: Value) -> str:
    return value.strip() if isinstance(value, str) else repr(value)
