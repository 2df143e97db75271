"""`modelward crds`: the custom resource definitions, generated from the models."""

from __future__ import annotations

from pathlib import Path

import click

from modelward.api.crd import KINDS, crd
from modelward.cli.output import to_json, to_yaml


@click.command("crds", help="Print the custom resource definitions, for `kubectl apply --server-side -f -`.")
@click.option(
    "-o", "output", type=click.Choice(["yaml", "json", "markdown"]), default="yaml", help="Format; markdown is a page."
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write one file a kind into this folder.")
def command(output: str, out: Path | None) -> None:
    """Print the CRDs, or write them into a folder."""
    if output == "markdown":
        from modelward.cli.markdown import api_reference  # noqa: PLC0415

        click.echo(api_reference(), nl=False)
        return
    write = to_yaml if output == "yaml" else to_json
    if out is None:
        click.echo("---\n".join(write(crd(kind)) for kind in KINDS), nl=False)
        return
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        (out / f"modelward.io_{kind.plural}.{output}").write_text(write(crd(kind)), encoding="utf-8")
