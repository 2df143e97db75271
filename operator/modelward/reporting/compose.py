"""Makes the report of everything that is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelward import __version__
from modelward.lineage.build import build, model_name
from modelward.lineage.graph import Graph
from modelward.reporting.attention import attention
from modelward.reporting.document import (
    Certificate,
    Excusal,
    Lineage,
    LineageEdge,
    LineageNode,
    Model,
    Reach,
    Report,
)
from modelward.reporting.incidents import incidents, timeline
from modelward.reporting.register import register
from modelward.reporting.sources import Object, Sources, days_until, said, written
from modelward.reporting.verdicts import Bench, places
from modelward.rules.judge import policy_name

MAX_INCIDENTS = 500
MAX_REACH = 100
_MAX_REACHED = 64


def compose(sources: Sources) -> Report:
    """Return the report; models by namespace and name, the gravest and the nearest first in what is listed."""
    bench = Bench(sources.policies, sources.now)
    by_name = {policy_name(dict(policy)): policy for policy in sources.policies}
    ordered = sorted(sources.models, key=lambda one: (one["metadata"].get("namespace") or "default", model_name(one)))
    verdicts = {model_name(one): bench.judge(one, _labels(one, sources)) for one in ordered}
    graph = build(
        ordered,
        by_name,
        governing={name: one.policies for name, one in verdicts.items()},
        dependencies=sources.dependencies,
        consumed=sources.consumed,
    )
    models = []
    for one in ordered:
        verdict = verdicts[model_name(one)]
        governing = [by_name[name] for name in verdict.policies]
        models.append(_model(one, verdict, governing, graph, sources))
    found = incidents(ordered, sources.events, sources.logged)
    certificates = _certificates(models, sources)
    exceptions = _exceptions(sources)
    notes = list(map(said, sources.notes))
    if len(found) > MAX_INCIDENTS:
        notes.append(f"{len(found) - MAX_INCIDENTS} older incidents are in the plot and not in the list")
    return Report(
        version=__version__,
        generated=written(sources.now),
        scope=sources.scope,
        notes=tuple(notes),
        attention=attention(models, exceptions, certificates, graph),
        models=tuple(models),
        places=places([one.verdicts for one in models]),
        incidents=found[:MAX_INCIDENTS],
        timeline=timeline(found, sources.now),
        exceptions=exceptions,
        certificates=certificates,
        lineage=_lineage(graph),
    )


def _lineage(graph: Graph) -> Lineage:
    return Lineage(
        nodes=tuple(LineageNode(id=one.id, kind=one.kind, names=one.names, issuer=one.issuer) for one in graph.nodes),
        edges=tuple(
            LineageEdge(
                source=one.source,
                target=one.target,
                steps=tuple(step._asdict() for step in one.steps),
                uses=tuple(use._asdict() for use in one.uses),
                declared_by=one.by,
            )
            for one in graph.edges
        ),
        cycles=tuple(tuple(node.name for node in way) for way in graph.cycles),
        reach=_reach(graph),
        left_out=graph.left_out,
    )


def _reach(graph: Graph) -> tuple[Reach, ...]:
    """The datasets that reach most, each with what came of it."""
    found = []
    for dataset in graph.of_kind("dataset"):
        down = graph.downstream(dataset.id)
        models, consumers = (tuple(one.name for one in down.of_kind(kind)) for kind in ("model", "consumer"))
        found.append(Reach(dataset=dataset.name, digest=dataset.digest, models=models, consumers=consumers))
    found.sort(key=lambda one: (-len(one.models), -len(one.consumers), one.dataset, one.digest))
    return tuple(found[:MAX_REACH])


def _labels(model: Object, sources: Sources) -> dict[str, str] | None:
    if sources.namespaces is None:
        return None
    namespace = sources.namespaces.get(model["metadata"].get("namespace") or "default") or {}
    return dict((namespace.get("metadata") or {}).get("labels") or {})


def _model(model: Object, verdict: Any, governing: Sequence[Object], graph: Graph, sources: Sources) -> Model:
    status, spec = model.get("status") or {}, model["spec"]
    return Model(
        namespace=model["metadata"].get("namespace") or "default",
        name=model["metadata"]["name"],
        conditions=tuple(dict(one) for one in status.get("conditions") or ()),
        register=register(model, governing, graph, sources),
        verdicts=verdict,
        monitoring=status.get("monitoring"),
        fairness=status.get("fairness"),
        max_difference=(spec.get("fairness") or {}).get("maxDifference"),
        reidentification=status.get("reidentification"),
        certificate=status.get("certificate"),
        lineage=status.get("lineage"),
    )


def _certificates(models: Iterable[Model], sources: Sources) -> tuple[Certificate, ...]:
    found = [
        Certificate(
            model=one.full_name,
            source=said(one.certificate.get("source", "")),
            expires=said(one.certificate.get("expires", "")),
            days=days_until(one.certificate.get("expires"), sources.now),
        )
        for one in models
        if one.certificate
    ]
    return tuple(sorted(found, key=lambda one: (one.days is not None, one.days or 0, one.model)))


def _exceptions(sources: Sources) -> tuple[Excusal, ...]:
    found = [
        Excusal(
            policy=policy_name(dict(policy)),
            rules=tuple(map(said, one.get("rules", ()))),
            models=tuple(map(said, one.get("names", ()))),
            namespaces=tuple(map(said, one.get("namespaces", ()))),
            reason=said(one.get("reason", "")),
            approved_by=said(one.get("approvedBy", "")),
            expires=said(one.get("expires", "")),
            days=days_until(one.get("expires"), sources.now),
        )
        for policy in sources.policies
        for one in policy["spec"].get("exceptions") or ()
    ]
    return tuple(sorted(found, key=lambda one: (one.days is not None, one.days or 0, one.policy, one.rules)))
