"""`modelward run`: the very same sidecar on a laptop, in front of a model that runs already."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from modelward.api.manifest import ManifestError
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import canonical
from modelward.cli.files import read_paths
from modelward.cli.lineage_events import together, told
from modelward.cli.run_sources import (
    LOOPBACK,
    RunError,
    baseline_of,
    certificate_of,
    chosen,
    given_certificate,
    governing,
    references_among,
    refuse_broken,
    settings_of,
    uncounted,
)
from modelward.lineage.subject import subject_of
from modelward.planner.access import lineage_receiver_of
from modelward.planner.explanations import explained_weights_of
from modelward.planner.in_use import weights_of
from modelward.planner.names import namespace_of
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.rules.check import check

if TYPE_CHECKING:
    from modelward.sidecar.config import Config
    from modelward.sidecar.record import Record
    from modelward.sidecar.setup import Certificate


class _Address(click.ParamType[tuple[str, int]]):
    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            self.fail(f"{value} is not host:port, as in 127.0.0.1:8443", param, ctx)
        return host.strip("[]"), int(port)


@click.command("run", help="Run the sidecar here, in front of a model, without a cluster.")
@click.option(
    "-f",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Manifests: the ModelDeployment, policies, and the ConfigMaps and Secrets that it names.",
)
@click.option("--name", help="Which ModelDeployment, if the files hold several.")
@click.option(
    "--upstream", default="http://127.0.0.1:8080", show_default=True, help="The model server, on this machine."
)
@click.option("--grpc-upstream", type=_Address(), help="Where the model server speaks gRPC, on this machine.")
@click.option("--listen", type=_Address(), default="127.0.0.1:8443", show_default=True, help="Where callers come.")
@click.option(
    "--grpc-listen", type=_Address(), default="127.0.0.1:8444", show_default=True, help="Where callers of gRPC come."
)
@click.option("--monitor", type=_Address(), default="127.0.0.1:9090", show_default=True, help="Metrics and health.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Baseline file, instead of the one referred to.")
@click.option("--plaintext", is_flag=True, help="No TLS; on the loopback address only.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Serving certificate (PEM); default: one made here.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key (PEM).")
@click.option("--tls-out", type=click.Path(file_okay=False, path_type=Path), help="Where the one made here is written.")
@click.option("--log", type=click.Path(dir_okay=False, path_type=Path), help="Where the access log goes, appended.")
@click.option(
    "--lineage", "lineage", metavar="FILE|URL", help="Where OpenLineage events go; default: as the manifest says."
)
@click.option("--force", is_flag=True, help="Run although `check` refuses, or something declared is not honoured.")
def command(
    files: tuple[Path, ...],
    name: str | None,
    upstream: str,
    grpc_upstream: tuple[str, int] | None,
    listen: tuple[str, int],
    grpc_listen: tuple[str, int],
    monitor: tuple[str, int],
    baseline: Path | None,
    plaintext: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_out: Path | None,
    log: Path | None,
    lineage: str | None,
    force: bool,
) -> None:
    """Judge the manifests and serve: exit 1 when they are refused, 2 when something cannot be read or used."""
    from modelward.privacy.keys import KEY_BYTES, derive  # noqa: PLC0415 - slow to import
    from modelward.sidecar import config  # noqa: PLC0415
    from modelward.sidecar.main import serve  # noqa: PLC0415
    from modelward.sidecar.setup import Given, with_tls  # noqa: PLC0415
    from modelward.sidecar.sidecar import Address  # noqa: PLC0415

    settings: Config | None = None
    with tempfile.TemporaryDirectory(prefix="modelward-run-") as scratch:
        try:
            given = given_certificate((listen, grpc_listen), plaintext, tls_cert, tls_key)
            documents = read_paths(list(files))
            checked = check(documents)
            md = chosen(checked, name)
            policies = uncounted(governing(checked, documents, md))
            refuse_broken(checked, unsupported(md, policies), force)
            references = references_among(documents, md, baseline, plaintext)
            keys = derive({1: secrets.token_bytes(KEY_BYTES)}, namespace_of(md))
            settings = settings_of(md, policies, references, upstream, grpc_upstream)
            certificate = None if plaintext else given or certificate_of(md, references, tls_out or Path(scratch))
            setup = with_tls(settings, baseline_of(md, references), certificate, keys)
            explained = explained_weights_of(md, references)
            setup = replace(setup, weights=weights_of(md, references), explained_weights=explained)
            _announce(settings, upstream, listen, grpc_listen, monitor, certificate)
            receiver = _receiver(lineage or lineage_receiver_of(md))
            about = subject_of(canonical(md) | {"metadata": _identified(md)}, policies)
            with (
                _access_log(log) as descriptor,
                _view(settings.binding.name) as watcher,
                told(about, receiver) as teller,
            ):
                watchers = together((watcher, teller))
                serve(Given(setup), Address(*listen), Address(*monitor), descriptor, watchers, Address(*grpc_listen))
        except (RunError, ManifestError, SidecarConfigError, config.ConfigError) as error:
            click.echo(f"modelward: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            places = (listen, monitor, *([grpc_listen] if settings and settings.upstream.grpc_port else []))
            where = error.filename or " or ".join(f"{host}:{port}" for host, port in places)
            click.echo(f"modelward: {where}: {error.strerror}", err=True)
            sys.exit(2)


def _receiver(where: str) -> str:
    if where and find_spec("openlineage") is None:
        raise RunError(f"lineage events for {where} need OpenLineage's client: install modelward[lineage]")
    return where


def _identified(md: ModelDeployment) -> dict[str, Any]:
    """Its metadata with what tells this run of the model from every other."""
    metadata: dict[str, Any] = canonical(md)["metadata"]
    return metadata | {"uid": secrets.token_hex(16)}


def _announce(
    settings: Config,
    upstream: str,
    listen: tuple[str, int],
    grpc_listen: tuple[str, int],
    monitor: tuple[str, int],
    certificate: Certificate | None,
) -> None:
    scheme = "https" if certificate else "http"
    host = "localhost" if listen[0] in LOOPBACK else listen[0]
    click.echo(f"model      {settings.binding.name}, inference protocol {settings.upstream.protocol}", err=True)
    click.echo(f"callers    {scheme}://{host}:{listen[1]} -> {upstream}", err=True)
    if settings.upstream.grpc_port:
        where = f"{grpc_listen[0]}:{grpc_listen[1]} -> {settings.upstream.host}:{settings.upstream.grpc_port}"
        click.echo(f"gRPC       {where}{'' if certificate else ', plain text'}", err=True)
    if certificate and (certificate.certificate.parent / "ca.crt").exists():
        click.echo(f"authority  {certificate.certificate.parent / 'ca.crt'} (curl --cacert)", err=True)
    click.echo(f"metrics    http://{monitor[0]}:{monitor[1]}/metrics", err=True)


@contextlib.contextmanager
def _access_log(path: Path | None) -> Iterator[int]:
    """Where records go: the file, or standard output; nowhere where that is the terminal that shows the view."""
    if path is None and not (sys.stdout.isatty() and sys.stderr.isatty()):
        click.echo("Access log on standard output, one JSON line a request. Ctrl-C ends it.", err=True)
        yield 1
        return
    if path is None:
        click.echo(
            "The access log is not kept; give --log FILE, or redirect standard output. Ctrl-C ends it.", err=True
        )
    else:
        click.echo(f"Access log in {path}, one JSON line a request. Ctrl-C ends it.", err=True)
    descriptor = os.open(path or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _view(model: str) -> Iterator[Callable[[Record], None] | None]:
    """The live view, while standard error is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from modelward.cli.live import Tally, live  # noqa: PLC0415

    tally = Tally()
    with live(tally, model, Console(stderr=True)):
        yield tally.add
