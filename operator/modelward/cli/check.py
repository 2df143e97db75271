"""`modelward check`: verdicts for manifests, offline; for people, CI and pre-commit."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from modelward.api.manifest import ManifestError, read_paths
from modelward.cli.findings import FORMATS
from modelward.rules.check import check


@click.command("check", help="Judge manifests offline, by the policies among them or by the policy `baseline`.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="More files with policies.")
@click.option("-o", "output", type=click.Choice(sorted(FORMATS)), default="table", help="Format.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
@click.option("--strict", is_flag=True, help="Warnings count as violations.")
def command(files: tuple[Path, ...], policies: tuple[Path, ...], output: str, out: Path | None, strict: bool) -> None:
    """Judge manifests: exit 0 without a violation, 1 with one, 2 when something cannot be read."""
    try:
        checked = check(read_paths([*files, *policies]))
    except ManifestError as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    text = FORMATS[output](checked)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
    failing = checked.count("error", "violation") + (checked.count("warning") if strict else 0)
    sys.exit(1 if failing else 0)
