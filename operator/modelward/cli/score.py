"""`modelward score`: how strange rows are, by a baseline; one JSON line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from modelward.detect.baseline import Baseline
    from modelward.detect.encoding import Array

_BATCH = 1000


@click.command("score", help="Score rows against a baseline: one JSON line a row; 1.0 is the threshold.")
@click.argument("baseline_file", metavar="BASELINE", type=click.Path(path_type=Path))
@click.argument("rows_file", metavar="ROWS", type=click.Path(path_type=Path))
@click.option(
    "--false-positive-rate",
    "rate",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Another rate than the baseline was fitted for.",
)
@click.option("-o", "output", type=click.Choice(["json"]), default="json", help="Format.")
def command(baseline_file: Path, rows_file: Path, rate: float | None, output: str) -> None:  # noqa: ARG001
    """Print a score for each row: exit 1 when one is anomalous, 2 when something cannot be read."""
    from modelward.detect import baseline, table, verdict  # noqa: PLC0415 - numpy is slow to import

    try:
        fitted = baseline.from_bytes(baseline_file.read_bytes())
        fitted.threshold(rate=rate)
        rows = _rows(fitted, rows_file)
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    except baseline.BaselineError as error:
        click.echo(f"modelward: {baseline_file}: {error}", err=True)
        sys.exit(2)
    except table.TableError as error:
        click.echo(f"modelward: {rows_file}: {error}", err=True)
        sys.exit(2)
    anomalous = False
    for start in range(0, len(rows), _BATCH):
        for index, score in enumerate(verdict.score_rows(fitted, rows[start : start + _BATCH], rate), start):
            anomalous = anomalous or score.anomalous
            line = {"row": index, "score": score.score, "anomalous": score.anomalous, "reasons": list(score.reasons)}
            click.echo(json.dumps(line, ensure_ascii=False))
    sys.exit(1 if anomalous else 0)


def _rows(fitted: Baseline, path: Path) -> Array:
    """The file's rows, their columns in the baseline's order: by name where both have names, else as they stand."""
    from modelward.detect.table import TableError, read  # noqa: PLC0415

    named = fitted.columns if fitted.named else ()
    rows = read(path.read_bytes(), path.suffix, wanted=named, assumed=named, known=fitted.encoding.columns).rows
    if rows.shape[1] != len(fitted.columns):
        raise TableError(f"{rows.shape[1]} columns; the baseline has {len(fitted.columns)}")
    return rows
