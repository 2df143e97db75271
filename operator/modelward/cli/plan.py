"""`modelward plan`: the objects that the controller would make, without a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from modelward.api.manifest import ManifestError
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import references_of
from modelward.cli.files import read_paths
from modelward.cli.output import to_json, to_yaml, write_to
from modelward.planner.access import AccessSettings, ClusterIssuer, trusting
from modelward.planner.dataset import DatasetError
from modelward.planner.fit_job import fit_job, fit_network_policy, fit_secret
from modelward.planner.fit_request import dataset_of, fit_request, fitted_in_cluster
from modelward.planner.names import namespace_of
from modelward.planner.observation import Observation, Obstacle
from modelward.planner.plan import Material, Settings, plan
from modelward.planner.references import References
from modelward.planner.rollout import sharing
from modelward.planner.secret import ServingCertificate
from modelward.planner.security_test import (
    security_test_job,
    security_test_network_policy,
    security_test_secret,
)
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.status import withheld
from modelward.planner.target import Target, identity, target
from modelward.planner.target_marks import marked
from modelward.planner.tested import LastTest, asked_of
from modelward.planner.unsupported import unsupported
from modelward.privacy.hierarchy import HierarchyError
from modelward.rules.check import Checked, check
from modelward.rules.judge import policy_name
from modelward.securitytest import Request

_ISSUED = "<issued in the cluster, never known outside>"
_OF_THE_CLUSTER = "<read from the API server>"
_SIGNED = "<signed by the controller>"
_A_POD = "<the address of a ready pod>"


class _NoPlanError(Exception):
    """Nothing can be planned; with the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@click.command("plan", help="Print the objects that the controller would make of the ModelDeployments in these files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", help="Format.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def command(files: tuple[Path, ...], output: str, out: Path | None) -> None:
    """Print what would be made; exit 1 when nothing would be, 2 when something cannot be read.

    Policies, ConfigMaps, Secrets and Namespaces among the files are used. Certificates and signatures are shown as
    placeholders.
    """
    try:
        objects = _objects(files)
        text = to_json(objects) if output == "json" else "---\n".join(map(to_yaml, objects))
        if out is None:
            click.echo(text, nl=False)
        else:
            write_to(out, text)
    except _NoPlanError as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(error.code)
    except (ManifestError, SidecarConfigError, OSError) as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)


def _objects(files: tuple[Path, ...]) -> list[dict[str, Any]]:
    documents = read_paths(list(files))
    checked = check(documents)
    for finding in checked.findings:
        if finding.level == "error":
            where = f"{finding.source}:{finding.line}: {finding.object}"
            raise _NoPlanError(f"{where}: {finding.field}: {finding.message}", 2)
    if not checked.deployments:
        raise _NoPlanError("no ModelDeployment in these files", 2)
    items = [document.data for document in documents]
    return [item for _, md in checked.deployments for item in _planned(md, checked, items)]


def _planned(md: ModelDeployment, checked: Checked, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    who = f"{namespace_of(md)}/{md.metadata.name}"
    if who not in checked.passed:
        raise _NoPlanError(f"{who} would be refused: `modelward check` says why", 1)
    policies = [one for one in checked.policies if policy_name(one) in checked.governing[who]]
    fields = unsupported(md, policies)
    if fields:
        raise _NoPlanError(f"{who} declares what this version does not honour: {', '.join(fields)}", 1)
    references = References.among(objects, namespace_of(md))
    missing = references.missing(references_of(md))
    if missing:
        raise _NoPlanError(f"{who}: {'; '.join(map(references.lack, missing))}: name its file as well", 2)
    material = Material(ServingCertificate(b"", b"", b""), sign=lambda _: b"", keys=_ISSUED.encode())
    settings = Settings("modelward-sidecar", config_key="", access=_access(md), jobs_image="modelward-jobs")
    fitting = _fitting(md, policies, references, settings) if fitted_in_cluster(md) else []
    if fitting:
        references = replace(references, fitted=_ISSUED.encode())
    found = _target(md, objects, settings)
    test = LastTest(asked_of(md, policies))  # which has not run: a gate keeps callers away until it has passed
    planned = plan(
        md,
        policies,
        references,
        material,
        settings,
        withheld=withheld(md, Observation(test=test)),
        port=found.port if found else None,
        replicas=sharing(found.item) if found else None,
    )
    workload = [marked(found.item, found.labels)] if found else []
    testing = _testing(md, test, settings) if test.asked else []
    return [*map(_shown, [*fitting, *planned.objects, *testing]), *workload]


def _testing(md: ModelDeployment, test: LastTest, settings: Settings) -> list[dict[str, Any]]:
    """The Job of the first security test, and what goes with it, as soon as a pod is ready."""
    who, suite = f"{namespace_of(md)}/{md.metadata.name}", test.asked.suite if test.asked else ""
    request = Request(who, _OF_THE_CLUSTER, suite, _OF_THE_CLUSTER, _OF_THE_CLUSTER, "first")
    return [
        security_test_network_policy(md),
        security_test_secret(md, ServingCertificate(b"", b"", b"")),
        security_test_job(md, request, _A_POD, settings.jobs_image, settings.config_key),
    ]


def _fitting(
    md: ModelDeployment, policies: Sequence[dict[str, Any]], references: References, settings: Settings
) -> list[dict[str, Any]]:
    """The Job that fits the model's baseline, and what goes with it."""
    try:
        request, dataset = fit_request(md, policies, references), dataset_of(md)
    except (DatasetError, HierarchyError) as error:
        raise _NoPlanError(f"spec.monitoring.baseline.dataset: {error}", 1) from error
    datasets = settings.access.datasets
    return [
        fit_network_policy(md, request, datasets),
        fit_secret(md, request, ServingCertificate(b"", b"", b""), datasets),
        fit_job(md, request, dataset, settings.jobs_image, settings.config_key),
    ]


def _target(md: ModelDeployment, objects: list[dict[str, Any]], settings: Settings) -> Target | None:
    """The workload that is protected, None where modelward runs the model itself."""
    ref = md.spec.target_ref
    if ref is None:
        return None
    named = (ref.api_version, ref.kind, namespace_of(md), ref.name)
    item = next((one for one in objects if identity(one) == named), None)
    if item is None:
        raise _NoPlanError(f"{ref.kind} {ref.name}, which spec.targetRef names, is not there: name its file as well", 2)
    found = target(md, ref, item, settings)
    if isinstance(found, Obstacle):
        raise _NoPlanError(found.message, 1)
    return found


def _access(md: ModelDeployment) -> AccessSettings:
    """What an installation that lets this model in knows of its issuers."""
    issuers = md.spec.access.issuers if md.spec.access else ()
    own = (ClusterIssuer(issuer=one.issuer, jwks={"keys": _OF_THE_CLUSTER}) for one in issuers if one.service_accounts)
    return msgspec.structs.replace(trusting(md), cluster=next(own, None))


def _shown(item: dict[str, Any]) -> dict[str, Any]:
    """Put placeholders where the cluster puts what only it has."""
    if item["kind"] == "Secret":
        plain = {key: value for key, value in item.items() if key != "data"}
        return {**plain, "stringData": dict.fromkeys(item["data"], _ISSUED)}
    if item["kind"] == "ConfigMap":
        return {**item, "data": {**item["data"], "config.sig": _SIGNED}}
    return item
