"""`modelward version`."""

from __future__ import annotations

import json
import platform

import click

from modelward import __version__
from modelward.api.base import API_VERSION


@click.command("version", help="Print the version.")
@click.option("-o", "output", type=click.Choice(["text", "json"]), default="text", help="Format.")
def command(output: str) -> None:
    """Print the version of modelward, of its API and of Python."""
    facts = {"version": __version__, "api": API_VERSION, "python": platform.python_version()}
    click.echo(json.dumps(facts) if output == "json" else f"modelward {__version__} ({API_VERSION})")
