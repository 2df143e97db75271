"""How the answer of `modelward lineage` is written: for people, for programs, and as a drawing (Graphviz, Mermaid)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from modelward import wording
from modelward.cli.output import to_json
from modelward.lineage.graph import Edge, Graph, Kind, Node, Use
from modelward.lineage.question import Answer

Signers = Mapping[str, Sequence[str]]
_MADE: tuple[Kind, ...] = ("dataset", "run", "artefact", "model")
_DECLARING = 3
_SHAPES: dict[Kind, str] = {
    "policy": "note",
    "dataset": "cylinder",
    "run": "cds",
    "artefact": "box3d",
    "model": "component",
    "consumer": "ellipse",
}


def as_text(answer: Answer, signers: Signers) -> str:
    """The answer for people: what it came from, how it was treated, and who got answers."""
    graph = answer.graph
    about = {one.id for one in answer.about}
    lines = [_named(one, signers) for one in answer.about]
    if answer.direction == "upstream":
        lines += _section("was answered by", _answering(graph), "nobody that is known")
    if answer.direction != "downstream":
        lines += _section("came from", _made(graph, about, signers), "nothing that is declared: no lineage annotation")
        lines += _section("treated on the way in", _treated(graph), "no field: no policy changes one of its own")
    else:
        lines += _section("reached", _made(graph, about, signers), "nothing that is known")
    if answer.direction != "upstream":
        lines += _section("answers went to", _consumers(graph), "nobody that is known")
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Iterable[str], otherwise: str) -> list[str]:
    return ["", f"{title}:", *(f"  {line}" for line in (list(lines) or [otherwise]))]


def _made(graph: Graph, about: set[str], signers: Signers) -> Iterator[str]:
    """Data, runs, artefacts and models, with what was done on the way from each."""
    own = {node.name for node in graph.nodes if node.id in about and node.kind == "model"}
    for node in graph.nodes:
        edges = graph.edges_from(node.id)
        if node.kind not in _MADE or (node.id in about and not edges):
            continue
        if node.id not in about:
            yield f"{_named(node, signers)}{_declared(edges, own) if own else ''}"
        for edge in edges:
            for step in edge.steps:
                yield f"  {step.what}: {step.how} (why: {step.why})"


def _declared(edges: Sequence[Edge], own: set[str]) -> str:
    """Whose word edges are, besides that of the models which are asked about.

    A digest is the same thing whoever names it: the owner of any model may say where another's artefact came from.
    """
    others = sorted({who for edge in edges for who in edge.by} - own)
    if not others:
        return ""
    as_well = " as well" if all(own & set(edge.by) for edge in edges if edge.by) else ""
    return f"  declared by {wording.names(others, _DECLARING)}{as_well}"


def _treated(graph: Graph) -> Iterator[str]:
    names = {one.id: one for one in graph.nodes}
    for edge in graph.edges:
        if names[edge.source].kind == "policy":
            for step in edge.steps:
                yield f"{step.what}: {step.how}, by {names[edge.source].name} (why: {step.why})"


def _consumers(graph: Graph) -> Iterator[str]:
    names = {one.id: one for one in graph.nodes}
    several = len(graph.of_kind("model")) > 1
    for edge in graph.edges:
        consumer = names[edge.target]
        if consumer.kind == "consumer":
            of = f" of {names[edge.source].name}" if several else ""
            for use in edge.uses:
                yield f"{_who(consumer)}{of}: {_use(use)}"


def _answering(graph: Graph) -> Iterator[str]:
    names = {one.id: one for one in graph.nodes}
    several = len(graph.of_kind("consumer")) > 1
    for edge in graph.edges:
        whom = f" to {_who(names[edge.target])}" if several else ""
        for use in edge.uses:
            yield f"{names[edge.source].name}{whom}: {_use(use)}"


def _who(consumer: Node) -> str:
    return f"{consumer.name} ({consumer.issuer})" if consumer.issuer else consumer.name


def _use(use: Use) -> str:
    purpose = use.purpose or "no purpose stated"
    if not use.requests:
        return purpose
    return f"{purpose}, {use.requests:,} {'request' if use.requests == 1 else 'requests'}, {use.first} to {use.last}"


def _named(node: Node, signers: Signers) -> str:
    names = ", ".join(node.names) or "(no name)"
    names += f" ({node.issuer})" if node.issuer else ""
    digest = f"  {node.digest}" if node.digest else ""
    signed = f"  signed by {', '.join(signers[node.digest])}" if node.digest in signers else ""
    return f"{node.kind:9}{names}{digest}{signed}"


def as_document(answer: Answer, signers: Signers, notes: Sequence[str], findings: Sequence[str]) -> str:
    """The answer for programs, as JSON: nodes and edges with all that is known of them."""
    graph = answer.graph
    return to_json(
        {
            "asked": answer.asked,
            "about": [one.id for one in answer.about],
            "direction": answer.direction,
            "nodes": [_node(one, signers) for one in graph.nodes],
            "edges": [_edge(one) for one in graph.edges],
            "cycles": [[one.id for one in way] for way in graph.cycles],
            "leftOut": graph.left_out,
            "notes": list(notes),
            "findings": list(findings),
        }
    )


def _node(node: Node, signers: Signers) -> dict[str, Any]:
    return {
        "id": node.id,
        "kind": node.kind,
        "names": list(node.names),
        **({"digest": node.digest} if node.digest else {}),
        **({"issuer": node.issuer} if node.issuer else {}),
        **({"signedBy": list(signers[node.digest])} if node.digest in signers else {}),
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "source": edge.source,
        "target": edge.target,
        **({"steps": [step._asdict() for step in edge.steps]} if edge.steps else {}),
        **({"uses": [use._asdict() for use in edge.uses]} if edge.uses else {}),
        **({"declaredBy": list(edge.by)} if edge.by else {}),
    }


def as_dot(answer: Answer) -> str:
    """The answer as a drawing of Graphviz's: `dot -Tsvg`."""
    lines = ["digraph lineage {", "  rankdir=LR", '  node [fontname="sans-serif"]', '  edge [fontname="sans-serif"]']
    about = {one.id for one in answer.about}
    for node in answer.graph.nodes:
        bold = ", style=bold" if node.id in about else ""
        label = _quoted("\n".join((node.kind, *node.names, _short(node.digest))).strip())
        lines.append(f"  {_quoted(node.id)} [shape={_SHAPES[node.kind]}, label={label}{bold}]")
    lines += [
        f"  {_quoted(one.source)} -> {_quoted(one.target)} [label={_quoted(_edge_label(one))}]"
        for one in answer.graph.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def as_mermaid(answer: Answer) -> str:
    """The answer as a Mermaid flowchart, which many renderers of Markdown draw."""
    number = {one.id: f"n{index}" for index, one in enumerate(answer.graph.nodes)}
    lines = ["flowchart LR"]
    for node in answer.graph.nodes:
        label = "<br/>".join(map(_escaped, (node.kind, *node.names, _short(node.digest)))).removesuffix("<br/>")
        lines.append(f'  {number[node.id]}["{label}"]')
    for edge in answer.graph.edges:
        label = "<br/>".join(map(_escaped, _edge_label(edge).split("\n")))
        arrow = f'-->|"{label}"|' if label else "-->"
        lines.append(f"  {number[edge.source]} {arrow} {number[edge.target]}")
    return "\n".join(lines) + "\n"


def _edge_label(edge: Edge) -> str:
    return "\n".join([*(f"{one.what}: {one.how}" for one in edge.steps), *map(_use, edge.uses)])


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]


def _quoted(text: str) -> str:
    """A text of Graphviz's; its own line breaks stay."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _escaped(text: str) -> str:
    """A text in a Mermaid label, of which nothing is read as markup."""
    return "".join(one if one.isalnum() or one in " .,:/@_-()+=" else f"#{ord(one)};" for one in text)


def cycles(graph: Graph) -> list[str]:
    """The ways round in a graph, a sentence each."""
    return [
        f"cyclic lineage: {' -> '.join(one.name for one in way)}; nothing is made of itself: an annotation or a"
        " statement is wrong, or forged"
        for way in graph.cycles
    ]
