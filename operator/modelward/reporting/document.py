"""The report as data: what `-o json` prints, and all that the page is made of.

Names are camelCase there, times RFC 3339 in UTC. What nobody has declared is null, and the page says so.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from modelward.lineage.graph import Kind

Outcome = Literal["passes", "fails", "excused", "unseen", "notAsked"]
OUTCOMES: tuple[Outcome, ...] = ("passes", "fails", "excused", "unseen", "notAsked")
Grade = Literal["high", "medium", "low"]


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the document."""


class Scope(Part, frozen=True):
    """What the report covers, and where it comes from: the cluster (its context), or files."""

    source: Literal["cluster", "files"]
    name: str
    namespace: str | None = None
    logs: tuple[str, ...] = ()


class Category(Part, frozen=True):
    """Fields of personal data of one role."""

    role: str
    fields: tuple[str, ...]


class Recipient(Part, frozen=True):
    """Who gets answers: who may by an access rule, who is declared, or who did."""

    basis: Literal["allowed", "declared", "answered"]
    who: str
    issuer: str = ""
    purposes: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    requests: int = 0


class Measure(Part, frozen=True):
    """A technical measure (GDPR article 32(1)), and what is known of it."""

    name: str
    told: str | None


class Register(Part, frozen=True):
    """A record of processing activities: GDPR article 30(1), (a) to (g)."""

    controller: str | None
    contact: str | None
    purposes: tuple[str, ...]
    legal_basis: str | None
    classification: tuple[str, ...]
    data_subjects: str | None
    categories: tuple[Category, ...]
    recipients: tuple[Recipient, ...]
    telemetry: tuple[str, ...]
    transfers: str | None
    retention: str | None
    values_recorded: bool
    measures: tuple[Measure, ...]
    contest: str | None


class Finding(Part, frozen=True):
    """A rule that is broken, or would be without an exception."""

    level: Literal["violation", "warning", "audit", "excused"]
    rule: str
    title: str
    severity: str
    policy: str
    field: str
    found: str
    fix: str
    excuse: str = ""


class Verdicts(Part, frozen=True):
    """What the policies say of a model: findings, and the rules of each framework by outcome."""

    policies: tuple[str, ...]
    findings: tuple[Finding, ...]
    frameworks: dict[str, dict[Outcome, tuple[str, ...]]]

    def count(self, *levels: str) -> int:
        """Return how many findings have one of these levels."""
        return sum(one.level in levels for one in self.findings)


class Model(Part, frozen=True):
    """All that is told of a ModelDeployment; parts of its status as they are in the resource."""

    namespace: str
    name: str
    conditions: tuple[dict[str, Any], ...]
    register: Register
    verdicts: Verdicts
    monitoring: dict[str, Any] | None = None
    fairness: dict[str, Any] | None = None
    max_difference: float | None = None
    reidentification: dict[str, Any] | None = None
    certificate: dict[str, Any] | None = None
    lineage: dict[str, Any] | None = None

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    def condition(self, kind: str) -> dict[str, Any]:
        """Return a condition by its type; empty where there is none."""
        return next((one for one in self.conditions if one.get("type") == kind), {})


class Excusal(Part, frozen=True):
    """An exception from rules, and how long it still counts; `days` is negative once it has ended."""

    policy: str
    rules: tuple[str, ...]
    models: tuple[str, ...]
    namespaces: tuple[str, ...]
    reason: str
    approved_by: str
    expires: str
    days: float | None


class Certificate(Part, frozen=True):
    """A serving certificate, and the days until it ends; null where the end cannot be read."""

    model: str
    source: str
    expires: str
    days: float | None


class Incident(Part, frozen=True):
    """Something that happened to a model: `count` times between two times, as the cluster or a log tells."""

    kind: str
    model: str
    who: str
    message: str
    first: str
    last: str
    count: int
    source: Literal["status", "event", "log"]


class Span(Part, frozen=True):
    """Incidents of one kind, counted in spans of equal length."""

    kind: str
    counts: tuple[int, ...]


class Timeline(Part, frozen=True):
    """Incidents over time: each counted at its last time, or where a log was read, when it happened."""

    begins: str = ""
    seconds: int = 0
    kinds: tuple[Span, ...] = ()
    exact: bool = False


class Place(Part, frozen=True):
    """A place of a framework over all models: its rules, and how many models pass, fail, or are not asked."""

    framework: str
    place: str
    title: str
    rules: tuple[str, ...]
    passing: int
    failing: int
    not_asked: int


class Reach(Part, frozen=True):
    """The blast radius of a dataset: what came of it."""

    dataset: str
    digest: str
    models: tuple[str, ...]
    consumers: tuple[str, ...]


class LineageNode(Part, frozen=True):
    """A node of the lineage graph."""

    id: str
    kind: Kind
    names: tuple[str, ...]
    issuer: str = ""


class LineageEdge(Part, frozen=True):
    """An edge of the lineage graph; `declared_by` are the models whose owners' word it is, where it is no more."""

    source: str
    target: str
    steps: tuple[dict[str, str], ...] = ()
    uses: tuple[dict[str, Any], ...] = ()
    declared_by: tuple[str, ...] = ()


class Lineage(Part, frozen=True):
    """The lineage graph of all models, with cycles by name and what there was no room for."""

    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    cycles: tuple[tuple[str, ...], ...]
    reach: tuple[Reach, ...]
    left_out: int


class Attention(Part, frozen=True):
    """Something for a person to look at, and the models that it concerns: the first of them, and how many in all."""

    grade: Grade
    what: str
    models: tuple[str, ...]
    count: int


class Report(Part, frozen=True):
    """The whole."""

    version: str
    generated: str
    scope: Scope
    notes: tuple[str, ...]
    attention: tuple[Attention, ...]
    models: tuple[Model, ...]
    places: tuple[Place, ...]
    incidents: tuple[Incident, ...]
    timeline: Timeline
    exceptions: tuple[Excusal, ...]
    certificates: tuple[Certificate, ...]
    lineage: Lineage
