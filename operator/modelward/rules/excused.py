"""What exceptions excuse: not refused, and not to be forgotten either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from modelward.rules.judge import Review, Verdict, Violation, judge


@dataclass(frozen=True)
class Excused:
    """A violation that counts for nothing, and the exception that says so."""

    violation: Violation
    reason: str
    approved_by: str
    expires: str


def excused(review: Review, policies: Sequence[dict[str, Any]], verdict: Verdict) -> Iterator[Excused]:
    """Judge once more without exceptions: what is found beyond the verdict is excused.

    Args:
        review: the object and its surroundings.
        policies: as they were judged by.
        verdict: what they said, exceptions counted.
    """
    for policy in policies:
        exceptions = policy["spec"].get("exceptions")
        if not exceptions:
            continue
        spec = {key: value for key, value in policy["spec"].items() if key != "exceptions"}
        for violation in judge(review, [{**policy, "spec": spec}]).everything:
            if violation not in verdict.everything:
                by: dict[str, Any] = next((one for one in exceptions if _covers(one, violation.rule, review)), {})
                yield Excused(violation, by.get("reason", ""), by.get("approvedBy", ""), by.get("expires", ""))


def _covers(exception: dict[str, Any], rule: str, review: Review) -> bool:
    return rule in exception.get("rules", ()) and review.object["metadata"].get("name") in exception.get("names", ())
