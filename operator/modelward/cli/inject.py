"""`modelward inject`: a pod or workload with its sidecar, as the webhook would make it, without a cluster."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import click

from modelward.api.manifest import Document, ManifestError, dotted
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import SchemaError, is_ours, parse
from modelward.cli.files import read_paths
from modelward.cli.output import to_json, to_yaml, write_to
from modelward.planner.injection import InjectionError, inject
from modelward.planner.names import namespace_of
from modelward.planner.observation import Obstacle
from modelward.planner.plan import Settings
from modelward.planner.sidecar import MODEL_LABEL
from modelward.planner.target import identity, target
from modelward.planner.target_marks import marked

_TEMPLATE = ("spec", "template")
_PODS: dict[tuple[str, str], tuple[str, ...]] = {
    ("v1", "Pod"): (),
    ("apps/v1", "Deployment"): _TEMPLATE,
    ("apps/v1", "StatefulSet"): _TEMPLATE,
    ("apps/v1", "DaemonSet"): _TEMPLATE,
    ("apps/v1", "ReplicaSet"): _TEMPLATE,
    ("batch/v1", "Job"): _TEMPLATE,
    ("batch/v1", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod, or the pod template, of each kind is."""


def _config_key(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        size = len(base64.b64decode(value, validate=True))
    except ValueError:
        size = 0
    if size != 32:
        raise click.BadParameter("not the base64 of a raw Ed25519 public key (32 bytes)")
    return value


@click.command("inject", help="Print the pods and workloads of FILES (- for standard input) with their sidecar.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--image", required=True, help="Image of the sidecar, by digest.")
@click.option(
    "--config-key",
    required=True,
    callback=_config_key,
    help="Public key that sidecar configurations are signed with, in base64. A cluster has both in"
    " `kubectl -n modelward-system get configmap modelward-sidecar -o yaml`.",
)
@click.option("--model", help="The ModelDeployment of pods that name none by label or annotation.")
@click.option("-o", "output", type=click.Choice(["yaml", "json"]), default="yaml", help="Format.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file.")
def command(
    files: tuple[Path, ...], image: str, config_key: str, model: str | None, output: str, out: Path | None
) -> None:
    """Print every document, pods with their sidecar: exit 1 when one cannot be protected, 2 when it cannot be read."""
    try:
        documents = read_paths(files)
        objects, refusals = _injected(documents, image, config_key, model)
        if refusals:
            click.echo("\n".join(refusals), err=True)
            sys.exit(1)
        text = _json(objects) if output == "json" else "---\n".join(map(to_yaml, objects))
        if out is None:
            click.echo(text, nl=False)
        else:
            write_to(out, text)
    except (ManifestError, SchemaError, OSError, UnicodeDecodeError) as error:
        click.echo(f"modelward: {error}", err=True)
        sys.exit(2)


def _injected(
    documents: list[Document], image: str, config_key: str, model: str | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The documents with their sidecars, and what stands in the way, a line each."""
    protected, refusals = _protected(documents, Settings(image, config_key))
    objects, found = [], bool(protected or refusals)
    for index, document in enumerate(documents):
        item = protected.get(index, document.data)
        path = _PODS.get((document.api_version, document.kind))
        if path is None or index in refusals:
            objects.append(item)
            continue
        found = True
        try:
            pod = _at(item, path)
            objects.append(_with(item, path, inject(_named(pod, model), image=image, config_key=config_key)))
        except InjectionError as error:
            where = f"{document.source}:{document.line(path)}: {document.kind} {document.name}"
            refusals[index] = [f"{where}: {reason}" for reason in error.reasons]
    if not found:
        kinds = ", ".join(kind for _, kind in _PODS)
        click.echo(f"modelward: nothing here has pods; passed on as it is (known: {kinds})", err=True)
    return objects, [line for lines in refusals.values() for line in lines]


def _protected(documents: list[Document], settings: Settings) -> tuple[dict[int, dict[str, Any]], dict[int, list[str]]]:
    """Workloads that a ModelDeployment among the documents names, marked, and why others cannot be; by place."""
    workloads, refusals = {}, {}
    resources = [parse(one.data) for one in documents if is_ours(one.data) and one.kind == "ModelDeployment"]
    for md in resources:
        ref = md.spec.target_ref if isinstance(md, ModelDeployment) else None
        if ref is None or not isinstance(md, ModelDeployment):
            continue
        named = (ref.api_version, ref.kind, namespace_of(md), ref.name)
        for index, document in enumerate(documents):
            if identity(document.data) != named:
                continue
            found = target(md, ref, document.data, settings)
            if isinstance(found, Obstacle):
                refusals[index] = [f"{document.source}:{document.line(())}: {found.message}"]
            else:
                workloads[index] = marked(found.item, found.labels)
    return workloads, refusals


def _at(item: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for step in path:
        inner = item.get(step)
        if not isinstance(inner, dict):
            raise InjectionError([f"{dotted(path)} is not there. Fix: give the workload its pod template"])
        item = inner
    return item


def _with(item: dict[str, Any], path: tuple[str, ...], pod: dict[str, Any]) -> dict[str, Any]:
    if not path:
        return pod
    return {**item, path[0]: _with(item[path[0]], path[1:], pod)}


def _named(pod: dict[str, Any], model: str | None) -> dict[str, Any]:
    """The pod with the label that names its model; a name that differs from the pod's own is for `inject` to refuse."""
    metadata = pod.get("metadata") or {}
    labels = metadata.get("labels") or {} if isinstance(metadata, dict) else None
    if model is None or not isinstance(labels, dict) or MODEL_LABEL in labels:
        return pod
    return {**pod, "metadata": {**metadata, "labels": {**labels, MODEL_LABEL: model}}}


def _json(objects: list[dict[str, Any]]) -> str:
    return to_json(objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": objects})
