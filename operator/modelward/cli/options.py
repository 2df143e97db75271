"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]

manifests: Callable[[Command], Command] = click.option(
    "-f",
    "files",
    metavar="FILE|DIRECTORY",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="Of these manifests in place of a cluster; may be given again.",
)
"""-f, of a command that reads a cluster otherwise: `files: tuple[Path, ...]`."""


def access_logs(what: str) -> Callable[[Command], Command]:
    """--log: `logs: tuple[IO[bytes], ...]`; `what` it is, for the help."""
    return click.option(
        "--log", "logs", metavar="FILE", multiple=True, type=click.File("rb"), help=f"{what}; may be given again."
    )
