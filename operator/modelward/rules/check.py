"""Judges the documents of manifest files: what `modelward check` and `modelward run` say before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

from modelward.api.base import Resource
from modelward.api.manifest import Document, FieldPath, read_documents
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import references_of
from modelward.api.validate import SchemaError, canonical, is_ours, parse
from modelward.rules.judge import Review, Violation, judge, merged, rule_problems

Level = Literal["error", "violation", "warning", "audit", "note"]
LEVELS: tuple[Level, ...] = ("error", "violation", "warning", "audit", "note")
_STEP = re.compile(r"([^.\[\]]+)(?:\[(?:(\d+)|([^\]]*))\])?\.?")


@dataclass(frozen=True)
class Finding:
    """Something to tell about a document: where it is, how grave, and how to mend it."""

    level: Level
    source: str
    line: int
    object: str
    rule: str
    field: str
    message: str
    fix: str = ""
    policy: str = ""


@dataclass(frozen=True)
class Checked:
    """What a check found, and the resources that it could read."""

    findings: tuple[Finding, ...]
    deployments: tuple[tuple[Document, ModelDeployment], ...] = ()
    policies: tuple[dict[str, Any], ...] = ()
    passed: tuple[str, ...] = ()
    """ModelDeployments without a violation, as `namespace/name`."""
    governing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The policies that govern each ModelDeployment, as `judge.policy_name` names them, by `namespace/name`."""

    def count(self, *levels: Level) -> int:
        """Return how many findings have one of these levels."""
        return sum(finding.level in levels for finding in self.findings)


@dataclass
class _State:
    findings: list[Finding] = field(default_factory=list)
    deployments: list[tuple[Document, ModelDeployment]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    references: set[tuple[str, str, str]] = field(default_factory=set)


@cache
def baseline_policy() -> dict[str, Any]:
    """Return the ClusterDataPolicy `baseline` that a fresh install ships, as the API server stores it."""
    text = (resources.files("modelward.rules") / "policies" / "baseline.yaml").read_text(encoding="utf-8")
    (document,) = read_documents(text, "baseline.yaml")
    return canonical(parse(document.data))


def _namespace(document: Document) -> str:
    metadata = document.data.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    return namespace if isinstance(namespace, str) and namespace else "default"


def _who(document: Document) -> str:
    cluster = document.kind in ("ClusterDataPolicy", "Namespace")
    return f"{document.kind} {document.name if cluster else f'{_namespace(document)}/{document.name}'}"


def check(documents: Sequence[Document], *, now: datetime | None = None) -> Checked:
    """Judge every ModelDeployment among the documents by every policy among them and by `baseline`.

    A ClusterDataPolicy named `baseline` among the documents takes the place of the one that modelward ships.

    Documents of other kinds are used as references (ConfigMap, Secret, Namespace labels) and are not judged.
    """
    state = _State()
    for document in documents:
        _read(document, state)
    policies = state.policies
    if not any(
        (policy["kind"], policy["metadata"]["name"]) == ("ClusterDataPolicy", "baseline") for policy in policies
    ):
        policies = [baseline_policy(), *policies]
    passed = []
    governing = {}
    for document, deployment in state.deployments:
        namespace = _namespace(document)
        labels = {**state.namespaces.get(namespace, {}), "kubernetes.io/metadata.name": namespace}
        review = Review(canonical(deployment), None, namespace, labels, now or datetime.now(UTC))
        verdict = judge(review, policies)
        governing[f"{namespace}/{document.name}"] = verdict.policies
        groups: tuple[tuple[Level, tuple[Violation, ...]], ...] = (
            ("violation", verdict.violations),
            ("warning", verdict.warnings),
            ("audit", verdict.audits),
        )
        for level, violations in groups:
            state.findings.extend(_finding(level, document, violation) for violation in merged(violations))
        if not verdict.violations:
            passed.append(f"{namespace}/{document.name}")
        state.findings.extend(_missing_references(document, deployment, state.references))
    return Checked(tuple(state.findings), tuple(state.deployments), tuple(policies), tuple(passed), governing)


def _read(document: Document, state: _State) -> None:
    if not is_ours(document.data):
        state.references.add((document.kind, _namespace(document), document.name))
        if document.kind == "Namespace":
            labels = document.data.get("metadata", {}).get("labels")
            if isinstance(labels, dict):
                state.namespaces[document.name] = {str(key): str(value) for key, value in labels.items()}
        return
    try:
        resource: Resource = parse(document.data)
    except SchemaError as error:
        state.findings.extend(_error(document, problem.path, str(problem)) for problem in error.problems)
        return
    if isinstance(resource, ModelDeployment):
        state.deployments.append((document, resource))
        return
    policy = canonical(resource)
    policy["metadata"].setdefault("namespace", _namespace(document))
    state.findings.extend(_error(document, ("spec", "rules"), f"spec.rules: {text}") for text in rule_problems(policy))
    state.policies.append(policy)


def _error(document: Document, path: FieldPath, message: str) -> Finding:
    where, _, what = message.partition(": ")
    return Finding("error", document.source, document.line(path), _who(document), "SCHEMA", where, what)


def _finding(level: Level, document: Document, violation: Violation) -> Finding:
    return Finding(
        level,
        document.source,
        document.line(_path(violation.field)),
        _who(document),
        violation.rule,
        violation.field,
        violation.found,
        violation.fix,
        violation.policy,
    )


def _path(field_: str) -> FieldPath:
    """The path that a field is written as: `spec.access.issuers[0].name`; `annotations[a.b/c]` ends at annotations."""
    path: list[str | int] = []
    for name, index, key in _STEP.findall(field_):
        path.append(name)
        if key:
            break
        if index:
            path.append(int(index))
    return tuple(path)


def _missing_references(
    document: Document, deployment: ModelDeployment, known: set[tuple[str, str, str]]
) -> list[Finding]:
    namespace = _namespace(document)
    return [
        Finding(
            "note",
            document.source,
            document.line(_path(reference.field)),
            _who(document),
            "REFERENCE",
            reference.field,
            f"{reference.kind} {reference.name} is not among these files: fine if the namespace has it",
        )
        for reference in references_of(deployment)
        if (reference.kind, namespace, reference.name) not in known
    ]
