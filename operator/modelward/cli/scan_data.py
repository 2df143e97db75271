"""`modelward scan-data`: what is wrong with training data, before a model learns it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from modelward.api.manifest import ManifestError
from modelward.api.printable import printable
from modelward.cli.treated import Policies, PolicyError, read_policies
from modelward.privacy.hierarchy import HierarchyError, read_levels
from modelward.privacy.roles import asked_k, roles

if TYPE_CHECKING:
    from modelward.scan.dataset import Array, DataSet
    from modelward.scan.scan import Question, Scanned

Show = Callable[[str, int, int], None]
"""Told what is done, which part of how many it is."""

_PATIENCE = 2.0  # seconds before progress is shown


@click.command("scan-data")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="File or folder with the policies: the roles and treatments of fields, and the k of k-anonymity.",
)
@click.option("--label", help="The column that a model is to learn. [default: y, in an npz]")
@click.option("--quasi-identifiers", "quasi", metavar="A,B", help="Columns that tell of a person in combination.")
@click.option(
    "--hierarchy",
    "hierarchies",
    multiple=True,
    metavar="COLUMN=FILE",
    help="How a column can be generalised: a value and its groups a line, the finest first, separated by `;`. May be"
    " given again. [default: the ConfigMap that the policy names, where it is in the same file or folder]",
)
@click.option(
    "--suppress",
    type=click.FloatRange(0, 0.5),
    default=0.0,
    show_default=True,
    help="The share of rows that may be taken out to reach the policy's k with less generalisation.",
)
@click.option("--sensitive", metavar="A,B", help="Columns that must not be told of a person: for l and t.")
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="Data that should have no row in common with these: test data, for one.",
)
@click.option(
    "--embeddings",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What a model makes of each row, in the same order (its last layer but one): for spectral signatures.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows are drawn where they are too many.")
@click.option("-o", "output", type=click.Choice(["json", "sarif", "table"]), default="table", help="Format.")
def command(
    data: Path,
    policy: Path | None,
    label: str | None,
    quasi: str | None,
    hierarchies: tuple[str, ...],
    suppress: float,
    sensitive: str | None,
    against: Path | None,
    embeddings: Path | None,
    seed: int,
    output: str,
) -> None:
    """Look through training data: csv (header or not), npz with X, parquet. No value of it is shown.

    Looked for are identifiers of people, columns that tell every row apart, combinations of quasi-identifiers that
    stand for too few people, rows that are repeated, nearly the same, contradicted by their neighbours, marked as a
    backdoor marks them, or also in other data. Exit codes: 0 nothing to look at, 1 findings, 2 something cannot be
    read.
    """
    from modelward.cli.scanned import FORMATS  # noqa: PLC0415 - numpy is slow to import
    from modelward.scan.reading import LABELS  # noqa: PLC0415
    from modelward.scan.scan import Question  # noqa: PLC0415
    from modelward.scan.suspects import numbers_of  # noqa: PLC0415

    policies = _policies(policy)
    steps = {**policies.hierarchies, **_given(hierarchies)}
    told = {**roles(policies.policies), **_named(quasi, "QuasiIdentifier"), **_named(sensitive, "Sensitive")}
    with _progress() as show:
        show("reading", 0, 1)
        table = _read(data)
        for name in [*_named(quasi, ""), *_named(sensitive, ""), *_given(hierarchies)]:
            if name not in table.names:
                _fail(data, f"no column {name}; there are {', '.join(table.names[:20])}")
        if label is None and data.suffix.lower() == ".npz" and LABELS in table.names:
            label = LABELS
        question = Question(
            roles=told,
            treatments=policies.treatments,
            k=asked_k(policies.policies),
            hierarchies=steps,
            lacking=policies.lacking,
            spare=suppress,
            label=label,
            embeddings=None if embeddings is None else _numbers(embeddings, numbers_of),
            against=None if against is None else _read(against),
            seed=seed,
        )
        scanned = _scanned(data, table, question, show, against, embeddings)
    click.echo(FORMATS[output](data, table, scanned), nl=False)
    sys.exit(0 if scanned.clean else 1)


def _scanned(
    data: Path, table: DataSet, question: Question, show: Show, against: Path | None, embeddings: Path | None
) -> Scanned:
    from modelward.scan.dataset import DataError  # noqa: PLC0415
    from modelward.scan.scan import Scanned, stages  # noqa: PLC0415

    scanned = Scanned()
    source = data
    try:
        parts = stages(table, question, scanned)
        for done, (name, run) in enumerate(parts, 1):
            show(name, done, len(parts) + 1)
            source = {"repeats": against, "signatures": embeddings}.get(name) or data
            run()
    except DataError as error:
        _fail(source, str(error), error.line)
    return scanned


def _read(path: Path) -> DataSet:
    from modelward.scan.dataset import DataError  # noqa: PLC0415
    from modelward.scan.reading import read  # noqa: PLC0415

    try:
        return read(path)
    except DataError as error:
        _fail(path, str(error), error.line)
    except OSError as error:
        _fail(path, f"{error.strerror}. Fix: name a file that is there and may be read")


def _numbers(path: Path, numbers_of: Callable[[DataSet], Array]) -> Array:
    from modelward.scan.dataset import DataError  # noqa: PLC0415

    table = _read(path)
    try:
        return numbers_of(table)
    except DataError as error:
        _fail(path, str(error))


def _policies(path: Path | None) -> Policies:
    if path is None:
        return Policies()
    try:
        return read_policies(path)
    except (ManifestError, OSError) as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    except PolicyError as error:
        _fail(path, str(error))


def _given(pairs: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        name, _, file = pair.partition("=")
        path = Path(file)
        if not file:
            _fail(Path(pair), "not COLUMN=FILE. Fix: write --hierarchy age=ages.csv")
        try:
            found[name.strip()] = text = path.read_text(encoding="utf-8-sig")
            read_levels(text)
        except HierarchyError as error:
            _fail(path, f"{error}. Fix: write a value and its groups on each line, separated by `;`")
        except OSError as error:
            _fail(path, f"{error.strerror}. Fix: name a file that is there and may be read")
        except UnicodeDecodeError:
            _fail(path, "it is not UTF-8 text. Fix: save it as UTF-8")
    return found


def _named(names: str | None, role: str) -> dict[str, str]:
    return {name.strip(): role for name in (names or "").split(",") if name.strip()}


def _fail(path: Path, message: str, line: int = 0) -> NoReturn:
    click.echo(printable(f"modelward: {path}:{f'{line}:' if line else ''} {message}"), err=True)
    sys.exit(2)


@contextmanager
def _progress() -> Iterator[Show]:
    """A bar on standard error once it takes long; none where nobody watches."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(),
        *Progress.get_default_columns()[:2],
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("")
    later = threading.Timer(_PATIENCE, bar.start)
    later.daemon = True
    later.start()
    try:
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
    finally:
        later.cancel()
        later.join()
        bar.stop()
