"""The lineage graph: what came of what, with how and why, and the questions that are asked of it.

An edge points the way that data flows: dataset -> training run -> artefact -> model -> consumer, and from a policy to
the models whose fields it treats. What has a digest is known by it, whatever it is called and wherever it is kept, so
that an artefact that serves as another model's dataset links both.

Everything is iterative and bounded: names and edges come from annotations, statements and logs, which others write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple
from urllib.parse import quote

from modelward.api.printable import printable
from modelward.lineage.cycles import knots, way_round

Kind = Literal["policy", "dataset", "run", "artefact", "model", "consumer"]
KINDS: tuple[Kind, ...] = ("policy", "dataset", "run", "artefact", "model", "consumer")

MAX_NODES = 50_000
MAX_EDGES = 200_000
MAX_PER_EDGE = 64
MAX_NAMES = 8
MAX_CYCLES = 16
MAX_TEXT = 1024


class Step(NamedTuple):
    """A transformation or treatment, in words: what was changed, how, and why."""

    what: str
    how: str
    why: str


class Use(NamedTuple):
    """Answers that a consumer got for one purpose: between when (RFC 3339 in UTC), and how many; 0: not counted."""

    purpose: str
    first: str = ""
    last: str = ""
    requests: int = 0


@dataclass(frozen=True)
class Node:
    """Something that data passes through.

    Attributes:
        id: what it is known by: its digest (`sha256:<hex>`), or its kind and name (`model:clinic/wdbc`); of a consumer
            with the issuer between (`consumer:clinic/user:lee`, `consumer:/oncology` where there is none).
        kind: what it is; of what is named as several, the first in KINDS.
        names: what it is called, sorted; at most MAX_NAMES.
        issuer: of a consumer: who vouches for it; empty where it is only declared.
    """

    id: str
    kind: Kind
    names: tuple[str, ...]
    issuer: str = ""

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0] if self.names else self.id

    @property
    def digest(self) -> str:
        """`sha256:<hex>`, or nothing."""
        return self.id if self.id.startswith("sha256:") else ""


@dataclass(frozen=True)
class Edge:
    """Data that flows from one node to another (ids): what was done to it, and of answers, what they were used for.

    `by` are the models (`namespace/name`) whose owners declare it; empty where more than somebody's word tells of it.
    """

    source: str
    target: str
    steps: tuple[Step, ...] = ()
    uses: tuple[Use, ...] = ()
    by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """Nodes by kind, then name; edges in the order of their nodes. `left_out` counts what there was no room for."""

    nodes: tuple[Node, ...] = ()
    edges: tuple[Edge, ...] = ()
    left_out: int = 0

    def node(self, id_: str) -> Node | None:
        """Return the node with this id."""
        rank = self._rank.get(id_)
        return None if rank is None else self.nodes[rank]

    def find(self, text: str) -> tuple[Node, ...]:
        """Return the nodes that are meant by a digest (with or without `sha256:`), an id or a name.

        An address may carry its digest; of `model:` and `md/` the rest is a name, which need not tell the namespace.
        """
        text = _text(text.strip())
        if not text:
            return ()
        name, _, digest = text.rpartition("@")
        wanted = {text, f"sha256:{text}", digest if name else text}
        bare = text.removeprefix("md/").removeprefix("model:")
        return tuple(
            one
            for one in self.nodes
            if one.id in wanted
            or text in one.names
            or (one.kind == "model" and bare in (one.name, one.name.partition("/")[2]))
        )

    def upstream(self, *starts: str) -> Graph:
        """Return what these nodes (ids) came of, themselves included."""
        return self._reached(starts, self._sources)

    def downstream(self, *starts: str) -> Graph:
        """Return what came of these nodes (ids), themselves included: the blast radius of a breach."""
        return self._reached(starts, self._targets)

    @cached_property
    def cycles(self) -> tuple[tuple[Node, ...], ...]:
        """Ways from a node back to itself: the shortest in each knot of nodes; at most MAX_CYCLES.

        Data that came of itself is a mistake in what was declared, or a forgery.
        """
        found = []
        for knot in knots([one.id for one in self.nodes], self._targets):
            first = min(knot)
            if len(knot) > 1 or first in self._targets.get(first, ()):
                found.append(way_round(first, knot, self._targets))
        return tuple(tuple(self.nodes[self._rank[id_]] for id_ in way) for way in sorted(found)[:MAX_CYCLES])

    def of_kind(self, kind: Kind) -> tuple[Node, ...]:
        """Return the nodes of a kind."""
        return tuple(one for one in self.nodes if one.kind == kind)

    def edges_from(self, id_: str) -> tuple[Edge, ...]:
        """Return the edges that begin at this node (id)."""
        return self._out.get(id_, ())

    def edges_to(self, id_: str) -> tuple[Edge, ...]:
        """Return the edges that end at this node (id)."""
        return self._in.get(id_, ())

    def _reached(self, starts: Iterable[str], neighbours: Mapping[str, tuple[str, ...]]) -> Graph:
        known = [id_ for id_ in starts if id_ in self._rank]
        reached, waiting = set(known), deque(known)
        while waiting:
            for other in neighbours.get(waiting.popleft(), ()):
                if other not in reached:
                    reached.add(other)
                    waiting.append(other)
        ids = sorted(reached, key=self._rank.__getitem__)
        return Graph(
            tuple(self.nodes[self._rank[id_]] for id_ in ids),
            tuple(edge for id_ in ids for edge in self.edges_from(id_) if edge.target in reached),
            self.left_out,
        )

    @cached_property
    def _rank(self) -> dict[str, int]:
        return {one.id: index for index, one in enumerate(self.nodes)}

    @cached_property
    def _out(self) -> dict[str, tuple[Edge, ...]]:
        return _grouped((one.source, one) for one in self.edges)

    @cached_property
    def _in(self) -> dict[str, tuple[Edge, ...]]:
        return _grouped((one.target, one) for one in self.edges)

    @cached_property
    def _targets(self) -> dict[str, tuple[str, ...]]:
        return {id_: tuple(one.target for one in edges) for id_, edges in self._out.items()}

    @cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        return {id_: tuple(one.source for one in edges) for id_, edges in self._in.items()}


@dataclass
class Builder:
    """Gathers nodes and edges in any order; the same graph comes of any."""

    _nodes: dict[str, tuple[set[Kind], set[str], str]] = field(default_factory=dict)
    _edges: dict[tuple[str, str], tuple[dict[Step, int], dict[str, Use], set[str]]] = field(default_factory=dict)
    _left_out: int = 0

    def add(self, kind: Kind | None, name: str, digest: str = "", issuer: str = "") -> str:
        """Add a node, or a further name of one that is there; return its id, which is empty where there is no room.

        Args:
            kind: what it is; None where that is for others to say, and a dataset where nobody does.
            name: what it is called; may be empty where there is a digest.
            digest: `sha256:<hex>`, or nothing.
            issuer: of a consumer, who vouches for it.
        """
        name, issuer = _text(name), _text(issuer)
        # A declared consumer must not pass for one that an issuer vouches for: its name may have a slash.
        id_ = digest or (f"consumer:{quote(issuer, safe='')}/{name}" if kind == "consumer" else f"{kind}:{name}")
        there = self._nodes.get(id_)
        if there is None:
            if len(self._nodes) >= MAX_NODES:
                self._left_out += 1
                return ""
            there = self._nodes[id_] = (set(), set(), issuer)
        if kind:
            there[0].add(kind)
        if name:
            there[1].add(name)
            if len(there[1]) > MAX_NAMES:
                there[1].remove(max(there[1]))
        return id_

    def link(
        self, source: str, target: str, steps: Iterable[Step] = (), uses: Iterable[Use] = (), by: str = ""
    ) -> None:
        """Add an edge between two ids, or what one that is there lacks; an empty id is passed over.

        `by` is the model whose owner declares it; empty where it is known otherwise.

        Of two uses for the same purpose, which may count the same answers, the wider span and the greater count stay.
        """
        if not source or not target:
            return
        there = self._edges.get((source, target))
        if there is None:
            if len(self._edges) >= MAX_EDGES:
                self._left_out += 1
                return
            there = self._edges[source, target] = ({}, {}, set())
        there[2].add(_text(by))
        for place, told in enumerate(steps):
            step = Step(*map(_text, told))
            there[0][step] = min(place, there[0].get(step, place))
            if len(there[0]) > MAX_PER_EDGE:
                del there[0][_in_order(there[0])[-1]]
                self._left_out += 1
        for use in uses:
            purpose = _text(use.purpose)
            shown = Use(purpose, _text(use.first), _text(use.last), use.requests)
            there[1][purpose] = _wider(there[1].get(purpose), shown)
            if len(there[1]) > MAX_PER_EDGE:
                del there[1][max(there[1])]
                self._left_out += 1

    def graph(self) -> Graph:
        """Return the graph of what was added."""
        nodes = sorted(
            (
                Node(id_, min(kinds, key=KINDS.index, default="dataset"), tuple(sorted(names)), issuer)
                for id_, (kinds, names, issuer) in self._nodes.items()
            ),
            key=lambda one: (KINDS.index(one.kind), one.names, one.id),
        )
        rank = {one.id: index for index, one in enumerate(nodes)}
        edges = [
            Edge(
                source,
                target,
                tuple(_in_order(steps)),
                tuple(uses[purpose] for purpose in sorted(uses)),
                () if "" in by else tuple(sorted(by)),
            )
            for (source, target), (steps, uses, by) in self._edges.items()
        ]
        edges.sort(key=lambda one: (rank[one.source], rank[one.target]))
        return Graph(tuple(nodes), tuple(edges), self._left_out)


def _text(text: str) -> str:
    return printable(text)[:MAX_TEXT]


def _wider(one: Use | None, other: Use) -> Use:
    if one is None:
        return other
    firsts = [time for time in (one.first, other.first) if time]
    return Use(one.purpose, min(firsts, default=""), max(one.last, other.last), max(one.requests, other.requests))


def _in_order(steps: Mapping[Step, int]) -> list[Step]:
    """Steps by their place where they are declared."""
    return sorted(steps, key=lambda step: (steps[step], step))


def _grouped(pairs: Iterable[tuple[str, Edge]]) -> dict[str, tuple[Edge, ...]]:
    found: dict[str, list[Edge]] = {}
    for id_, edge in pairs:
        found.setdefault(id_, []).append(edge)
    return {id_: tuple(edges) for id_, edges in found.items()}
