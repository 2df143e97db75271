"""The catalogue as data: every rule has a place, a fixture of each verdict, and a message that can be written."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from modelward.api.validate import canonical, parse
from modelward.rules.catalogue import FAMILIES, Rule, catalogue, frameworks, place_title
from modelward.rules.fixtures import merged, model_of, observations_of, policy_of
from modelward.rules.judge import Review, Verdict, judge, judge_readiness
from tests.corpus import policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = pytest.mark.parametrize("rule", catalogue(), ids=lambda rule: rule.id)


def verdict(rule: Rule, which: Any) -> Verdict:
    """Judged by everything that is enforced at admission and at readiness."""
    review = Review(canonical(parse(model_of(rule, which))), namespace="clinic", now=NOW)
    policies = [canonical(parse(policy(policy_of(rule))))]
    return judge(review, policies) + judge_readiness(review, policies, observations_of(rule, which))


@RULES
def test_the_passing_fixture_breaks_nothing(rule: Rule) -> None:
    assert [violation.line for violation in verdict(rule, "passes").everything] == []


@RULES
def test_the_failing_fixture_breaks_this_rule_alone(rule: Rule) -> None:
    (violation,) = verdict(rule, "fails").violations
    assert violation.rule == rule.id
    assert "cannot be shown" not in violation.found, "the message does not evaluate"
    assert violation.fix == rule.fix


@RULES
def test_a_rule_is_off_where_the_policy_does_not_ask(rule: Rule) -> None:
    review = Review(canonical(parse(model_of(rule, "fails"))), namespace="clinic", now=NOW)
    silent = [canonical(parse(policy({})))]
    found = judge(review, silent) + judge_readiness(review, silent, observations_of(rule, "fails"))
    assert found.everything == ()


@RULES
def test_a_rule_names_places_that_there_are(rule: Rule) -> None:
    assert all(place_title(place) for place in rule.frameworks)
    assert len(set(rule.frameworks)) == len(rule.frameworks)
    assert rule.family in FAMILIES


@RULES
def test_a_rule_is_written_for_people(rule: Rule) -> None:
    assert len(f"{rule.id} {rule.field}: . Fix: {rule.fix}") < 300, "a line of a terminal has to hold the rest as well"
    assert rule.reason.endswith(".")
    assert rule.fix.endswith(".")
    assert not rule.title.endswith(".")
    assert "matches(" not in rule.expression


def test_there_are_rules_in_every_family_and_for_every_place() -> None:
    assert len(catalogue()) >= 40
    assert set(Counter(rule.family for rule in catalogue())) == set(FAMILIES)
    named = {place for rule in catalogue() for place in rule.frameworks}
    assert named == {f"{key}-{place}" for key, framework in frameworks().items() for place in framework.places}
    assert named >= {f"GDPR-{article}" for article in (5, 22, 25, 30, 32, 35)}
    assert named >= {f"EUAIA-{article}" for article in (10, 12, 13, 14, 15)}


def test_ids_are_given_once_and_files_are_named_after_them() -> None:
    assert len({rule.id for rule in catalogue()}) == len(catalogue())
    assert [rule.id for rule in catalogue()] == sorted(rule.id for rule in catalogue())


@pytest.mark.parametrize(
    ("value", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({}, {"a": {"repeat": "x", "times": 3}}, {"a": "xxx"}),
    ],
)
def test_merge_patches_are_those_of_the_rfc(value: Any, patch: Any, result: Any) -> None:
    """Test cases of RFC 7386, appendix A."""
    assert merged(value, patch) == result
