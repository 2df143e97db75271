"""Draws a lineage graph as SVG: in layers from left to right, so that data flows the way one reads.

Layers are the longest way from a source (Sugiyama et al., 1981, without the dummy nodes: graphs are small here, and an
edge may pass behind a box); an edge that leads back closes a cycle and is drawn dashed. Every node is a link into the
table that says the same in words.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from modelward.lineage.graph import Graph, Node
from modelward.reporting.html import Html, el

MAX_DRAWN = 40
KINDS: Mapping[str, str] = {
    "policy": "policy",
    "dataset": "dataset",
    "run": "training run",
    "artefact": "model artefact",
    "model": "model",
    "consumer": "consumer",
}
_WIDTH, _HEIGHT = 176, 46
_ACROSS, _DOWN = 52, 14
_MARGIN = 6
_LETTERS = 20


def drawn(graph: Graph, title: str, key: str, link: Callable[[Node], str]) -> Html:
    """Return the drawing.

    Args:
        graph: at most MAX_DRAWN nodes.
        title: what it shows, for who does not see it.
        key: makes ids on the page unique.
        link: the id on the page that a node leads to.
    """
    back = _leading_back(graph)
    layers = _ordered(graph, _layers(graph, back))
    tallest = max(map(len, layers), default=0)
    height = tallest * (_HEIGHT + _DOWN) - _DOWN + 2 * _MARGIN
    width = len(layers) * (_WIDTH + _ACROSS) - _ACROSS + 2 * _MARGIN
    at = {}
    for column, layer in enumerate(layers):
        taken = len(layer) * (_HEIGHT + _DOWN) - _DOWN
        for row, id_ in enumerate(layer):
            y = (height - taken) // 2 + row * (_HEIGHT + _DOWN)
            at[id_] = (_MARGIN + column * (_WIDTH + _ACROSS), y)
    ways = [
        el(
            "path",
            d=_way(at[edge.source], at[edge.target]),
            class_="back" if (edge.source, edge.target) in back else None,
            marker_end=f"url(#{key}-arrow)",
        )
        for edge in graph.edges
    ]
    arrow = el(
        "marker",
        el("path", d="M0 0 8 4 0 8z"),
        id=f"{key}-arrow",
        viewBox="0 0 8 8",
        refX="8",
        refY="4",
        markerWidth="7",
        markerHeight="7",
        orient="auto",
    )
    boxes = [_box(node, *at[node.id], link(node)) for node in graph.nodes]
    return el(
        "svg",
        el("title", title, id=f"{key}-title"),
        el("defs", arrow),
        el("g", *ways, class_="ways", aria_hidden="true"),
        *boxes,
        class_="graph",
        role="group",
        aria_labelledby=f"{key}-title",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )


def _box(node: Node, x: int, y: int, href: str) -> Html:
    kind = KINDS[node.kind]
    named = f"{kind} {', '.join(node.names) or node.id}"
    if node.digest and node.names:
        named += f", {node.digest[:19]}..."
    return el(
        "a",
        el("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=4),
        el("text", kind, x=x + 10, y=y + 17, class_="kind"),
        el("text", _short(node.name), x=x + 10, y=y + 35),
        href=f"#{href}",
        class_=f"node {node.kind}",
        aria_label=named,
    )


def _short(name: str) -> str:
    """A name that fits its box: addresses are told apart by their ends."""
    name = name.partition("://")[2] or name
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS // 3]}…{name[-(_LETTERS * 2 // 3 - 1) :]}"


def _way(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1 = source[0] + _WIDTH, source[1] + _HEIGHT // 2
    x2, y2 = target[0], target[1] + _HEIGHT // 2
    bend = max((x2 - x1) // 2, 24)
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"


def _leading_back(graph: Graph) -> set[tuple[str, str]]:
    """The edges that close a cycle, in a walk through the graph in its own order."""
    back: set[tuple[str, str]] = set()
    done: set[str] = set()
    for root in graph.nodes:
        if root.id in done:
            continue
        done.add(root.id)
        path = {root.id}
        stack = [(root.id, iter(graph.edges_from(root.id)))]
        while stack:
            here, edges = stack[-1]
            for edge in edges:
                if edge.target in path:
                    back.add((here, edge.target))
                elif edge.target not in done:
                    done.add(edge.target)
                    path.add(edge.target)
                    stack.append((edge.target, iter(graph.edges_from(edge.target))))
                    break
            else:
                path.discard(here)
                stack.pop()
    return back


def _layers(graph: Graph, back: set[tuple[str, str]]) -> list[list[str]]:
    forward = [(edge.source, edge.target) for edge in graph.edges if (edge.source, edge.target) not in back]
    waits = {node.id: 0 for node in graph.nodes}
    for _, target in forward:
        waits[target] += 1
    layer = dict.fromkeys(waits, 0)
    ready = deque(id_ for id_, count in waits.items() if not count)
    while ready:
        here = ready.popleft()
        for source, target in forward:
            if source == here:
                layer[target] = max(layer[target], layer[here] + 1)
                waits[target] -= 1
                if not waits[target]:
                    ready.append(target)
    for node in reversed(graph.nodes):  # what has no source stands next to what it goes into
        targets = [layer[target] for source, target in forward if source == node.id]
        if targets and not any(target == node.id for _, target in forward):
            layer[node.id] = min(targets) - 1
    found: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in graph.nodes:
        found[layer[node.id]].append(node.id)
    return found


def _ordered(graph: Graph, layers: list[list[str]]) -> list[list[str]]:
    """Sort each layer by the mean place of what leads into it, so that fewer edges cross."""
    place = {id_: float(row) for layer in layers for row, id_ in enumerate(layer)}
    for layer in layers[1:]:
        means = {}
        for row, id_ in enumerate(layer):
            sources = [place[edge.source] for edge in graph.edges_to(id_)]
            means[id_] = (sum(sources) / len(sources) if sources else float(row), row)
        layer.sort(key=means.__getitem__)
        place.update({id_: float(row) for row, id_ in enumerate(layer)})
    return layers
