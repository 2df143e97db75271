"""What was last said of each model: the counts in policies' status, in reports and in metrics are made from it."""

from __future__ import annotations

from collections import Counter

from modelward.planner.report import Judged

Place = tuple[str, str]
"""The namespace and the name of a ModelDeployment."""


class Ledger:
    """Keeps the last verdict on each model in memory; a restart judges every model anyway."""

    def __init__(self) -> None:
        self._judged: dict[Place, Judged] = {}

    def put(self, namespace: str, name: str, judged: Judged) -> None:
        """Keep what was said of a model."""
        self._judged[namespace, name] = judged

    def get(self, namespace: str, name: str) -> Judged | None:
        """Return what was last said of a model."""
        return self._judged.get((namespace, name))

    def drop(self, namespace: str, name: str) -> Judged | None:
        """Forget a model that is gone; return what was last said of it."""
        return self._judged.pop((namespace, name), None)

    def governed(self) -> list[dict[str, int]]:
        """Return, for each model, the policies that govern it and how many rules of each it breaks."""
        return [judged.violations for judged in self._judged.values()]

    def within(self, namespace: str) -> dict[str, Judged]:
        """Return what was said of the models of a namespace, by name."""
        return {name: judged for (place, name), judged in self._judged.items() if place == namespace}

    def rules(self) -> Counter[str]:
        """Return how often each rule is broken now."""
        return Counter(one.rule for judged in self._judged.values() for one in judged.broken)
