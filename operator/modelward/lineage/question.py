"""What is asked of the lineage graph, and the part of it that answers: where data came from, and how far they went."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from modelward.api.printable import printable
from modelward.lineage.graph import Graph, Node
from modelward.wording import names

Direction = Literal["both", "upstream", "downstream"]
_DIGEST = re.compile(r"(sha256:)?([0-9a-f]{64})")
_MODEL = re.compile(r"(?:md|modeldeployments?(?:\.modelward\.io)?)/(.+)")
_NAMED = 5


class QuestionError(Exception):
    """What is asked for is not known, or not told apart; the message says what is."""


@dataclass(frozen=True)
class Answer:
    """The part of the graph that answers.

    Attributes:
        asked: what was asked for, as it was.
        about: the nodes that are meant.
        direction: of a model, where it came from and who got its answers; of data, what came of them; of a consumer,
            what its answers came from.
        graph: these nodes and what was asked of them.
    """

    asked: str
    about: tuple[Node, ...]
    direction: Direction
    graph: Graph


def of_digest(graph: Graph, digest: str) -> Answer:
    """Return what came of the data or artefact with a digest: the blast radius of a breach.

    Args:
        graph: everything that is known.
        digest: SHA-256 in hex, with or without `sha256:` before it, or an address that ends in it.

    Raises:
        QuestionError: it is no digest, or nothing that is known has it.
    """
    found = _DIGEST.fullmatch(digest.strip().rpartition("@")[2])
    if not found:
        raise QuestionError(f"{_shown(digest)} is no digest: it is sha256: and 64 lower-case hex digits")
    node = graph.node(f"sha256:{found[2]}")
    if node is None:
        raise QuestionError(
            f"nothing that is known here has the digest sha256:{found[2]}: no annotation of a model and no signed"
            " statement names it"
        )
    return Answer(digest, (node,), "downstream", graph.downstream(node.id))


def of_name(graph: Graph, name: str, namespace: str | None = None) -> Answer:
    """Return what is to tell of a model, a consumer, a data set or an artefact.

    Args:
        graph: everything that is known.
        name: of a model, such as `md/wdbc`, `wdbc` or `clinic/wdbc`; or an address, a digest, or who was answered.
        namespace: of the model.

    Raises:
        QuestionError: nothing has this name, or several models have.
    """
    named = _MODEL.fullmatch(name.strip())
    found = graph.find(named[1] if named else name)
    models = tuple(one for one in found if one.kind == "model" and namespace in (None, one.name.partition("/")[0]))
    others = () if named or namespace else tuple(one for one in found if one.kind != "model")
    if len(models) > 1:
        places = ", ".join(one.name.partition("/")[0] for one in models[:_NAMED])
        raise QuestionError(f"{_shown(name)} is in several namespaces ({places}): give -n NAMESPACE")
    if models:
        (model,) = models
        return Answer(name, models, "both", _together(graph, graph.upstream(model.id), graph.downstream(model.id)))
    if not others:
        raise QuestionError(_unknown(graph, name, namespace, model=bool(named)))
    ids = [one.id for one in others]
    if all(one.kind == "consumer" for one in others):
        return Answer(name, others, "upstream", graph.upstream(*ids))
    return Answer(name, others, "downstream", graph.downstream(*ids))


def _together(graph: Graph, *parts: Graph) -> Graph:
    nodes = {one.id for part in parts for one in part.nodes}
    edges = {(one.source, one.target) for part in parts for one in part.edges}
    return Graph(
        tuple(one for one in graph.nodes if one.id in nodes),
        tuple(one for one in graph.edges if (one.source, one.target) in edges),
        graph.left_out,
    )


def _unknown(graph: Graph, name: str, namespace: str | None, *, model: bool) -> str:
    known = [one.name for one in graph.of_kind("model") if namespace in (None, one.name.partition("/")[0])]
    what = f"no model {_shown(name)}" if model or namespace else f"nothing that is called {_shown(name)}"
    where = f" in namespace {_shown(namespace)}" if namespace else ""
    if not known:
        return f"{what}{where}: no model is known there" if namespace else f"{what}: no model is known"
    return f"{what}{where}; models that are known: {names(known, _NAMED)}"


def _shown(text: str) -> str:
    return printable(text)[:200]
