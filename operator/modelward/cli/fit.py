"""`modelward fit`: a baseline of ordinary inputs from reference data."""

from __future__ import annotations

import hashlib
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from modelward.api.manifest import ManifestError
from modelward.cli.admitted import refuse_what_breaks
from modelward.cli.bar import Bar
from modelward.cli.output import to_json
from modelward.cli.treated import Policies, PolicyError, left_out, read_policies, treat

if TYPE_CHECKING:
    from modelward.detect.baseline import Baseline
    from modelward.detect.encoder import Encoder
    from modelward.detect.feedback import Feedback


@click.command(
    "fit",
    help="Fit a baseline of normal inputs on reference data: csv (header or not), npz with X, parquet, or recorded"
    " traffic (an access log with values, .jsonl).",
)
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where to write it.")
@click.option("--columns", help="Columns to use, separated by commas: those that the model takes, in its order.")
@click.option(
    "--encoder",
    "encoder_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A small network (npz of weights0, bias0, ... and a header) whose embeddings of the rows are compared in their"
    " place; the baseline holds it.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path),
    help="File or folder with the policies: the baseline is fitted on data treated as they say, which is what the "
    "detectors will see. Data whose combinations of quasi-identifiers stand for fewer people than their k, and columns"
    " that name people, are refused.",
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
@click.option(
    "--feedback",
    type=click.Path(path_type=Path),
    help="Flagged requests that were ordinary, from `modelward feedback`: they count when thresholds are set.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="The same data and seed give the same file.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="Format of the summary.")
def command(
    data: Path,
    out: Path,
    columns: str | None,
    encoder_file: Path | None,
    policy: Path | None,
    rate: float | None,
    lineage: str,
    fitted: datetime | None,
    feedback: Path | None,
    seed: int,
    output: str,
) -> None:
    """Fit and write a baseline: exit 2 when the data cannot be read, tell too little, or break the policies."""
    from modelward.detect import baseline, encoder, fitting, table  # noqa: PLC0415 - numpy is slow to import

    wanted = [name.strip() for name in columns.split(",")] if columns else []
    policies = _policies(policy) if policy else Policies()
    fields = policies.treatments
    given = _read_encoder(encoder_file) if encoder_file else None
    reported = _read_feedback(feedback) if feedback else None
    try:
        content = data.read_bytes()
        rows = table.read(content, data.suffix, wanted, without=left_out(fields), texts=True)
        refuse_what_breaks(policies, data, content, rows)
        treated = treat(rows, fields) if fields else rows.rows
        treated_by: dict[str, str] = {
            kind.name: fields[kind.name].treatment for kind in rows.kinds if kind.name in fields
        }
        told = baseline.Origin(
            lineage=lineage, fitted=fitted.strftime("%Y-%m-%dT%H:%M:%SZ") if fitted else "", treatments=treated_by
        )
        with Bar("fitting") as bar:
            found = fitting.fit(
                treated,
                rows.kinds,
                named=rows.named,
                false_positive_rate=rate,
                seed=seed,
                data=content,
                origin=told,
                encoder=given,
                tell=bar.tell,
            )
        before = found
        if reported is not None:
            found = _counted(found, reported)
        out.write_bytes(found.to_bytes())
    except OSError as error:
        click.echo(f"modelward: {error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    except encoder.EncoderError as error:
        click.echo(f"modelward: {encoder_file}: {error}", err=True)
        sys.exit(2)
    except (table.TableError, baseline.BaselineError, PolicyError) as error:
        click.echo(f"modelward: {data}: {error}", err=True)
        sys.exit(2)
    summary = {
        "baseline": str(out),
        "detectors": list(found.types),
        "rows": found.origin.rows,
        "rowsDropped": found.origin.rows_dropped,
        "columns": list(found.columns),
        "treated": treated_by,
        "falsePositiveRate": found.false_positive_rate,
        "threshold": found.threshold(),
        "thresholds": {name: found.threshold(name) for name in found.types},
        "thresholdsBeforeFeedback": {name: before.threshold(name) for name in before.types},
        "gaveUp": list(found.origin.gave_up),
        "dataSha256": found.origin.data_sha256,
        "encoderSha256": found.origin.encoder_sha256,
    }
    click.echo(to_json(summary) if output == "json" else _in_words(out, found, before), nl=False)


def _in_words(out: Path, found: Baseline, before: Baseline) -> str:
    origin = found.origin
    dropped = f" ({origin.rows_dropped} left out: values missing)" if origin.rows_dropped else ""
    kept = f"false positive rate {found.false_positive_rate:.4g}"
    lines = [f"{out}: {origin.rows} rows{dropped}, {len(found.columns)} columns, {kept}"]
    lines += [f"treated: {name} by {treatment}" for name, treatment in origin.treatments.items()]
    lines += [f"gave up: {what}" for what in origin.gave_up]
    if origin.benign:
        lines += [
            f"threshold of {name}: {before.threshold(name):.4g}, with feedback {found.threshold(name):.4g}"
            for name in found.types
        ]
    if found.encoding.encoder is not None:
        lines.append(f"embedded in {found.encoding.encoder.outputs} parts by sha256:{origin.encoder_sha256}")
    return "\n".join([*lines, f"fitted on sha256:{origin.data_sha256}", ""])


def _read_encoder(path: Path) -> Encoder:
    from modelward.detect.encoder import EncoderError, from_bytes  # noqa: PLC0415

    try:
        return from_bytes(path.read_bytes())
    except OSError as error:
        click.echo(f"modelward: {path}: {error.strerror}", err=True)
    except EncoderError as error:
        click.echo(f"modelward: {path}: {error}", err=True)
    sys.exit(2)


def _read_feedback(path: Path) -> Feedback:
    from modelward.detect.feedback import FeedbackError, from_bytes  # noqa: PLC0415

    try:
        return from_bytes(path.read_bytes())
    except OSError as error:
        click.echo(f"modelward: {path}: {error.strerror}", err=True)
    except FeedbackError as error:
        click.echo(f"modelward: {path}: {error}", err=True)
    sys.exit(2)


def _counted(found: Baseline, feedback: Feedback) -> Baseline:
    """The baseline with the reported requests among its ordinary rows."""
    digest = f"sha256:{hashlib.sha256(found.to_bytes()).hexdigest()}"
    if digest != feedback.baseline:
        # Their scores are over a threshold, which is the same share of ordinary rows in any baseline; only roughly so.
        click.echo(
            "modelward: the feedback was scored by another baseline than this data, seed and options give: its scores"
            " count as multiples of the new thresholds",
            err=True,
        )
    scores: dict[str, list[float]] = {}
    for benign in feedback.rows:
        for name, score in benign.scores.items():
            if name in found.types:
                scores.setdefault(name, []).append(score * found.threshold(name, benign.rates.get(name)))
    return found.with_benign(scores)


def _policies(policy: Path) -> Policies:
    try:
        return read_policies(policy)
    except (ManifestError, OSError) as error:
        click.echo(f"modelward: {error}", err=True)
    except PolicyError as error:
        click.echo(f"modelward: {policy}: {error}", err=True)
    sys.exit(2)
