"""Cycles in a directed graph, without recursion: others write what the graph is made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping


def knots(ids: Iterable[str], targets: Mapping[str, tuple[str, ...]]) -> Iterator[set[str]]:
    """Yield the strongly connected components: Tarjan (1972), with a stack of its own in place of the interpreter's."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    for root in ids:
        if root in order:
            continue
        stack = [(root, iter(targets.get(root, ())))]
        order[root] = low[root] = len(order)
        path.append(root)
        on_path.add(root)
        while stack:
            here, rest = stack[-1]
            for other in rest:
                if other not in order:
                    order[other] = low[other] = len(order)
                    path.append(other)
                    on_path.add(other)
                    stack.append((other, iter(targets.get(other, ()))))
                    break
                if other in on_path:
                    low[here] = min(low[here], order[other])
            else:
                stack.pop()
                if stack:
                    low[stack[-1][0]] = min(low[stack[-1][0]], low[here])
                if low[here] == order[here]:
                    knot: set[str] = set()
                    while here not in knot:
                        knot.add(path.pop())
                    on_path -= knot
                    yield knot


def way_round(start: str, within: set[str], targets: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the shortest way from `start` back to it, both ends in the list.

    Raises:
        ValueError: there is none within these.
    """
    before: dict[str, str] = {}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for other in targets.get(here, ()):
            if other == start:
                way = [start]
                while here != start:
                    way.append(here)
                    here = before[here]
                return [start, *reversed(way)]
            if other in within and other not in before:
                before[other] = here
                waiting.append(other)
    raise ValueError(f"{start} is in no cycle")
