"""`modelward check`: verdicts for manifests, offline; for people, CI and pre-commit."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from modelward.api.manifest import ManifestError
from modelward.cli.files import read_all
from modelward.cli.findings import FORMATS, Screen, as_table, summary
from modelward.cli.hierarchies import judge_hierarchies
from modelward.cli.output import write_to
from modelward.cli.signatures import look_at_signatures
from modelward.cli.unsupported import judge_support
from modelward.rules.check import check, unreadable

_POLICIES = ("DataPolicy", "ClusterDataPolicy")


@click.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file or folder with more policies; may be given again.",
)
@click.option("-o", "output", type=click.Choice(sorted(FORMATS)), default="table", help="Format; table if not given.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there, and a summary on standard error.",
)
@click.option("--strict", is_flag=True, help="Warnings count as violations.")
@click.option(
    "--only-manifests",
    is_flag=True,
    help="Pass over named files without a Kubernetes object, as below a folder: for hooks that get every file.",
)
def command(
    files: tuple[Path, ...],
    policies: tuple[Path, ...],
    output: str,
    out: Path | None,
    strict: bool,
    only_manifests: bool,
) -> None:
    """Judge manifests offline, by the policy `baseline` and the policies among them.

    FILES are manifests, folders of them, or - for standard input. Exit codes: 0 without a violation, 1 with one,
    2 when something cannot be read.
    """
    reading = read_all(policies)
    if policies and not reading.errors and not any(document.kind in _POLICIES for document in reading.documents):
        what = "no DataPolicy or ClusterDataPolicy in it"
        reading.errors.append(ManifestError(", ".join(map(str, policies)), 0, what, "Name a file with policies."))
    reading = read_all(files, only_manifests=only_manifests, after=reading)
    errors = reading.errors
    for skipped in reading.skipped:
        click.echo(f"modelward: skipped {skipped}", err=True)
    for error in errors:
        click.echo(f"modelward: {error}", err=True)
    checked = check(reading.documents, look=partial(look_at_signatures, [one.data for one in reading.documents]))
    more = (*judge_hierarchies(reading.documents, checked.policies), *judge_support(checked))
    checked = replace(checked, findings=(*checked.findings, *more))
    checked = checked.strict() if strict else checked
    if output != "table":  # programs read one stream: tell them there as well
        checked = replace(checked, findings=(*map(unreadable, errors), *checked.findings))
    if out is not None:
        write_to(out, as_table(checked, Screen()) if output == "table" else FORMATS[output](checked))
        click.echo(summary(checked), err=True)
    elif output != "table" or checked.findings or not errors:
        click.echo(FORMATS[output](checked), nl=False)
    sys.exit(2 if errors else 1 if checked.count("error", "violation") else 0)
