"""`modelward release`: let a client out of quarantine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from modelward.cli.kubectl import KubectlError, kubectl
from modelward.planner.sidecar import RELEASE_ANNOTATION, RELEASE_AT_ANNOTATION

_KINDS = ("", "md", "modeldeployment", "modeldeployments")


@click.command("release", help="Let a client out of quarantine, in all pods of a model.")
@click.argument("model", metavar="md/NAME")
@click.argument("client", metavar="CLIENT")
@click.option("-n", "--namespace", help="The model's namespace; default: kubectl's.")
def command(model: str, client: str, namespace: str | None) -> None:
    """Set the annotation that the controller carries out: exit 2 when it cannot be set."""
    kind, _, name = model.rpartition("/")
    if kind.lower() not in _KINDS or not name or name.startswith("-"):
        click.echo(f"modelward: {model} is not md/NAME, as in md/wdbc", err=True)
        sys.exit(2)
    place = (f"--namespace={namespace}",) if namespace else ()
    object_name = f"modeldeployments.modelward.io/{name}"
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    try:
        kubectl(
            "annotate",
            *place,
            "--overwrite",
            object_name,
            f"{RELEASE_ANNOTATION}={client}",
            f"{RELEASE_AT_ANNOTATION}={at}",
        )
    except KubectlError as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)
    click.echo(f"{client}: to be released; the controller tells the pods of {name}")
