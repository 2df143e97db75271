from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from modelward.api.validate import canonical, parse
from modelward.rules.excused import excused
from modelward.rules.judge import Review, judge
from tests.corpus import BASELINE, good, policy

EXCEPTION = {"rules": ["ENC-001"], "names": ["wdbc"], "reason": "legacy", "approvedBy": "ciso"}


def found(expires: str, **change: Any) -> list[tuple[str, str, str]]:
    manifest = good()
    del manifest["spec"]["encryption"]
    exception = {**EXCEPTION, "expires": expires, **change}
    policies = [
        canonical(parse(policy({"require": BASELINE, "exceptions": [exception]}))),
        canonical(parse(policy({}))),
    ]
    review = Review(canonical(parse(manifest)), None, "clinic", now=datetime(2026, 6, 1, tzinfo=UTC))
    verdict = judge(review, policies)
    told = [(item.violation.rule, item.reason, item.approved_by) for item in excused(review, policies, verdict)]
    assert len(told) + len(verdict.violations) == 1, "what is excused is not refused, and nothing is lost"
    return told


def test_what_an_exception_excuses_is_found_with_its_reason() -> None:
    assert found("2027-01-01T00:00:00Z") == [("ENC-001", "legacy", "ciso")]


def test_an_exception_that_ended_or_is_of_others_excuses_nothing() -> None:
    assert found("2026-01-01T00:00:00Z") == []
    assert found("2027-01-01T00:00:00Z", names=["other"]) == []
