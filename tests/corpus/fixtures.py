"""The catalogue's own fixtures as cases."""

from __future__ import annotations

from typing import Literal

from modelward.rules.catalogue import Rule, catalogue
from modelward.rules.fixtures import model_of, observations_of
from tests.corpus.case import CASES, Case


def _add(rule: Rule, verdict: Literal["passes", "fails"]) -> None:
    broken = frozenset({rule.id} if verdict == "fails" else ())
    early = rule.enforced_at == "admission"
    CASES.append(
        Case(
            f"{rule.id} {verdict}",
            f"fixtures-{rule.id.lower()}" if rule.fixtures.policy else "strict",
            model_of(rule, verdict),
            broken if early else frozenset(),
            observations_of(rule, verdict),
            frozenset() if early else broken,
        )
    )


for _rule in catalogue():
    _add(_rule, "passes")
    _add(_rule, "fails")
