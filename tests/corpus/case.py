"""What a case is, and the ways to change the good manifest."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.corpus.policies import Manifest, good

LINEAGE = "lineage.modelward.io/"
DIGEST = "a" * 64
Change = Callable[[Manifest], Any]


@dataclass(frozen=True)
class Case:
    """A manifest and exactly the rules that it breaks under a policy."""

    name: str
    policy: str
    manifest: Manifest
    breaks: frozenset[str]
    observed: Manifest = field(default_factory=dict)
    not_ready: frozenset[str] = frozenset()

    @property
    def family(self) -> str:
        """The family of a rule that it breaks; `none` where it breaks none."""
        return min((rule.split("-", 1)[0] for rule in self.breaks | self.not_ready), default="none")


CASES: list[Case] = []


def case(policies: str, name: str, change: Change, *breaks: str) -> None:
    """Add the good manifest, changed, under each of these policies."""
    for policy in policies.split():
        manifest = copy.deepcopy(good())
        change(manifest)
        CASES.append(Case(f"{policy}: {name}", policy, manifest, frozenset(breaks)))


def put(path: str, value: Any) -> Change:
    """Put a value at a path such as `spec/access/rules/0/subjects`."""

    def change(manifest: Manifest) -> None:
        node, last = _at(manifest, path)
        node[last] = copy.deepcopy(value)

    return change


def drop(path: str) -> Change:
    """Take out what is at a path."""

    def change(manifest: Manifest) -> None:
        node, last = _at(manifest, path)
        del node[last]

    return change


def add(path: str, value: Any) -> Change:
    """Add a value to the list at a path."""

    def change(manifest: Manifest) -> None:
        node, last = _at(manifest, path)
        node[last].append(copy.deepcopy(value))

    return change


def annotation(key: str, value: str | None) -> Change:
    """Give a lineage annotation another value, or take it out."""
    path = f"metadata/annotations/{LINEAGE.replace('/', '~1')}{key}"
    return drop(path) if value is None else put(path, value)


def both(*changes: Change) -> Change:
    """Make several changes, in order."""

    def change(manifest: Manifest) -> None:
        for one in changes:
            one(manifest)

    return change


def nothing(_: Manifest) -> None:
    """Change nothing."""


def bare(manifest: Manifest) -> None:
    """Leave nothing but what the schema asks for."""
    manifest["metadata"] = {"name": manifest["metadata"]["name"]}
    manifest["spec"] = {"model": {"image": "wdbc:latest"}}


BARE_BASELINE = ("ENC-001", "ACC-001", "ACC-004", "LIN-001", "LIN-002", "LIN-003", "LIN-004", "RUN-001")


def _at(manifest: Manifest, path: str) -> tuple[Any, Any]:
    """The container of what a path names, and its key in it; `~1` stands for a slash, as in RFC 6901."""
    *parents, last = [step.replace("~1", "/") for step in path.split("/")]
    node: Any = manifest
    for step in parents:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node, int(last) if isinstance(node, list) else last
