"""The fixtures of the rules as whole objects: each a change to one good model, under one policy that asks for all."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml

from modelward.rules.catalogue import Fixture, Rule

NAMESPACE = "clinic"


def good_model() -> dict[str, Any]:
    """Return a ModelDeployment that breaks no rule, as a person would write it."""
    return _read("model")


def strict_policy() -> dict[str, Any]:
    """Return the spec of a policy that asks for everything."""
    return _read("policy")


def good_observations() -> dict[str, Any]:
    """Return what the controller sees of a model that breaks no rule."""
    return _read("observed")


def policy_of(rule: Rule) -> dict[str, Any]:
    """Return the spec of the policy that a rule's fixtures are judged by."""
    spec: dict[str, Any] = merged(strict_policy(), rule.fixtures.policy)
    return spec


def model_of(rule: Rule, verdict: Literal["passes", "fails"]) -> dict[str, Any]:
    """Return the ModelDeployment that keeps, or breaks, a rule."""
    fixture = _fixture(rule, verdict)
    model: dict[str, Any] = merged(good_model(), {"metadata": fixture.metadata, "spec": fixture.spec})
    return model


def observations_of(rule: Rule, verdict: Literal["passes", "fails"]) -> dict[str, Any]:
    """Return what the controller sees of the model that keeps, or breaks, a rule."""
    observations: dict[str, Any] = merged(good_observations(), _fixture(rule, verdict).observed)
    return observations


def merged(value: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386); `{repeat: x, times: n}` stands for a long text."""
    if not isinstance(patch, dict):
        return patch
    if set(patch) == {"repeat", "times"}:
        return patch["repeat"] * patch["times"]
    result = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), change)
    return result


def _fixture(rule: Rule, verdict: Literal["passes", "fails"]) -> Fixture:
    return rule.fixtures.passes if verdict == "passes" else rule.fixtures.fails


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(_text(name), Loader=yaml.CSafeLoader)
    return content


@cache
def _text(name: str) -> str:
    return (resources.files("modelward.rules") / "fixtures" / f"{name}.yaml").read_text(encoding="utf-8")
