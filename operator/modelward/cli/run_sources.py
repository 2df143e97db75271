"""What `modelward run` sets its sidecar up from: manifests and files, in place of a cluster."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from modelward.api.manifest import Document
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import BASELINE_KEY, baseline_reference, references_of
from modelward.api.validate import canonical
from modelward.cli.findings import as_table
from modelward.planner.access import trusting
from modelward.planner.names import host_names, namespace_of
from modelward.planner.references import References, hierarchies_among
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.upstream import protocol_of
from modelward.rules.check import Checked
from modelward.rules.judge import Review, judge, policy_name

if TYPE_CHECKING:
    from modelward.sidecar.config import Config
    from modelward.sidecar.setup import Certificate

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RunError(Exception):
    """What keeps the sidecar from running here, and what would mend it."""


def chosen(checked: Checked, name: str | None) -> ModelDeployment:
    """The ModelDeployment of that name, or the only one. Raises RunError."""
    found = [md for _, md in checked.deployments if name in (None, md.metadata.name)]
    if len(found) == 1:
        return found[0]
    if any(finding.level == "error" for finding in checked.findings):
        click.echo(as_table(checked), err=True, nl=False)
        raise RunError("the manifests have errors, see above")
    names = ", ".join(md.metadata.name for _, md in checked.deployments) or "none"
    raise RunError(f"one ModelDeployment is wanted; the files hold {names}. Choose with --name, or add a file with -f")


def governing(checked: Checked, documents: Sequence[Document], md: ModelDeployment) -> list[dict[str, Any]]:
    """The policies that have a say about the model, as the controller would find them."""
    namespace = namespace_of(md)
    labels = {"kubernetes.io/metadata.name": namespace}
    for document in documents:
        if (document.kind, document.name) == ("Namespace", namespace):
            labels |= document.data.get("metadata", {}).get("labels") or {}
    verdict = judge(Review(canonical(md), None, namespace, labels, datetime.now(UTC)), checked.policies)
    return [policy for policy in checked.policies if policy_name(policy) in verdict.policies]


def uncounted(policies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The policies without spec.audit: what is counted for auditors, the controller collects, and here is none."""
    if any(policy["spec"].get("audit") for policy in policies):
        click.echo("modelward: nothing is counted for auditors here: a controller would collect it", err=True)
    return [{**one, "spec": {key: value for key, value in one["spec"].items() if key != "audit"}} for one in policies]


def refuse_broken(checked: Checked, not_honoured: Sequence[str], force: bool) -> None:
    """Stop where `check` would, and where a declared protection would not be there."""
    refused = bool(checked.count("error", "violation"))
    if refused:
        click.echo(as_table(checked), err=True, nl=False)
    for field in not_honoured:
        click.echo(f"modelward: declared, and not honoured by this version: {field}", err=True)
    if (refused or not_honoured) and not force:
        click.echo("modelward: not started; mend what is said above, or use --force on this machine", err=True)
        sys.exit(1)


def references_among(
    documents: Sequence[Document], md: ModelDeployment, baseline: Path | None, plaintext: bool
) -> References:
    """The ConfigMaps and Secrets among the files that the sidecar needs; a baseline file takes the place of its own."""
    _check_that_it_is_here(md, plaintext)
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


def _check_that_it_is_here(md: ModelDeployment, plaintext: bool) -> None:
    """Raise RunError for what no file holds, the cluster alone."""
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


def settings_of(
    md: ModelDeployment,
    policies: Sequence[dict[str, Any]],
    references: References,
    upstream: str,
    grpc: tuple[str, int] | None,
) -> Config:
    """The sidecar's configuration for a model server at the URL `upstream`, and at `grpc` for gRPC.

    Raises:
        RunError: the model server's addresses cannot be used.
        SidecarConfigError: something that the manifests name cannot be used.
        ConfigError: the configuration that comes of them cannot be used.
    """
    from modelward.sidecar import config  # noqa: PLC0415

    url = urlsplit(upstream)
    try:
        port = url.port or 80
    except ValueError:
        port = 0
    if url.scheme != "http" or url.hostname not in LOOPBACK or not port or url.path.strip("/") or url.query:
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


def baseline_of(md: ModelDeployment, references: References) -> bytes | None:
    """The baseline's content, referred to or given; None: the model has none."""
    declared = md.spec.monitoring.baseline if md.spec.monitoring else None
    reference = baseline_reference(declared) if declared else None
    return references.content(reference.kind, reference.name, reference.key) if reference else references.fitted


def given_certificate(
    listen: Sequence[tuple[str, int]], plaintext: bool, certificate: Path | None, key: Path | None
) -> Certificate | None:
    """The certificate whose files are given; None: none are. Raises RunError where options do not go together."""
    from modelward.sidecar.setup import Certificate  # noqa: PLC0415

    if plaintext and any(host not in LOOPBACK for host, _ in listen):
        raise RunError("--plaintext is for the loopback address; give --listen and --grpc-listen 127.0.0.1:<port>")
    if bool(certificate) != bool(key):
        raise RunError("--tls-cert and --tls-key belong together")
    return Certificate(certificate, key) if certificate and key else None


def certificate_of(md: ModelDeployment, references: References, directory: Path) -> Certificate:
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
