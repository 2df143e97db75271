"""`modelward lineage`: where a model's data came from, who got its answers; and how far a data set has gone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, NoReturn

import click

from modelward.cli import options
from modelward.cli.kubectl import KubectlError, kubectl
from modelward.cli.lineage_sources import Known, from_cluster, from_files, read_logs
from modelward.cli.lineage_views import Signers, as_document, as_dot, as_mermaid, as_text, cycles
from modelward.lineage.graph import Graph
from modelward.lineage.question import Answer, QuestionError, of_digest, of_name


@click.command(
    "lineage", help="Tell where a model's data came from and who got its answers; or how far data have gone."
)
@click.argument("name", required=False)
@click.option("--digest", help="What came of the data or artefact with this digest: a breach's blast radius.")
@click.option("-n", "--namespace", help="Of the model; needed where several namespaces have one of this name.")
@options.manifests
@options.access_logs("An access log")
@click.option(
    "--secrets",
    is_flag=True,
    help="Read the Secrets that models name for signed statements, each by its name; without it none is asked for.",
)
@click.option(
    "-o",
    "output",
    type=click.Choice(("table", "json", "dot", "mermaid")),
    default="table",
    show_default=True,
    help="Format.",
)
def command(
    name: str | None,
    digest: str | None,
    namespace: str | None,
    files: tuple[Path, ...],
    logs: tuple[IO[bytes], ...],
    output: str,
    *,
    secrets: bool,
) -> None:
    """Answer for NAME: a model (md/wdbc), the address of a data set or artefact, or who was answered (user:dr-lee).

    Exit codes: 0 answered, 1 with findings (a log that was changed, lineage that goes round), 2 when nothing has this
    name or something cannot be read.
    """
    if (name is None) == (digest is None):
        raise click.UsageError("give a NAME, such as md/wdbc, or --digest sha256:...: one of the two")
    try:
        known = from_files(files) if files else from_cluster(kubectl, namespace, secrets=secrets)
        read_logs(logs, known)
    except KubectlError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a log'}: {error.strerror}")
    graph, signers = known.lineage()
    for what in known.errors:
        click.echo(f"modelward: {what}", err=True)
    try:
        answer = of_digest(graph, digest) if digest is not None else of_name(graph, name or "", namespace)
    except QuestionError as error:
        _fail(str(error))
    _print(answer, graph, signers, known, output)
    sys.exit(2 if known.errors else 1 if known.findings or answer.graph.cycles else 0)


def _print(answer: Answer, graph: Graph, signers: Signers, known: Known, output: str) -> None:
    findings = [*cycles(answer.graph), *known.findings]
    notes = list(known.notes)
    if graph.left_out:
        notes.append(f"{graph.left_out:,} nodes and edges are not in the graph, for want of room")
    if output == "json":
        click.echo(as_document(answer, signers, notes, findings), nl=False)
    elif output == "dot":
        click.echo(as_dot(answer), nl=False)
    elif output == "mermaid":
        click.echo(as_mermaid(answer), nl=False)
    else:
        click.echo(as_text(answer, signers), nl=False)
    for told in (*(f"finding: {one}" for one in findings), *(f"note: {one}" for one in notes)):
        click.echo(f"modelward: {told}", err=True)


def _fail(message: str) -> NoReturn:
    click.echo(f"modelward: {message}", err=True)
    sys.exit(2)
