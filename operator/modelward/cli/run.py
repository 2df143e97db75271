"""`modelward run`: the very same sidecar on a laptop, in front of a model that runs already."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from rich.console import Console

from modelward.api.manifest import Document, ManifestError
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, baseline_reference, references_of
from modelward.api.validate import canonical
from modelward.cli.files import read_paths
from modelward.cli.findings import as_table
from modelward.cli.lineage_events import together, told
from modelward.lineage.subject import subject_of
from modelward.planner.access import lineage_receiver_of, trusting
from modelward.planner.explanations import explained_weights_of
from modelward.planner.in_use import weights_of
from modelward.planner.names import host_names, namespace_of
from modelward.planner.references import References, hierarchies_among
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.planner.upstream import protocol_of
from modelward.rules.check import Checked, check
from modelward.rules.judge import Review, judge, policy_name

if TYPE_CHECKING:
    from modelward.sidecar.config import Config
    from modelward.sidecar.record import Record
    from modelward.sidecar.setup import Certificate

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RunError(Exception):
    """What keeps the sidecar from running here, and what would mend it."""


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
            given = _given_certificate((listen, grpc_listen), plaintext, tls_cert, tls_key)
            documents = read_paths(list(files))
            checked = check(documents)
            md = _chosen(checked, name)
            policies = _uncounted(_governing(checked, documents, md))
            _refuse(checked, unsupported(md, policies), force)
            references = _references(documents, md, baseline, plaintext)
            keys = derive({1: secrets.token_bytes(KEY_BYTES)}, namespace_of(md))
            settings = _settings(md, policies, references, upstream, grpc_upstream)
            certificate = None if plaintext else given or _certificate(md, references, tls_out or Path(scratch))
            setup = with_tls(settings, _baseline(md, references), certificate, keys)
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


def _given_certificate(
    listen: Sequence[tuple[str, int]], plaintext: bool, certificate: Path | None, key: Path | None
) -> Certificate | None:
    from modelward.sidecar.setup import Certificate  # noqa: PLC0415

    if plaintext and any(host not in _LOOPBACK for host, _ in listen):
        raise RunError("--plaintext is for the loopback address; give --listen and --grpc-listen 127.0.0.1:<port>")
    if bool(certificate) != bool(key):
        raise RunError("--tls-cert and --tls-key belong together")
    return Certificate(certificate, key) if certificate and key else None


def _chosen(checked: Checked, name: str | None) -> ModelDeployment:
    found = [md for _, md in checked.deployments if name in (None, md.metadata.name)]
    if len(found) == 1:
        return found[0]
    if any(finding.level == "error" for finding in checked.findings):
        click.echo(as_table(checked), err=True, nl=False)
        raise RunError("the manifests have errors, see above")
    names = ", ".join(md.metadata.name for _, md in checked.deployments) or "none"
    raise RunError(f"one ModelDeployment is wanted; the files hold {names}. Choose with --name, or add a file with -f")


def _governing(checked: Checked, documents: Sequence[Document], md: ModelDeployment) -> list[dict[str, Any]]:
    """The policies that have a say about the model, as the controller would find them."""
    namespace = namespace_of(md)
    labels = {"kubernetes.io/metadata.name": namespace}
    for document in documents:
        if (document.kind, document.name) == ("Namespace", namespace):
            labels |= document.data.get("metadata", {}).get("labels") or {}
    verdict = judge(Review(canonical(md), None, namespace, labels, datetime.now(UTC)), checked.policies)
    return [policy for policy in checked.policies if policy_name(policy) in verdict.policies]


def _uncounted(policies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The policies without spec.audit: what is counted for auditors, the controller collects, and here is none."""
    if any(policy["spec"].get("audit") for policy in policies):
        click.echo("modelward: nothing is counted for auditors here: a controller would collect it", err=True)
    return [{**one, "spec": {key: value for key, value in one["spec"].items() if key != "audit"}} for one in policies]


def _refuse(checked: Checked, not_honoured: Sequence[str], force: bool) -> None:
    """Stop where `check` would, and where a declared protection would not be there."""
    refused = bool(checked.count("error", "violation"))
    if refused:
        click.echo(as_table(checked), err=True, nl=False)
    for field in not_honoured:
        click.echo(f"modelward: declared, and not honoured by this version: {field}", err=True)
    if (refused or not_honoured) and not force:
        click.echo("modelward: not started; mend what is said above, or use --force on this machine", err=True)
        sys.exit(1)


def _references(
    documents: Sequence[Document], md: ModelDeployment, baseline: Path | None, plaintext: bool
) -> References:
    """The ConfigMaps and Secrets among the files that the sidecar needs; a baseline file takes the place of its own."""
    found: dict[str, dict[str, Any]] = {"ConfigMap": {}, "Secret": {}}
    for document in documents:
        metadata = document.data.get("metadata")
        place = metadata.get("namespace", "default") if isinstance(metadata, dict) else ""
        if document.kind in found and place == namespace_of(md):
            found[document.kind][document.name] = document.data
    declared = md.spec.monitoring.baseline if md.spec.monitoring else None
    reference = baseline_reference(declared) if declared else None
    if baseline is not None and reference is not None:
        key = "binaryData" if reference.kind == "ConfigMap" else "data"
        found[reference.kind][reference.name] = {key: {BASELINE_KEY: base64.b64encode(baseline.read_bytes()).decode()}}
    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    if in_transit and in_transit.mode == "MutualTLS" and not in_transit.client_ca_secret_name and not plaintext:
        raise RunError(
            "MutualTLS trusts modelward's own authority, which is in the cluster alone: name a Secret with ca.crt in "
            "spec.encryption.inTransit.clientCASecretName and add it with -f, or try --plaintext"
        )
    if any(issuer.service_accounts for issuer in (md.spec.access.issuers if md.spec.access else ())):
        raise RunError(
            "service accounts' keys are in the cluster alone: write them to a file with `kubectl get --raw"
            " /openid/v1/jwks`, and name a ConfigMap with it in jwksConfigMapName"
        )
    fits = declared is not None and declared.dataset is not None
    if fits and baseline is None:
        raise RunError(
            "spec.monitoring.baseline.dataset: a Job of the cluster's fits it; fit one here with `modelward fit` and"
            " give --baseline"
        )
    references = References(
        found["ConfigMap"],
        found["Secret"],
        "none: in plaintext nobody shows a certificate",
        hierarchies_among(document.data for document in documents),
        baseline.read_bytes() if fits and baseline is not None else None,
    )
    # What the model's own container needs is not wanted here: it runs already.
    wanted = tuple(one for one in references_of(md) if not one.field.startswith("spec.model."))
    missing = references.missing(wanted)
    if missing:
        first = missing[0]
        hint = " or --baseline" if first.key == BASELINE_KEY else ""
        raise RunError(
            f"{first.field}: no {first.kind} {first.name} with {first.key} among the files; add it with -f{hint}"
        )
    return references


def _settings(
    md: ModelDeployment,
    policies: Sequence[dict[str, Any]],
    references: References,
    upstream: str,
    grpc: tuple[str, int] | None,
) -> Config:
    from modelward.sidecar import config  # noqa: PLC0415

    url = urlsplit(upstream)
    try:
        port = url.port or 80
    except ValueError:
        port = 0
    if url.scheme != "http" or url.hostname not in _LOOPBACK or not port or url.path.strip("/") or url.query:
        raise RunError(f"--upstream {upstream}: give http://127.0.0.1:<port>; the model is asked in plain HTTP")
    if grpc is not None and (grpc[0] != url.hostname or not grpc[1]):
        raise RunError(f"--grpc-upstream: give {url.hostname}:<port>; the model server is one, and asked in plain text")
    if grpc is not None and protocol_of(md) != "v2":
        raise RunError("--grpc-upstream is for a model of the protocol v2: v1 has no gRPC")
    # On this machine its user decides where to connect to, and has decided by the manifest.
    document = sidecar_config(md, policies, references, port, access=trusting(md))
    document["upstream"] |= {"host": url.hostname, "port": port}
    if grpc is not None:
        document["upstream"]["grpcPort"] = grpc[1]
    return config.parse(json.dumps(document).encode())


def _baseline(md: ModelDeployment, references: References) -> bytes | None:
    declared = md.spec.monitoring.baseline if md.spec.monitoring else None
    reference = baseline_reference(declared) if declared else None
    return references.content(reference.kind, reference.name, reference.key) if reference else references.fitted


def _certificate(md: ModelDeployment, references: References, directory: Path) -> Certificate:
    """The certificate that the manifests name, or one by an authority that is made now and forgotten."""
    from modelward.controller import certificates  # noqa: PLC0415 - slow to import
    from modelward.sidecar.setup import Certificate  # noqa: PLC0415

    in_transit = md.spec.encryption.in_transit if md.spec.encryption else None
    directory.mkdir(parents=True, exist_ok=True)
    files = Certificate(directory / "tls.crt", directory / "tls.key")
    if in_transit and in_transit.secret_name:
        chain = references.content("Secret", in_transit.secret_name, "tls.crt")
        key = references.content("Secret", in_transit.secret_name, "tls.key")
    else:
        now = datetime.now(UTC)
        authority = certificates.new_authority(now)
        names = ("localhost", *host_names(namespace_of(md), md.metadata.name))
        pair = certificates.issue(authority, names, now)
        chain, key = pair.chain, pair.key
        (directory / "ca.crt").write_bytes(authority.bundle)
    files.key.touch(mode=0o600)
    files.key.write_bytes(key or b"")
    files.certificate.write_bytes(chain or b"")
    return files


def _announce(
    settings: Config,
    upstream: str,
    listen: tuple[str, int],
    grpc_listen: tuple[str, int],
    monitor: tuple[str, int],
    certificate: Certificate | None,
) -> None:
    scheme = "https" if certificate else "http"
    host = "localhost" if listen[0] in _LOOPBACK else listen[0]
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
