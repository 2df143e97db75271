"""The verdict that an auditor reads: what was counted, with the doubt of the noise; small groups are left out."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

pytest.importorskip("Pyfhel")

from modelward.audit.auditor import Opened
from modelward.encrypted.envelope import Aggregate
from modelward.fairness.counts import AttributeCounts, GroupCounts
from modelward.planner.audited import counted_in, fairness_in


def opened(
    *groups: GroupCounts, most: float | None = 0.1, epsilon: int = 1, unknown: int = 0, minimum: int = 20
) -> Opened:
    header = Aggregate(
        "0" * 64, "0" * 64, "loans/credit", "DataPolicy care", 0, 1, 1, 1, minimum, (), most, minimum_group_size=50
    )
    attributes = (AttributeCounts("sex", groups),) if groups else ()
    return Opened(header, (), (), 1.0, 5, "1.0", 9, attributes, unknown, Fraction(epsilon, 10))


def told(*groups: GroupCounts, **changes: Any) -> dict[str, Any]:
    found = fairness_in(opened(*groups, **changes))
    assert found is not None
    return found


def test_groups_that_are_treated_unequally_are_named_with_where_the_difference_may_lie() -> None:
    found = told(GroupCounts("f", 8000, 640), GroupCounts("m", 16000, 4000), GroupCounts("other", 15, 15))
    assert (found["status"], found["reason"]) == ("False", "DifferenceTooLarge")
    (attribute,) = found["attributes"]
    parity = attribute["demographicParity"]
    assert (parity["highest"], parity["lowest"], parity["difference"]) == ("m", "f", 0.17)
    assert parity["low"] < 0.17 < parity["high"]
    assert parity["certain"]
    f, m, other = attribute["groups"]
    assert (f["selection"]["rate"], m["selection"]["rows"]) == (0.08, 16000)
    assert other == {"name": "other"}  # no rate, and no rows
    assert "truePositives" not in attribute


def test_the_noise_is_in_the_interval_and_in_the_verdict() -> None:
    groups = (GroupCounts("f", 100, 30), GroupCounts("m", 100, 70))
    clear, drowned = told(*groups, epsilon=100), told(*groups, epsilon=1)
    assert (clear["status"], drowned["status"]) == ("False", "Unknown")
    assert drowned["reason"] == "TooFewRows"
    wide, narrow = (one["attributes"][0]["demographicParity"] for one in (drowned, clear))
    assert wide["low"] < 0 < narrow["low"]
    assert wide["difference"] == narrow["difference"] == 0.4


def test_small_groups_are_not_compared() -> None:
    found = told(GroupCounts("f", 49, 0), GroupCounts("m", 500, 500))
    assert (found["status"], found["reason"]) == ("Unknown", "TooFewRows")
    assert "demographicParity" not in found["attributes"][0]
    assert found["minimumGroupSize"] == 50
    assert told(GroupCounts("f", 90, 9), GroupCounts("m", 500, 50), minimum=100)["minimumGroupSize"] == 100


def test_what_was_true_is_compared_where_it_was_told() -> None:
    female = GroupCounts("f", 5000, 2500, 1000, 500, 1000, 100)
    male = GroupCounts("m", 5000, 2500, 1000, 900, 1000, 100)
    found = told(female, male)
    assert (found["status"], found["attributes"][0]["truePositives"]["difference"]) == ("False", 0.4)
    assert found["attributes"][0]["falsePositives"]["difference"] == 0.0
    assert "true positives by sex: m 0.400 above f" in found["message"]


def test_alike_is_within_the_limit_and_mostly_unknown_is_not_known() -> None:
    groups = (GroupCounts("f", 5000, 2500), GroupCounts("m", 5000, 2500))
    assert told(*groups)["status"] == "True"
    assert told(*groups, unknown=20_000)["status"] == "Unknown"


@pytest.mark.parametrize(("hits", "which"), [((0, 5), "no"), ((10, 5), "no"), ((5000, 4990), "every")])
def test_of_answers_that_are_all_alike_but_for_the_noise_nothing_is_said(hits: tuple[int, int], which: str) -> None:
    found = told(GroupCounts("f", 5000, hits[0]), GroupCounts("m", 5000, hits[1]))
    assert (found["status"], found["reason"]) == ("Unknown", "NothingToCompare")
    assert f"{which} answer to 10,000 rows is favourable" in found["message"]
    few = told(GroupCounts("f", 5000, 10), GroupCounts("m", 5000, 5), epsilon=100)
    assert few["status"] == "True"


def test_where_no_groups_are_compared_there_is_no_verdict() -> None:
    assert fairness_in(opened()) is None
    assert counted_in(opened(GroupCounts("f", 100, 50), most=None)) is None
