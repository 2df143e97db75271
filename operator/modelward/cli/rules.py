"""`modelward rules`: the catalogue, and where each rule comes from."""

from __future__ import annotations

import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from modelward.cli.output import to_json
from modelward.rules.catalogue import catalogue


@click.command("rules", help="List the rules of the catalogue.")
@click.option("--framework", help="Only rules that serve this framework, such as GDPR-25, EUAIA or ATLAS.")
@click.option("-o", "output", type=click.Choice(["table", "json"]), default="table", help="Format.")
def command(framework: str | None, output: str) -> None:
    """List the rules, or those whose frameworks begin with a name."""
    chosen = [
        rule
        for rule in catalogue()
        if framework is None or any(f"{place}-".startswith(f"{framework.rstrip('-')}-") for place in rule.frameworks)
    ]
    if not chosen:
        places = sorted({place.split("-", 1)[0] for rule in catalogue() for place in rule.frameworks})
        click.echo(f"modelward: no rule serves {framework}. Frameworks: {', '.join(places)}", err=True)
        sys.exit(2)
    if output == "json":
        click.echo(to_json([msgspec.to_builtins(rule) for rule in chosen]), nl=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("Rule", "Severity", "Switched on by", "What holds", "Frameworks"):
        table.add_column(column, overflow="fold")
    for rule in chosen:
        table.add_row(rule.id, rule.severity, f"require.{rule.requires}", rule.title, " ".join(rule.frameworks))
    Console().print(table)
