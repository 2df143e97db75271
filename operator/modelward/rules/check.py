"""Judges the documents of manifest files: what `modelward check` and `modelward run` say before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, Literal

from modelward.api.base import API_VERSION, OBJECT_NAME_PATTERN, Resource
from modelward.api.lineage import problems
from modelward.api.manifest import Document, FieldPath, ManifestError, read_documents
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.printable import printable
from modelward.api.references import references_of
from modelward.api.validate import KIND_BY_NAME, Problem, SchemaError, canonical, is_ours, parse
from modelward.privacy.effective import mistakes
from modelward.rules.callers import unreachable
from modelward.rules.excused import excused
from modelward.rules.judge import Review, Violation, judge, judge_readiness, merged, policy_name, rule_problems

Level = Literal["error", "violation", "warning", "audit", "excused", "note"]
LEVELS: tuple[Level, ...] = ("error", "violation", "warning", "audit", "excused", "note")
SCHEMA, REFERENCE, UNREADABLE = "SCHEMA", "REFERENCE", "UNREADABLE"
TREATMENT, UNREACHABLE, UNSUPPORTED = "TREATMENT", "UNREACHABLE", "UNSUPPORTED"
"""What stands in a finding's `rule` where no rule of the catalogue is broken."""
_MAX_NAME = 253
_PARENTHESES = re.compile(r"^\(([^)]*)\)")
_STEP = re.compile(r"([^.\[\]]+)(?:\[(?:(\d+)|([^\]]*))\])?\.?")


@dataclass(frozen=True)
class Finding:
    """Something to tell about a document: where it is, how grave, and how to mend it. All of it is printable."""

    level: Level
    source: str
    line: int
    object: str
    rule: str
    field: str
    message: str
    fix: str = ""
    policy: str = ""
    excuse: str = ""
    """Of an excused violation: until when, who approved it, and why."""

    @property
    def told(self) -> str:
        """What was found, and where it is excused, why that is."""
        return f"{self.message} ({self.excuse})" if self.excuse else self.message


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

    def strict(self) -> Checked:
        """Return the same with every warning counted as a violation."""
        levels: dict[Level, Level] = {"warning": "violation"}
        findings = tuple(replace(item, level=levels.get(item.level, item.level)) for item in self.findings)
        warned = {item.object.removeprefix("ModelDeployment ") for item in self.findings if item.level == "warning"}
        return replace(self, findings=findings, passed=tuple(name for name in self.passed if name not in warned))

    def count(self, *levels: Level) -> int:
        """Return how many findings have one of these levels."""
        return sum(finding.level in levels for finding in self.findings)


@dataclass(frozen=True)
class Seen:
    """What was seen of a model beyond its manifest.

    Attributes:
        observed: by the names of `catalogue.Observation`.
        notes: what could not be looked at: the field that names it, and why.
    """

    observed: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()


Look = Callable[[ModelDeployment, str, Sequence[dict[str, Any]], datetime], Seen]
"""Looks at more than manifests: a model, its namespace, the policies that govern it, and the time."""


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


def who(document: Document) -> str:
    """Return what findings call an object, such as `ModelDeployment clinic/wdbc`."""
    cluster = document.kind in ("ClusterDataPolicy", "Namespace")
    name = document.name or "(no name)"
    return printable(f"{document.kind} {name if cluster else f'{_namespace(document)}/{name}'}")


def check(documents: Sequence[Document], *, now: datetime | None = None, look: Look = lambda *_: Seen()) -> Checked:
    """Judge every ModelDeployment among the documents by every policy among them and by `baseline`.

    A ClusterDataPolicy named `baseline` among the documents takes the place of the one that modelward ships.

    Documents of other kinds are used as references (ConfigMap, Secret, Namespace labels) and are not judged.

    Args:
        documents: of manifest files.
        now: the time, for exceptions and certificates; the real one where none is given.
        look: sees of a model what is needed for the rules that are enforced at readiness, beyond its annotations.
    """
    now = now or datetime.now(UTC)
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
        review = Review(canonical(deployment), None, namespace, labels, now)
        verdict = judge(review, policies)
        governors = [policy for policy in policies if policy_name(policy) in verdict.policies]
        seen = look(deployment, namespace, governors, now)
        # What the files show of what is asked at readiness: it is let in, and not served.
        lineage = {"lineage": {"problems": problems(deployment.metadata.annotations)}}
        later = judge_readiness(review, policies, {**lineage, **seen.observed})
        governing[f"{namespace}/{document.name}"] = verdict.policies
        groups: tuple[tuple[Level, tuple[Violation, ...]], ...] = (
            ("violation", verdict.violations),
            ("warning", verdict.warnings + later.violations + later.warnings),
            ("audit", verdict.audits + later.audits),
        )
        for level, violations in groups:
            state.findings.extend(_finding(level, document, violation) for violation in merged(violations))
        for item in excused(review, policies, verdict):
            why = f"excused until {item.expires}, approved by {item.approved_by}: {item.reason}"
            state.findings.append(replace(_finding("excused", document, item.violation), excuse=printable(why)))
        if not verdict.violations:
            passed.append(f"{namespace}/{document.name}")
        state.findings.extend(_impossible_treatments(document, review.object, governors))
        state.findings.extend(_missing_references(document, deployment, state.references))
        state.findings.extend(_note(document, REFERENCE, *note) for note in seen.notes)
        state.findings.extend(_note(document, UNREACHABLE, *found) for found in unreachable(deployment))
    return Checked(tuple(state.findings), tuple(state.deployments), tuple(policies), tuple(passed), governing)


def _read(document: Document, state: _State) -> None:
    if not is_ours(document.data):
        _read_other(document, state)
        return
    try:
        _check_name(document)
        resource: Resource = parse(document.data)
    except SchemaError as error:
        state.findings.extend(_error(document, problem.path, str(problem)) for problem in error.problems)
        return
    if isinstance(resource, ModelDeployment):
        state.deployments.append((document, resource))
        return
    policy = canonical(resource)
    policy["metadata"].setdefault("namespace", _namespace(document))
    for text in rule_problems(policy):
        where, _, what = text.partition(" ")
        what = _PARENTHESES.sub(r"\1", what, count=1)
        state.findings.append(_error(document, path_of(where), f"{where}: {what}"))
    state.policies.append(policy)


def _read_other(document: Document, state: _State) -> None:
    if document.kind in KIND_BY_NAME:  # not to be passed over: its owner believes that it was judged
        what = f'apiVersion: "{document.api_version}" has no {document.kind}: write {API_VERSION}'
        state.findings.append(_error(document, ("apiVersion",), what))
        return
    state.references.add((document.kind, _namespace(document), document.name))
    if document.kind == "Namespace":
        metadata = document.data.get("metadata")
        labels = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(labels, dict):
            state.namespaces[document.name] = {str(key): str(value) for key, value in labels.items()}


def _check_name(document: Document) -> None:
    """Refuse a name that the API server would refuse before it looks at anything else.

    Raises:
        SchemaError: there is none, or it is none that an object can have.
    """
    metadata = document.data.get("metadata")
    if not isinstance(metadata, dict) or (not metadata.get("name") and metadata.get("generateName")):
        return
    name = metadata.get("name")
    path = ("metadata", "name")
    if name in (None, ""):
        raise SchemaError([Problem(path, "required, and not there")])
    if isinstance(name, str) and (len(name) > _MAX_NAME or not re.fullmatch(OBJECT_NAME_PATTERN, name)):
        what = "is not a name: use lower-case letters, digits, - and ., and begin and end with a letter or digit"
        raise SchemaError([Problem(path, f'"{name:.80}" {what}')])


def unreadable(error: ManifestError) -> Finding:
    """Return the finding that tells of a file that cannot be read."""
    return Finding("error", error.source, error.line, f"file {error.source}", UNREADABLE, "", error.what, error.fix)


def _error(document: Document, path: FieldPath, message: str) -> Finding:
    where, _, what = printable(message).partition(": ")
    return Finding("error", printable(document.source), document.line(path), who(document), SCHEMA, where, what)


def _finding(level: Level, document: Document, violation: Violation) -> Finding:
    return Finding(
        level,
        printable(document.source),
        document.line(path_of(violation.field)),
        who(document),
        violation.rule,
        violation.field,
        printable(violation.found),
        printable(violation.fix),
        violation.policy,
    )


def path_of(field_: str) -> FieldPath:
    """Return the path of a field written as `spec.access.issuers[0].name`; `annotations[a.b/c]` ends at annotations."""
    path: list[str | int] = []
    for name, index, key in _STEP.findall(field_):
        path.append(name)
        if key:
            break
        if index:
            path.append(int(index))
    return tuple(path)


def _impossible_treatments(
    document: Document, deployment: Mapping[str, Any], policies: Sequence[dict[str, Any]]
) -> list[Finding]:
    """What policies ask of this model's fields and that cannot be done: it would be admitted, and never be Ready."""
    schema = deployment["spec"].get("schema") or {}
    return [
        Finding(
            "warning",
            printable(document.source),
            document.line(("spec", "schema")),
            who(document),
            TREATMENT,
            "spec.schema",
            printable(f"{one.field}: {one.message}"),
            "",
            policy_name(one.policy),
        )
        for one in mistakes(policies, schema.get("inputs", ()), schema.get("outputs", ()))
    ]


def _missing_references(
    document: Document, deployment: ModelDeployment, known: set[tuple[str, str, str]]
) -> list[Finding]:
    namespace = _namespace(document)
    wanted: list[tuple[str, str, str]] = [
        (reference.kind, reference.name, reference.field) for reference in references_of(deployment)
    ]
    target = deployment.spec.target_ref
    if target is not None:
        wanted.append((target.kind, target.name, "spec.targetRef"))
    return [
        _note(
            document,
            REFERENCE,
            where,
            f"{kind} {name} is not among these files: fine if the namespace has it",
        )
        for kind, name, where in wanted
        if (kind, namespace, name) not in known
    ]


def _note(document: Document, rule: str, field_: str, message: str) -> Finding:
    return Finding(
        "note", printable(document.source), document.line(path_of(field_)), who(document), rule, field_, message
    )
