"""`modelward fit`: a baseline of ordinary inputs from reference data."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from modelward.api.manifest import ManifestError
from modelward.cli.output import to_json
from modelward.cli.treated import PolicyError, left_out, treat, treatments
from modelward.privacy.spec import Treatment


@click.command(
    "fit", help="Fit a baseline of normal inputs on reference data: csv (header or not), npz with X, parquet."
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where to write it.")
@click.option("--columns", help="Columns to use, separated by commas: those that the model takes, in its order.")
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="File or folder with the policies: the baseline is fitted on data treated as they say, which is what the "
    "detectors will see.",
)
@click.option(
    "--false-positive-rate",
    "rate",
    type=click.FloatRange(0, 0.5, min_open=True),
    help="Share of ordinary rows that may be called anomalous. [default: 0.01, or the least that the rows can tell]",
)
@click.option("--lineage", default="", help="Where the data came from, as the lineage annotation `dataset` says it.")
@click.option(
    "--fitted", type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ"]), help="When, for its age to be told. Not given: not told."
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same data and seed give the same file.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="Format of the summary.")
def command(
    data: Path,
    out: Path,
    columns: str | None,
    policy: Path | None,
    rate: float | None,
    lineage: str,
    fitted: datetime | None,
    seed: int,
    output: str,
) -> None:
    """Fit and write a baseline: exit 2 when the data cannot be read or tell too little."""
    from modelward.detect import baseline, fitting, table  # noqa: PLC0415 - numpy is slow to import

    wanted = [name.strip() for name in columns.split(",")] if columns else []
    fields = _fields(policy) if policy else {}
    try:
        content = data.read_bytes()
        rows = table.read(content, data.suffix, wanted, without=left_out(fields))
        treated = treat(rows.rows, rows.columns, fields) if fields else rows.rows
        told = baseline.Origin(lineage=lineage, fitted=fitted.strftime("%Y-%m-%dT%H:%M:%SZ") if fitted else "")
        found = fitting.fit(treated, rows.columns, false_positive_rate=rate, seed=seed, data=content, origin=told)
        out.write_bytes(found.to_bytes())
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    except (table.TableError, baseline.BaselineError, PolicyError) as error:
        click.echo(f"modelward: {data}: {error}", err=True)
        sys.exit(2)
    treated_by = {name: fields[name].treatment for name in found.columns if name in fields}
    summary = {
        "baseline": str(out),
        "detectors": list(found.types),
        "rows": found.origin.rows,
        "rowsDropped": found.origin.rows_dropped,
        "columns": list(found.columns),
        "treated": treated_by,
        "falsePositiveRate": found.false_positive_rate,
        "threshold": found.threshold(),
        "gaveUp": list(found.origin.gave_up),
        "dataSha256": found.origin.data_sha256,
    }
    if output == "json":
        click.echo(to_json(summary), nl=False)
        return
    dropped = f" ({found.origin.rows_dropped} left out: values missing)" if found.origin.rows_dropped else ""
    kept = f"false positive rate {found.false_positive_rate:.4g}"
    click.echo(f"{out}: {found.origin.rows} rows{dropped}, {len(found.columns)} columns, {kept}")
    for name, treatment in treated_by.items():
        click.echo(f"treated: {name} by {treatment}")
    for what in found.origin.gave_up:
        click.echo(f"gave up: {what}")
    click.echo(f"fitted on sha256:{found.origin.data_sha256}")


def _fields(policy: Path) -> dict[str, Treatment]:
    try:
        return treatments(policy)
    except (ManifestError, OSError) as error:
        click.echo(f"modelward: {error}", err=True)
    except PolicyError as error:
        click.echo(f"modelward: {policy}: {error}", err=True)
    sys.exit(2)
