"""How a benchmark is started from a terminal, and the page of documentation that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path


def command_line(doc: str | None, *, out: bool = False) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it stands; `out`: of one that writes a page where `--out` says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if out:
        parser.add_argument("--out", type=Path, help="write the page there")
    return parser


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return [first, "|---" * len(head) + "|", *others]


def write(page: str, out: Path) -> None:
    """Write a page, and the folder that it lies in."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)


def publish(page: str, out: Path | None) -> None:
    """Print a page, and write it where it is wanted."""
    print(page)
    if out is not None:
        write(page, out)
