"""`modelward report`: the audit page of a cluster's models, or of manifests, as HTML or JSON."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click
import msgspec

from modelward.cli import options
from modelward.cli.kubectl import KubectlError, kubectl
from modelward.cli.output import to_json, write_to
from modelward.cli.report_sources import from_cluster, from_files, read_logs
from modelward.reporting.compose import compose
from modelward.reporting.page import page


@click.command("report", help="Write the audit page: register, verdicts, lineage, incidents; one file, no network.")
@click.option("-n", "--namespace", help="Of one namespace; default: of all.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Of all namespaces, as without -n.")
@options.manifests
@options.access_logs("An access log, for incidents and consumers")
@click.option(
    "--controller", metavar="NAME", help="Who is responsible for the processing, where no annotation says it."
)
@click.option("--contact", metavar="TEXT", help="How to reach them or their data protection officer, likewise.")
@click.option("-o", "output", type=click.Choice(("html", "json")), default="html", show_default=True, help="Format.")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write there.")
def command(
    namespace: str | None,
    all_namespaces: bool,
    files: tuple[Path, ...],
    logs: tuple[IO[bytes], ...],
    controller: str | None,
    contact: str | None,
    output: str,
    out: Path | None,
) -> None:
    """Write the report. Exit codes: 0 written, 2 something cannot be read; what can be is written then as well."""
    if namespace and all_namespaces:
        raise click.UsageError("-n and -A are given: choose one namespace, or all.")
    now = datetime.now(UTC)
    try:
        sources = from_files(files, namespace, now) if files else from_cluster(kubectl, namespace, now)
        sources = read_logs(logs, sources)
    except (KubectlError, OSError) as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    report = compose(replace(sources, controller=controller, contact=contact))
    text = to_json(msgspec.to_builtins(report)) if output == "json" else page(report)
    if out is None:
        click.echo(text, nl=False)
    else:
        write_to(out, text)
    for what in sources.errors:
        click.echo(f"modelward: {what}", err=True)
    sys.exit(2 if sources.errors else 0)
