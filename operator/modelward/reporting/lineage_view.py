"""A lineage graph on the page: drawn where it is small enough, and in words in any case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelward.lineage.build import DECLARED
from modelward.lineage.graph import Graph, Node, Step, Use
from modelward.reporting.drawing import KINDS, MAX_DRAWN, drawn
from modelward.reporting.html import Html, Row, cells, count, el, frame, join, shown, table
from modelward.wording import names

_MAX_ROWS = 64
_MAX_DECLARING = 3
_RELATIONS: dict[tuple[str, ...], str] = {
    ("dataset", "run"): "was read; no transformation is declared",
    ("dataset", "artefact"): "was learnt from; no transformation is declared",
    ("dataset", "model"): "was learnt from; no transformation is declared",
    ("run", "artefact"): "made it",
    ("run", "model"): "made it",
    ("artefact", "model"): "is served",
}


def lineage(
    graph: Graph,
    title: str,
    key: str,
    *,
    draw: bool,
    entries: Mapping[str, str] | None = None,
    model: str = "",
) -> Html:
    """Return a lineage graph.

    Args:
        graph: the graph.
        title: what it shows.
        key: makes ids on the page unique.
        entries: where else on the page a node (id) is told of; what is drawn of it leads there.
        model: whose lineage it is (`namespace/name`); empty: everybody's. What others declare of it is told as theirs.
        draw: whether it is drawn as well where it has no more than MAX_DRAWN nodes.
    """
    if not graph.edges:
        return el("p", "No lineage is declared.", class_="none")
    rows = {(edge.source, edge.target): f"{key}-{n}" for n, edge in enumerate(graph.edges[:_MAX_ROWS])}
    first: dict[str, str] = dict(entries or {})
    for ends, row in rows.items():
        for end in ends:
            first.setdefault(end, row)
    named: set[str] = set()
    lines = [
        Row(el("tr", *cells(_told(graph, source, target, named, model)), id=row))
        for (source, target), row in rows.items()
    ]
    more = len(graph.edges) - len(rows)
    drawing = None
    if draw and len(graph.nodes) <= MAX_DRAWN:
        drawing = frame(drawn(graph, title, key, lambda node: first.get(node.id, key)), title)
    return join(
        [
            drawing,
            table(title, ("From", "To", "What was done, how and why"), lines, class_="edges"),
            el("p", f"{more:,} more edges are in the report as JSON.", class_="quiet") if more > 0 else None,
        ]
    )


def _told(graph: Graph, source: str, target: str, named: set[str], model: str) -> Iterable[object]:
    """The cells of an edge; the digest of a node is written out where it comes first."""
    ends = [one for one in (graph.node(source), graph.node(target)) if one]
    for node in ends:
        yield _node(node, whole=node.id not in named)
        named.add(node.id)
    edge = next(one for one in graph.edges_from(source) if one.target == target)
    done = [*map(_step, edge.steps), *map(_use, edge.uses)]
    if not done:
        otherwise = "made it" if edge.by else "made it, by a signed statement"
        done = [_RELATIONS.get(tuple(one.kind for one in ends), otherwise)]
    # A digest is the same thing whoever names it: the owner of any model may say where another's artefact came from.
    others = [one for one in edge.by if one != model] if model else []
    if others:
        as_well = " as well" if model in edge.by else ""
        done.append(f"declared by {names(others, _MAX_DECLARING)}{as_well}")
    yield el("ul", *(el("li", one) for one in done), class_="plain") if len(done) > 1 else done[0]


def _node(node: Node, *, whole: bool) -> str:
    issuer = f", vouched for by {node.issuer}" if node.issuer else ""
    digest = f" ({node.digest})" if node.digest and (whole or not node.names) else ""
    return f"{KINDS[node.kind]} {', '.join(node.names)}{issuer}{digest}"


def _step(step: Step) -> str:
    return f"{step.what}: {step.how}" + (f" ({step.why})" if step.why else "")


def _use(use: Use) -> str:
    if use == DECLARED:
        return DECLARED.purpose
    purpose = f"for {use.purpose}" if use.purpose else "for no stated purpose"
    asked = f", {count(use.requests, 'answer')}" if use.requests else ""
    when = f", {shown(use.first)} to {shown(use.last)}" if use.first and use.last else ""
    return purpose + asked + when
