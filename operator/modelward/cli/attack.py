"""`modelward attack`: the security test of one's own model, over its own endpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from modelward.api.printable import printable
from modelward.cli.bar import Bar

if TYPE_CHECKING:
    from modelward.attack.report import SecurityTestReport
    from modelward.cli.attack_client import Place
    from modelward.cli.attack_run import Options

_MAX_TOKEN = 64 << 10
_FILE = click.Path(dir_okay=False, path_type=Path)
_FILE_OR_INPUT = click.Path(dir_okay=False, path_type=Path, allow_dash=True)
_FORMATS = ("html", "json", "junit", "sarif", "table")


@click.command("attack", context_settings={"auto_envvar_prefix": "MODELWARD_ATTACK"})
@click.argument("url")
@click.option("-f", "manifest", metavar="FILE", type=_FILE, help="The model's manifest: what it takes, and its limits.")
@click.option("--model", metavar="NAME", help="Its name in the protocol's paths; default: as the manifest says.")
@click.option("--protocol", type=click.Choice(["v1", "v2"]), help="Its protocol; default: as the manifest says, or v2.")
@click.option(
    "--token-file",
    "token_files",
    metavar="FILE",
    multiple=True,
    type=_FILE_OR_INPUT,
    help="A token of who may ask the model; - is standard input. Given again: of others, who go on where one is held.",
)
@click.option(
    "--stranger-token-file", metavar="FILE", type=_FILE_OR_INPUT, help="A good token of somebody who may not ask it."
)
@click.option("--purpose", help="What for, in the header x-modelward-purpose.")
@click.option(
    "--ca-file", metavar="FILE", type=_FILE, help="The authorities of its certificate; default: the system's."
)
@click.option("--server-name", metavar="NAME", help="The name in its certificate, where the URL's host is another.")
@click.option("--client-cert", metavar="FILE", type=_FILE, help="Certificate (PEM) that is shown.")
@click.option("--client-key", metavar="FILE", type=_FILE, help="Its key (PEM).")
@click.option(
    "--data",
    metavar="FILE",
    type=_FILE,
    help="Rows as callers send them (csv, npz, parquet), best those that it was trained on.",
)
@click.option("--holdout", metavar="FILE", type=_FILE, help="Such rows that it was not trained on.")
@click.option("--label", metavar="COLUMN", help="Their column with the true answer, which the model is not sent.")
@click.option(
    "--model-port",
    metavar="[HOST:]PORT",
    help="Where the model itself listens, past the sidecar: it is tried as well; default of HOST: the URL's.",
)
@click.option("--suite", type=click.Choice(["baseline"]), default="baseline", show_default=True, help="Which attacks.")
@click.option(
    "--only", metavar="ID", multiple=True, help="This attack or family alone, as in evasion; may be given again."
)
@click.option(
    "--budget", type=click.IntRange(10, 1_000_000), default=2000, show_default=True, help="Requests at the most."
)
@click.option(
    "--seconds", type=click.FloatRange(1, 86_400), default=300, show_default=True, help="Seconds at the most."
)
@click.option(
    "--rate", type=click.FloatRange(0.1, 10_000), default=50, show_default=True, help="Requests a second at the most."
)
@click.option("--seed", type=click.IntRange(0, 1 << 53), default=0, show_default=True, help="What chance draws by.")
@click.option("-o", "output", type=click.Choice(_FORMATS), default="table", show_default=True, help="Format.")
@click.option("--out", metavar="FILE", type=_FILE, help="Write there, and a summary on standard error.")
def command(
    url: str,
    manifest: Path | None,
    model: str | None,
    protocol: Literal["v1", "v2"] | None,
    token_files: tuple[Path, ...],
    stranger_token_file: Path | None,
    purpose: str | None,
    ca_file: Path | None,
    server_name: str | None,
    client_cert: Path | None,
    client_key: Path | None,
    data: Path | None,
    holdout: Path | None,
    label: str | None,
    model_port: str | None,
    suite: str,
    only: tuple[str, ...],
    budget: int,
    seconds: float,
    rate: float,
    seed: int,
    output: str,
    out: Path | None,
) -> None:
    """Attack your own model over its endpoint, and tell what it withstands.

    URL is https://host[:port] of its sidecar. Attack only what you may: detectors will notice, and the caller may be
    held. Exit codes: 0 no attack succeeded, 1 one did, 2 usage, unreachable, or Errored: the suite did not come to its
    end, or too little was decided.
    """
    from modelward.attack.driver import Budget  # noqa: PLC0415 - numpy is slow to import
    from modelward.cli.attack_client import ClientError, Tls, Url  # noqa: PLC0415
    from modelward.cli.attack_run import AttackError, Options, run_suite  # noqa: PLC0415

    if bool(client_cert) != bool(client_key):
        raise click.UsageError("--client-cert and --client-key belong together.")
    try:
        where = Url.of(url)
        options = Options(
            url=where,
            suite=suite,
            only=only,
            model=model,
            manifest=manifest,
            protocol=protocol,
            tokens=tuple(_token(path, "--token-file") for path in token_files),
            stranger=_token(stranger_token_file, "--stranger-token-file") if stranger_token_file else None,
            purpose=_header(purpose),
            tls=Tls(ca_file, server_name, client_cert, client_key),
            model_port=_place(model_port, where.place.host),
            data=data,
            holdout=holdout,
            label=label,
            budget=Budget(budget, seconds, rate),
            seed=seed,
        )
        _announce(options)
        with Bar("attacking") as bar:
            report = run_suite(options, bar.tell)
    except (AttackError, ClientError) as error:
        click.echo(printable(f"modelward: {error}"), err=True)
        sys.exit(2)
    _write(report, output, out, str(manifest or ""))
    sys.exit(1 if report.counted("Succeeded") else 2 if report.outcome == "Errored" else 0)


def _announce(options: Options) -> None:
    """Say what is about to be sent, and where to."""
    budget, attacks = options.budget, options.attacks()
    past = (
        f" and to {options.model_port.host}:{options.model_port.port}, the model itself" if options.model_port else ""
    )
    whose = f"as {len(options.tokens)} callers" if len(options.tokens) > 1 else "as the caller given"
    rows = f"; rows made from {options.data.name}" if options.data else "; no rows were given (--data)"
    for line in (
        f"attacks    {len(attacks)} of the suite {options.suite}",
        f"sends to   {options.url.text}{past}",
        f"at most    {budget.requests:,} requests, {budget.per_second:g} a second, {budget.seconds:g} seconds",
        f"what       requests {whose} and as nobody, with changed tokens, malformed, of up to 8 MiB{rows}",
    ):
        click.echo(printable(line), err=True)


def _write(report: SecurityTestReport, output: str, out: Path | None, source: str) -> None:
    from modelward.cli.attacked import FORMATS, as_table, summary  # noqa: PLC0415
    from modelward.cli.findings import Screen  # noqa: PLC0415

    if out is None:
        click.echo(FORMATS[output](report, source), nl=False)
        return
    text = as_table(report, source, Screen()) if output == "table" else FORMATS[output](report, source)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"modelward: {out}: cannot be written: {error.strerror}. Give --out another path.", err=True)
        sys.exit(2)
    click.echo(summary(report), err=True)


def _token(path: Path, flag: str) -> str:
    from modelward.cli.attack_run import AttackError  # noqa: PLC0415

    try:
        with click.open_file(str(path), "rb") as stream:
            content: bytes = stream.read(_MAX_TOKEN + 1)
    except OSError as error:
        raise AttackError(f"{flag} {path}: {error.strerror}") from error
    text = content.decode("ascii", "replace").strip()
    if not text or len(content) > _MAX_TOKEN or not all("!" <= character <= "~" for character in text):
        raise AttackError(f"{flag} {path}: holds no token; write the token alone into it, on one line")
    return text


def _header(purpose: str | None) -> str | None:
    if purpose is not None and not (purpose.isascii() and purpose.isprintable() and len(purpose) <= 256):
        raise click.UsageError("--purpose is no more than 256 printable characters of ASCII.")
    return purpose


def _place(text: str | None, host: str) -> Place | None:
    from modelward.cli.attack_client import Place  # noqa: PLC0415

    if text is None:
        return None
    named, _, port = text.rpartition(":")
    if not port.isdigit() or not 0 < int(port) <= 65535:
        raise click.UsageError(f"--model-port {text} is no port, and no host:port.")
    return Place(named.strip("[]") or host, int(port))
