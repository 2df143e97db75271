"""The register of processing: what GDPR article 30(1) asks of each activity, from what is declared and nothing else.

What a cluster cannot know is said by annotations `register.modelward.io/<name>` on the ModelDeployment or, for all
of its models, on the Namespace. What nobody says is not declared: nothing here is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelward.lineage.graph import Graph
from modelward.reporting.document import Category, Measure, Recipient, Register
from modelward.reporting.sources import Object, Sources, said
from modelward.wording import names

PREFIX = "register.modelward.io/"
ANNOTATIONS = ("controller", "contact", "legal-basis", "data-subjects", "retention", "transfers")
_ROLES = ("Identifier", "QuasiIdentifier", "Sensitive", "Feature")
_MAX_FIELDS = 128
_MAX_RECIPIENTS = 128


def register(model: Object, policies: Sequence[Object], graph: Graph, sources: Sources) -> Register:
    """Return the record of a model.

    Args:
        model: as the API server stores it.
        policies: those that govern it.
        graph: of lineage, for treatments and consumers.
        sources: for its namespace, and what holds for all.
    """
    spec = model["spec"]
    own = _annotations(model, sources)
    access = spec.get("access") or {}
    explanations = spec.get("explanations") or {}
    id_ = f"model:{model['metadata'].get('namespace') or 'default'}/{model['metadata']['name']}"
    recipients = tuple(_recipients(access, id_, graph))[:_MAX_RECIPIENTS]
    purposes = {purpose for rule in access.get("rules", ()) for purpose in rule.get("purposes", ())}
    answered = {purpose for one in recipients if one.basis == "answered" for purpose in one.purposes}
    return Register(
        controller=own.get("controller") or sources.controller,
        contact=own.get("contact") or explanations.get("contact") or sources.contact,
        purposes=tuple(sorted(map(said, purposes | answered))),
        legal_basis=own.get("legal-basis"),
        classification=tuple(
            dict.fromkeys(one["spec"]["classification"] for one in policies if one["spec"].get("classification"))
        ),
        data_subjects=own.get("data-subjects"),
        categories=_categories(spec.get("schema") or {}, policies),
        recipients=recipients,
        telemetry=tuple(_telemetry(spec)),
        transfers=own.get("transfers"),
        retention=own.get("retention"),
        values_recorded=_values_recorded(policies),
        measures=tuple(_measures(model, policies, graph, id_)),
        contest=said(explanations["contestURL"]) if explanations.get("contestURL") else None,
    )


def _annotations(model: Object, sources: Sources) -> dict[str, str]:
    namespace = (sources.namespaces or {}).get(model["metadata"].get("namespace") or "default") or {}
    found: dict[str, str] = {}
    for one in (namespace, model):
        annotations = (one.get("metadata") or {}).get("annotations") or {}
        for name in ANNOTATIONS:
            value = annotations.get(PREFIX + name)
            if isinstance(value, str) and value.strip():
                found[name] = said(value.strip())
    return found


def _categories(schema: Mapping[str, Any], policies: Sequence[Object]) -> tuple[Category, ...]:
    """The fields of each role; of two roles that are given to a field the graver counts."""
    roles: dict[str, int] = {}

    def note(name: str, role: str) -> None:
        rank = _ROLES.index(role) if role in _ROLES else len(_ROLES) - 1
        roles[name] = min(rank, roles.get(name, rank))

    for tensor in schema.get("inputs", ()):
        for name in tensor.get("columns") or (tensor["name"],):
            note(name, tensor.get("role", "Feature"))
    declared = set(roles)
    tensors = {one["name"]: one.get("columns") or (one["name"],) for one in schema.get("inputs", ())}
    for policy in policies:
        for field in policy["spec"].get("fields", ()):
            for name in tensors.get(field["name"], (field["name"],)):
                if name in declared:
                    note(name, field.get("role", "Feature"))
    return tuple(
        Category(role=role, fields=tuple(map(said, named[:_MAX_FIELDS])))
        for rank, role in enumerate(_ROLES)
        if (named := [name for name, found in roles.items() if found == rank])
    )


def _recipients(access: Mapping[str, Any], id_: str, graph: Graph) -> Iterable[Recipient]:
    for rule in access.get("rules", ()):
        for subject in rule.get("subjects", ()):
            yield Recipient(
                basis="allowed",
                who=said(subject),
                purposes=tuple(map(said, rule.get("purposes", ()))),
                operations=tuple(rule.get("operations", ())),
            )
    for edge in graph.edges_from(id_):
        consumer = graph.node(edge.target)
        if consumer is None:
            continue
        if not consumer.issuer and not any(use.requests for use in edge.uses):
            yield Recipient(basis="declared", who=consumer.name)
            continue
        for use in edge.uses:
            yield Recipient(
                basis="answered",
                who=consumer.name,
                issuer=consumer.issuer,
                purposes=(use.purpose,) if use.purpose else (),
                first=use.first,
                last=use.last,
                requests=use.requests,
            )


def _telemetry(spec: Mapping[str, Any]) -> Iterable[str]:
    telemetry = (spec.get("monitoring") or {}).get("telemetry") or {}
    for name, what in (("otlpEndpoint", "records and metrics"), ("lineageEndpoint", "lineage events")):
        if telemetry.get(name):
            yield said(f"{what} to {telemetry[name]}")


def _values_recorded(policies: Sequence[Object]) -> bool:
    said_so = [one["spec"]["recordValues"] for one in policies if one["spec"].get("recordValues") is not None]
    return bool(said_so) and all(said_so)


def _measures(model: Object, policies: Sequence[Object], graph: Graph, id_: str) -> Iterable[Measure]:
    spec, status = model["spec"], model.get("status") or {}
    encryption = spec.get("encryption") or {}
    yield Measure(name="Encryption in transit", told=_in_transit(encryption, status))
    at_rest = encryption.get("atRest") or {}
    yield Measure(name="Encryption at rest", told=_joined("attested by", [at_rest.get("attestedBy")]))
    in_use = encryption.get("inUse")
    yield Measure(name="Encryption in use", told=f"homomorphic, {in_use.get('scheme')}" if in_use else None)
    access = spec.get("access") or {}
    rules = len(access.get("rules", ()))
    told = f"{rules} access rule{'s' if rules != 1 else ''}; callers vouched for by" if rules else ""
    issuers = [one.get("name") for one in access.get("issuers", ())]
    yield Measure(name="Access control", told=_joined(told, issuers or ["client certificates"]) if rules else None)
    steps = [step for edge in graph.edges_to(id_) if edge.source.startswith("policy:") for step in edge.steps]
    yield Measure(
        name="Minimisation and pseudonymisation",
        told=_joined("", [f"{step.what} {step.how}" for step in steps[:32]], "; "),
    )
    monitoring = spec.get("monitoring") or {}
    detectors = [one.get("type") for one in monitoring.get("detectors", ())]
    yield Measure(
        name="Detection of attacks",
        told=_joined("", detectors)
        and f"{', '.join(detectors)}; on an anomaly: {monitoring.get('onAnomaly', 'Block')}",
    )
    k = max((one["spec"]["kAnonymity"]["k"] for one in policies if one["spec"].get("kAnonymity")), default=0)
    yield Measure(name="k-anonymity", told=f"k = {k} asked" if k else None)
    yield Measure(name="Testing of security", told=_tested(status.get("lastSecurityTest") or {}))


def _tested(test: Mapping[str, Any]) -> str | None:
    if not test:
        return None
    succeeded = [said(one) for one in test.get("succeeded") or ()]
    counts = [
        f"{test[name]} {what}"
        for name, what in (
            ("withstood", "attacks withstood"),
            ("inconclusive", "inconclusive"),
            ("skipped", "not tried"),
        )
        if test.get(name)
    ]
    parts = ([f"succeeded: {names(succeeded)}"] if succeeded else []) + counts
    told = f"suite {test.get('suite')}: {test.get('outcome')} at {test.get('finishedAt')}"
    stands = test.get("stands")
    before = f"; {stands.get('outcome')} at {stands.get('finishedAt')}, which stands" if stands else ""
    return said(told + (f"; {', '.join(parts)}" if parts else "") + before)


def _in_transit(encryption: Mapping[str, Any], status: Mapping[str, Any]) -> str | None:
    in_transit = encryption.get("inTransit")
    if not in_transit:
        return None
    until = (status.get("certificate") or {}).get("expires")
    return said(
        f"{in_transit.get('mode', 'TLS')}, version {in_transit.get('minVersion', '1.3')} or newer"
        + (f"; certificate until {until}" if until else "")
    )


def _joined(before: str, parts: Iterable[Any], between: str = ", ") -> str | None:
    named = [said(part) for part in parts if part]
    return f"{before} {between.join(named)}".strip() if named else None
