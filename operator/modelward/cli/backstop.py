"""`modelward backstop`: the rules as the API server itself enforces them."""

from __future__ import annotations

import click

from modelward.cli.output import to_json, to_yaml
from modelward.planner.pod_policy import pod_policies
from modelward.rules.admission_policy import catalogue_policies


@click.command("backstop", help="Print the ValidatingAdmissionPolicies that hold with every modelward pod dead.")
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", help="Format.")
def command(output: str) -> None:
    """Print the policies and their bindings, for the chart or for `kubectl apply -f -`."""
    write = to_yaml if output == "yaml" else to_json
    click.echo("---\n".join(write(item) for item in [*catalogue_policies(), *pod_policies()]), nl=False)
