"""What `modelward report` reads: a cluster through kubectl, or manifests; and access logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from modelward.cli.kubectl import KubectlError, items
from modelward.cli.lineage_sources import Known, look_up, read_manifests
from modelward.lineage.answered import Answered
from modelward.logchain import chunks, split, verify
from modelward.reporting.document import Scope
from modelward.reporting.log import Happened
from modelward.reporting.sources import Sources
from modelward.rules.judge import policy_name

Ask = Callable[..., str]
_POLICIES = ("datapolicies.modelward.io", "clusterdatapolicies.modelward.io")
_EVENT_SOURCES = ("modelward-controller", "modelward-admission")


def from_cluster(ask: Ask, namespace: str | None, now: datetime) -> Sources:
    """Read a cluster. Secrets are not asked for; what may not be read beside the models is noted.

    Raises:
        KubectlError: the models cannot be read.
    """
    scope = ("--namespace", namespace) if namespace else ("--all-namespaces",)
    models = items(ask("get", "modeldeployments.modelward.io", *scope, "--output", "json"))
    notes: list[str] = []

    def optional(what: str, *arguments: str) -> list[dict[str, Any]] | None:
        try:
            return items(ask("get", *arguments, "--output", "json"))
        except KubectlError as error:
            notes.append(f"{what} could not be read: {error}")
            return None

    own, cluster = (optional("policies", kind, *(scope if kind == _POLICIES[0] else ())) for kind in _POLICIES)
    events = [
        event
        for source in _EVENT_SOURCES
        for event in optional("Events", "events", *scope, "--field-selector", f"source={source}") or ()
    ]
    policies = [*(cluster or ()), *(own or ())]
    known = Known(models=list(models), policies={policy_name(one): one for one in policies}, notes=notes)
    look_up(ask, known)
    spaces = optional("namespaces, by whose labels the cluster's policies choose,", "namespaces")
    return Sources(
        scope=Scope(source="cluster", name=_context(ask), namespace=namespace),
        now=now,
        models=models,
        policies=policies,
        namespaces=None if spaces is None else {one["metadata"]["name"]: one for one in spaces},
        events=events,
        dependencies=known.signed()[1],
        consumed=known.consumed,
        notes=notes,
    )


def from_files(files: Sequence[Path], namespace: str | None, now: datetime) -> Sources:
    """Read manifests: models, policies and Namespaces; the policy `baseline` is added where they have none."""
    known, documents = read_manifests(files)
    models = [one for one in known.models if namespace in (None, one["metadata"].get("namespace") or "default")]
    return Sources(
        scope=Scope(source="files", name=", ".join(map(str, files)), namespace=namespace),
        now=now,
        models=models,
        policies=list(known.policies.values()),
        namespaces={one.name: one.data for one in documents if one.kind == "Namespace"},
        dependencies=known.signed()[1],
        consumed=known.consumed,
        errors=known.errors,
        notes=[*known.notes, *(f"not in this report: {error}" for error in known.errors)],
    )


def read_logs(logs: Sequence[IO[bytes]], sources: Sources) -> Sources:
    """Add what access logs tell of the models, and whether their chains hold."""
    models = {f"{one['metadata'].get('namespace') or 'default'}/{one['metadata']['name']}" for one in sources.models}
    incidents, consumed, notes = list(sources.logged), list(sources.consumed), list(sources.notes)
    for log in logs:
        # A log without its first line says not whose it is; with one model there is no doubt.
        whose = (next(iter(models)),) if len(models) == 1 else ()
        happened, answered = Happened(*whose), Answered(*whose)
        verdict = verify(answered.watch(happened.watch(split(chunks(log)))))
        if verdict.begins_at is None:
            notes.append(f"{log.name} is no access log of modelward: not one line with a number and a chain")
            continue
        if verdict.findings:
            first = verdict.findings[0]
            notes.append(
                f"{log.name} is not as the sidecar wrote it (line {first.line}: {first.message}): what it tells may be"
                " false; `modelward verify-log` has the rest"
            )
        if uncounted := happened.left_out + answered.left_out + answered.homeless:
            notes.append(f"{log.name}: {uncounted:,} lines are not counted: there are too many, or nothing says whose")
        incidents += happened.incidents
        consumed += [one for one in answered.consumed if one.model in models]
    names = tuple(Path(log.name).name for log in logs)
    return replace(sources, scope=_with_logs(sources.scope, names), logged=incidents, consumed=consumed, notes=notes)


def _with_logs(scope: Scope, names: tuple[str, ...]) -> Scope:
    return Scope(source=scope.source, name=scope.name, namespace=scope.namespace, logs=names)


def _context(ask: Ask) -> str:
    try:
        return ask("config", "current-context").strip()[:253] or "in use"
    except KubectlError:
        return "in use"
