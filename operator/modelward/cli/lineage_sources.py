"""What `modelward lineage` reads: a cluster through kubectl, or manifests; and access logs, whose chains are tried."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from modelward.api.lineage import Place, places
from modelward.api.manifest import Document
from modelward.api.printable import printable
from modelward.api.validate import canonical
from modelward.cli.files import read_all
from modelward.cli.kubectl import KubectlError, items
from modelward.lineage.answered import Answered
from modelward.lineage.build import Consumed, build, model_name
from modelward.lineage.bundle import SUFFIXES
from modelward.lineage.graph import Graph, Use
from modelward.logchain import chunks, split, verify
from modelward.planner.consumers import MAX_LISTED, Record, own_record, read_record, record_name
from modelward.planner.references import References
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.planner.signatures import asks_for_signatures, signatures, trust_names
from modelward.rules.check import check
from modelward.rules.judge import policy_name

Ask = Callable[..., str]
Object = Mapping[str, Any]
_MAX_LOOKED_UP = 200  # objects of a cluster that are asked for one by one
_MAX_TOLD = 5


@dataclass
class Known:
    """Everything that was read.

    Attributes:
        models: ModelDeployments as the API server stores them.
        policies: by name, such as `DataPolicy/clinic/clinic`.
        governing: names of the policies that govern a model, by `namespace/name`; those in its status where it is not.
        objects: ConfigMaps and Secrets.
        consumed: answers that logs and the controller's records tell of, beyond what the status does.
        notes: what could not be read, a sentence each.
        findings: what does not hold, likewise.
        errors: what had to be readable and is not, likewise.
    """

    models: list[Object] = field(default_factory=list)
    policies: dict[str, dict[str, Any]] = field(default_factory=dict)
    governing: dict[str, Sequence[str]] = field(default_factory=dict)
    objects: list[Object] = field(default_factory=list)
    consumed: list[Consumed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def lineage(self) -> tuple[Graph, dict[str, tuple[str, ...]]]:
        """Return the graph, and who signed for a digest."""
        signers, dependencies = self.signed()
        graph = build(
            self.models,
            self.policies,
            governing=self.governing,
            dependencies=dependencies,
            consumed=self.consumed,
        )
        return graph, signers

    def signed(self) -> tuple[dict[str, tuple[str, ...]], dict[str, set[str]]]:
        """Return who signed for a digest, and by the statements that hold, what each digest was made from."""
        signers: dict[str, dict[str, None]] = {}
        dependencies: dict[str, set[str]] = {}
        for model in self.models:
            statements = (model.get("status", {}).get("lineage") or {}).get("statements") or []
            for one in [*statements, *self._verified(model, dependencies)]:
                signers.setdefault(one["digest"], {})[one["signer"]] = None
        return {digest: tuple(names) for digest, names in signers.items()}, dependencies

    def _verified(self, model: Object, dependencies: dict[str, set[str]]) -> list[dict[str, str]]:
        """The statements about a model that are among the objects and by whom a policy accepts."""
        metadata = model["metadata"]
        annotations = metadata.get("annotations") or {}
        names = self.governing.get(model_name(model), model.get("status", {}).get("policies") or ())
        asking = [
            self.policies[one] for one in names if one in self.policies and asks_for_signatures(self.policies[one])
        ]
        if not asking or not places(annotations):
            return []
        references = References.among(self.objects, metadata.get("namespace") or "default")
        try:
            found = signatures(annotations, asking, references, datetime.now(UTC))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "cryptography":
                raise
            self.notes.append("signed statements are not read without cryptography: pip install 'modelward[sidecar]'")
            return []
        for made, sources in found.dependencies().items():
            dependencies.setdefault(made, set()).update(sources)
        statements: list[dict[str, str]] = found.status()["statements"]
        return statements


def from_files(files: Sequence[Path]) -> Known:
    """Read manifests: models, policies, and what they refer to. The policy `baseline` counts where they have none."""
    return read_manifests(files)[0]


def read_manifests(files: Sequence[Path]) -> tuple[Known, list[Document]]:
    """Return the same, and all that the files hold."""
    reading = read_all(files)
    checked = check(reading.documents)
    known = Known(errors=[str(error) for error in reading.errors])
    known.errors += [
        f"{one.source}:{one.line}: {one.object}: {one.message}" for one in checked.findings if one.level == "error"
    ]
    known.models = [canonical(md) for _, md in checked.deployments]
    known.policies = {policy_name(policy): policy for policy in checked.policies}
    known.governing = dict(checked.governing)
    known.objects = [one.data for one in reading.documents if one.kind in ("ConfigMap", "Secret")]
    for model in known.models:
        namespace = model["metadata"].get("namespace") or "default"
        name = record_name(model["metadata"]["name"])
        found = References.among(known.objects, namespace).config_maps.get(name)
        _add_record(known, model, read_record(dict(found) if found else None))
    return known, reading.documents


def from_cluster(ask: Ask, namespace: str | None, *, secrets: bool = False) -> Known:
    """Read a cluster. What may not be read beside the models is noted.

    Of Secrets those alone are asked for, where `secrets` says so, that a model names for its signed statements while a
    policy asks for such: each by its name.

    Models of all namespaces are read where that is allowed, or data that one hands to another would be lost sight of.

    Raises:
        KubectlError: no models can be read.
    """
    known = Known()
    scope: tuple[str, ...] = ("--all-namespaces",)
    try:
        known.models = list(items(ask("get", "modeldeployments.modelward.io", *scope, "--output", "json")))
    except KubectlError as error:
        if namespace is None:
            raise
        scope = ("--namespace", namespace)
        known.models = list(items(ask("get", "modeldeployments.modelward.io", *scope, "--output", "json")))
        known.notes.append(f"only the models of namespace {namespace} could be read: {error}")
    for kind, where in (("datapolicies.modelward.io", scope), ("clusterdatapolicies.modelward.io", ())):
        try:
            policies = items(ask("get", kind, *where, "--output", "json"))
        except KubectlError as error:
            known.notes.append(f"the {kind.partition('.')[0]} could not be read, by which fields are treated: {error}")
        else:
            known.policies |= {policy_name(policy): policy for policy in policies}
    look_up(ask, known, secrets=secrets)
    if not secrets and (kept := sorted({f"{place.name} of {where}" for where, place in _statements(known, "Secret")})):
        known.notes.append(
            f"signed statements are in Secret {', '.join(kept[:_MAX_TOLD])}, which is read with --secrets alone: who"
            " signed is the controller's word, and sources that only they name are missing"
        )
    return known


def read_logs(logs: Sequence[IO[bytes]], known: Known) -> None:
    """Add what access logs tell, each a chain of its own. Raises OSError."""
    names = {model_name(one) for one in known.models}
    for log in logs:
        # A log without its first line says not whose it is; with one model there is no doubt.
        reader = Answered(next(iter(names))) if len(names) == 1 else Answered()
        verdict = verify(reader.watch(split(chunks(log))))
        if verdict.begins_at is None:
            known.errors.append(f"{log.name} is no access log of modelward: not one line with a number and a chain")
            continue
        if verdict.findings:
            first = verdict.findings[0]
            known.findings.append(
                f"{log.name} is not as the sidecar wrote it (line {first.line}: {first.message}), so what it tells may"
                " be false; `modelward verify-log` has the rest"
            )
        if lost := verdict.dropped + verdict.failed:
            known.notes.append(f"{log.name}: the sidecar says that {lost:,} records are not in it")
        if reader.homeless:
            known.notes.append(
                f"{log.name}: {reader.homeless:,} answers are not counted, since its lines do not say of which model:"
                " give the files before it as well, or -f with that model alone"
            )
        if reader.left_out:
            known.notes.append(f"{log.name}: {reader.left_out:,} answers are not counted, for want of room")
        unknown = sorted({one.model for one in reader.consumed} - names)
        if unknown:
            known.notes.append(f"{log.name} is of {printable(', '.join(unknown))}, of which nothing else is known")
        known.consumed += reader.consumed


def look_up(ask: Ask, known: Known, *, secrets: bool = False) -> None:
    """Ask for the objects that models and policies name: statements, keys of signers, records of more consumers."""
    wanted: dict[tuple[str, Place], Object | None] = {}
    for where, place in _statements(known, "ConfigMap", *(("Secret",) if secrets else ())):
        wanted[where, place] = None
    for model in known.models:
        metadata, status = model["metadata"], model.get("status", {})
        trusted = trust_names(_asking(known, model))
        wanted.update({(SYSTEM_NAMESPACE, Place("ConfigMap", name)): None for name in trusted})
        if len((status.get("lineage") or {}).get("consumers") or ()) >= MAX_LISTED:
            wanted[metadata["namespace"], Place("ConfigMap", record_name(metadata["name"]))] = model
    if len(wanted) > _MAX_LOOKED_UP:
        known.notes.append(f"{len(wanted) - _MAX_LOOKED_UP} objects that models name were not read, for their number")
    for (namespace, place), recorded in list(wanted.items())[:_MAX_LOOKED_UP]:
        try:
            found = _object(ask, namespace, place)
        except KubectlError as error:
            known.notes.append(f"{place.kind} {place.name} of {namespace} could not be read: {error}")
            continue
        if recorded is not None:
            _add_record(known, recorded, own_record(dict(recorded), dict(found) if found else None))
        elif found is not None:
            known.objects.append(found)


def _add_record(known: Known, model: Object, record: Record) -> None:
    name = model_name(model)
    known.consumed += [
        Consumed(name, one.client, one.issuer, Use(one.purpose, one.first, one.last, one.requests))
        for one in record.consumers
    ]
    if gone := record.forgotten + record.others:
        known.notes.append(
            f"{name} answered more than are kept: {gone:,} consumers or answers are counted and not named"
        )


def _asking(known: Known, model: Object) -> list[dict[str, Any]]:
    """The policies that govern a model, as far as they are known."""
    return [known.policies[one] for one in model.get("status", {}).get("policies") or () if one in known.policies]


def _statements(known: Known, *kinds: str) -> Iterator[tuple[str, Place]]:
    """Where the signed statements are that policies ask for: the namespace, and the object in it."""
    for model in known.models:
        if any(map(asks_for_signatures, _asking(known, model))):
            named = places(model["metadata"].get("annotations") or {})
            yield from ((model["metadata"]["namespace"], place) for place in named if place.kind in kinds)


def _object(ask: Ask, namespace: str, place: Place) -> Object | None:
    kind = place.kind.lower()
    text = ask("get", kind, place.name, "--namespace", namespace, "--ignore-not-found", "--output", "json")
    found: dict[str, Any] | None = json.loads(text) if text.strip() else None
    if found and place.kind == "Secret":  # what else it holds is not for here
        found = {
            **found,
            "data": {key: one for key, one in (found.get("data") or {}).items() if key.endswith(SUFFIXES)},
        }
    return found
