from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage import graph as graph_module
from modelward.lineage.graph import KINDS, MAX_CYCLES, MAX_NAMES, MAX_PER_EDGE, Builder, Edge, Graph, Step, Use

DIGEST = "sha256:" + "a" * 64
PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=24)


def made(pairs: list[tuple[int, int]]) -> Graph:
    builder = Builder()
    for source, target in pairs:
        builder.link(builder.add("dataset", f"d{source}"), builder.add("dataset", f"d{target}"))
    return builder.graph()


def reached(pairs: list[tuple[int, int]], start: int) -> set[int]:
    """By hand: repeat until nothing is added."""
    found = {start}
    while True:
        more = found | {target for source, target in pairs if source in found}
        if more == found:
            return found
        found = more


def ids(graph: Graph) -> set[str]:
    return {one.id for one in graph.nodes}


@given(PAIRS, st.randoms())
def test_the_order_in_which_it_is_told_changes_nothing(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert made(pairs) == made(shuffled)


@given(PAIRS, st.integers(0, 8))
def test_what_came_of_a_node_and_what_it_came_of(pairs, start):
    graph = made([*pairs, (start, start)])
    down, up = graph.downstream(f"dataset:d{start}"), graph.upstream(f"dataset:d{start}")
    assert ids(down) == {f"dataset:d{one}" for one in reached(pairs, start)}
    assert ids(up) == {f"dataset:d{one}" for one in reached([(b, a) for a, b in pairs], start)}
    for part in (down, up):
        assert {one for edge in part.edges for one in (edge.source, edge.target)} <= ids(part)


@given(PAIRS)
def test_cycles_are_found_exactly_where_there_are_any_and_lead_back(pairs):
    graph = made(pairs)
    edges = {(one.source, one.target) for one in graph.edges}
    in_a_cycle = {a for a, b in pairs if a in reached(pairs, b)}
    assert bool(graph.cycles) == bool(in_a_cycle)
    for way in graph.cycles:
        named = [one.id for one in way]
        assert named[0] == named[-1]
        assert len(set(named)) == len(named) - 1
        assert all(pair in edges for pair in itertools.pairwise(named))


def test_a_long_chain_and_a_long_cycle_end_no_recursion():
    long = 3 * sys.getrecursionlimit()
    chain = [(one, one + 1) for one in range(long)]
    assert not made(chain).cycles
    (way,) = made([*chain, (long, 0)]).cycles
    assert len(way) == long + 2
    assert len(made(chain).downstream("dataset:d0").nodes) == long + 1


def test_no_more_cycles_are_told_than_one_reads():
    assert len(made([(one, one) for one in range(3 * MAX_CYCLES)]).cycles) == MAX_CYCLES


def test_a_digest_is_one_thing_whatever_it_is_called():
    builder = Builder()
    for name in ("s3://a/x.csv", "gs://b/copy.csv"):
        builder.add("dataset", name, DIGEST)
    (node,) = builder.graph().nodes
    assert (node.id, node.names, node.digest) == (DIGEST, ("gs://b/copy.csv", "s3://a/x.csv"), DIGEST)


@pytest.mark.parametrize(
    "text", [DIGEST, DIGEST.removeprefix("sha256:"), f"elsewhere@{DIGEST}", "s3://a/x.csv", f" {DIGEST}\n"]
)
def test_a_dataset_is_found_by_its_digest_and_by_its_name(text):
    builder = Builder()
    builder.add("dataset", "s3://a/x.csv", DIGEST)
    builder.add("dataset", "other", "sha256:" + "b" * 64)
    assert [one.id for one in builder.graph().find(text)] == [DIGEST]


@pytest.mark.parametrize("text", ["md/wdbc", "wdbc", "clinic/wdbc", "md/clinic/wdbc", "model:clinic/wdbc"])
def test_a_model_is_found_by_its_name(text):
    builder = Builder()
    builder.add("model", "clinic/wdbc")
    builder.add("model", "clinic/wdbc-2")
    assert [one.name for one in builder.graph().find(text)] == ["clinic/wdbc"]


@pytest.mark.parametrize("text", ["", "  ", "@", "sha256:", "/", "md/"])
def test_what_names_nothing_finds_nothing(text):
    builder = Builder()
    builder.add("model", "clinic/wdbc")
    builder.add("dataset", "x", DIGEST)
    assert builder.graph().find(text) == ()


def test_clients_of_two_issuers_are_two():
    builder = Builder()
    one, other = (builder.add("consumer", "user:lee", issuer=issuer) for issuer in ("clinic", "lab"))
    third = builder.add("consumer", "user:lee")
    declared = builder.add("consumer", "clinic/user:lee")
    assert len({one, other, third, declared}) == 4, "who is only declared passes for nobody whom an issuer vouches for"


def test_the_same_use_told_twice_is_counted_once():
    builder = Builder()
    model, client = builder.add("model", "a/b"), builder.add("consumer", "c")
    builder.link(model, client, uses=[Use("care", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", 5), Use("study")])
    builder.link(model, client, uses=[Use("care", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 3)])
    (edge,) = builder.graph().edges
    assert edge.uses == (Use("care", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z", 5), Use("study"))


def test_hostile_names_are_shown_and_nothing_grows_without_bound(monkeypatch):
    monkeypatch.setattr(graph_module, "MAX_NODES", 10)
    monkeypatch.setattr(graph_module, "MAX_EDGES", 5)
    builder = Builder()
    first = builder.add("dataset", "\x1b[2J\u202e" + "x" * 10_000)
    for one in range(100):
        builder.add("dataset", f"name {one}", DIGEST)
        builder.link(first, builder.add("model", f"m{one}"), [Step(str(one), "", "")])
        builder.link(first, DIGEST, [Step(str(one), "", "")], [Use(str(one), "\x1b[2J", "\x1b]0;")])
    graph = builder.graph()
    assert len(graph.nodes) == 10
    assert len(graph.edges) == 5
    assert graph.left_out > 0
    assert len(graph.node(DIGEST).names) == MAX_NAMES
    assert graph.nodes[-1].kind == "model"
    assert all(name.isprintable() and len(name) <= 1024 for one in graph.nodes for name in one.names)
    kept = next(one for one in graph.edges if one.target == DIGEST)
    assert (len(kept.steps), len(kept.uses)) == (MAX_PER_EDGE, MAX_PER_EDGE)
    assert all(text.isprintable() for use in kept.uses for text in use[:3]), "times are what a log says they are"


def test_nodes_are_in_the_order_of_the_flow():
    builder = Builder()
    for kind in reversed(KINDS):
        builder.add(kind, "x")
    assert [one.kind for one in builder.graph().nodes] == list(KINDS)


def test_nothing_known_is_an_empty_graph():
    assert Graph().downstream("x") == Graph()
    assert Graph().cycles == ()
    assert Graph(edges=(Edge("a", "b"),)).upstream("b") == Graph()
