"""What `modelward report` reads: a cluster through kubectl, or manifests; and access logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.printable import printable
from modelward.api.validate import SchemaError, canonical, is_ours, parse
from modelward.cli.files import read_all
from modelward.cli.kubectl import KubectlError
from modelward.logchain import split, verify
from modelward.reporting.document import Scope
from modelward.reporting.log import LogReader
from modelward.reporting.sources import Sources
from modelward.rules.check import baseline_policy, who

Ask = Callable[..., str]
_CHUNK = 1 << 20
_POLICIES = ("datapolicies.modelward.io", "clusterdatapolicies.modelward.io")
_EVENT_SOURCES = ("modelward-controller", "modelward-admission")


def from_cluster(ask: Ask, namespace: str | None, now: datetime) -> Sources:
    """Read a cluster. Secrets are not asked for; what may not be read beside the models is noted.

    Raises:
        KubectlError: the models cannot be read.
    """
    scope = ("--namespace", namespace) if namespace else ("--all-namespaces",)
    models = _items(ask("get", "modeldeployments.modelward.io", *scope, "--output", "json"))
    notes: list[str] = []

    def optional(what: str, *arguments: str) -> list[dict[str, Any]] | None:
        try:
            return _items(ask("get", *arguments, "--output", "json"))
        except KubectlError as error:
            notes.append(f"{what} could not be read: {error}")
            return None

    own, cluster = (optional("policies", kind, *(scope if kind == _POLICIES[0] else ())) for kind in _POLICIES)
    events = [
        event
        for source in _EVENT_SOURCES
        for event in optional("Events", "events", *scope, "--field-selector", f"source={source}") or ()
    ]
    spaces = optional("namespaces, by whose labels the cluster's policies choose,", "namespaces")
    return Sources(
        scope=Scope(source="cluster", name=_context(ask), namespace=namespace),
        now=now,
        models=models,
        policies=[*(cluster or ()), *(own or ())],
        namespaces=None if spaces is None else {one["metadata"]["name"]: one for one in spaces},
        events=events,
        notes=notes,
    )


def from_files(files: Sequence[Path], namespace: str | None, now: datetime) -> Sources:
    """Read manifests: models, policies and Namespaces; the policy `baseline` is added where they have none."""
    reading = read_all(files)
    errors = [str(error) for error in reading.errors]
    models, policies, namespaces = [], [], {}
    for document in reading.documents:
        if document.kind == "Namespace":
            namespaces[document.name] = document.data
        if not is_ours(document.data):
            continue
        try:
            resource = parse(document.data)
        except SchemaError as error:
            errors.append(f"{document.source}: {who(document)}: {printable(str(error))[:500]}")
            continue
        stored = canonical(resource)
        stored["metadata"].setdefault("namespace", "default")
        if not isinstance(resource, ModelDeployment):
            policies.append(stored)
        elif namespace in (None, stored["metadata"]["namespace"]):
            models.append(stored)
    if not any((one["kind"], one["metadata"]["name"]) == ("ClusterDataPolicy", "baseline") for one in policies):
        policies.insert(0, baseline_policy())
    return Sources(
        scope=Scope(source="files", name=", ".join(map(str, files)), namespace=namespace),
        now=now,
        models=models,
        policies=policies,
        namespaces=namespaces,
        errors=errors,
        notes=[f"not in this report: {error}" for error in errors],
    )


def read_logs(logs: Sequence[IO[bytes]], sources: Sources) -> Sources:
    """Add what access logs tell of the models, and whether their chains hold."""
    models = {f"{one['metadata'].get('namespace') or 'default'}/{one['metadata']['name']}" for one in sources.models}
    incidents, consumed, notes = list(sources.logged), list(sources.consumed), list(sources.notes)
    for log in logs:
        # A log without its first line says not whose it is; with one model there is no doubt.
        reader = LogReader(next(iter(models))) if len(models) == 1 else LogReader()
        verdict = verify(reader.watch(split(_chunks(log))))
        if verdict.begins_at is None:
            notes.append(f"{log.name} is no access log of modelward: not one line with a number and a chain")
            continue
        if verdict.findings:
            first = verdict.findings[0]
            notes.append(
                f"{log.name} is not as the sidecar wrote it (line {first.line}: {first.message}): what it tells may be"
                " false; `modelward verify-log` has the rest"
            )
        if reader.left_out:
            notes.append(f"{log.name}: {reader.left_out:,} lines are not counted, for want of room")
        incidents += reader.incidents
        consumed += [one for one in reader.consumed if one.model in models]
    names = tuple(Path(log.name).name for log in logs)
    return replace(sources, scope=_with_logs(sources.scope, names), logged=incidents, consumed=consumed, notes=notes)


def _with_logs(scope: Scope, names: tuple[str, ...]) -> Scope:
    return Scope(source=scope.source, name=scope.name, namespace=scope.namespace, logs=names)


def _chunks(log: IO[bytes]) -> Iterator[bytes]:
    while chunk := log.read(_CHUNK):
        yield chunk


def _items(text: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(text).get("items", [])
    return items


def _context(ask: Ask) -> str:
    try:
        return ask("config", "current-context").strip()[:253] or "in use"
    except KubectlError:
        return "in use"
