from __future__ import annotations

import dataclasses
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.status import ReidentificationStatus
from modelward.planner.anonymity import Asked, of_requests, reidentification_config
from modelward.planner.reidentification import (
    combined,
    k_anonymous,
    k_anonymous_by_pod,
    reidentification_status,
    steady,
)
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.unsupported import unsupported
from modelward.reidentification.sample import MAX_KEPT, Packed, Sample, bit_of
from modelward.reidentification.told import Combinations, Judged, Suppressed
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, stored, supported

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
LATER = BEGAN + timedelta(days=2)
ASKED = Asked(5, 0.01, ("age", "city"))
KEY = "0123456789abcdef"


def sample(*classes: tuple[int, int]) -> Sample:
    """So many combinations of so many rows each, each row of another person."""
    found, combination = Sample(), 0
    for count, rows in classes:
        for _ in range(count):
            combination += 1
            for person in range(rows):
                found.add(combination << 40, bit_of(person))
    return found


def told(found: Sample, **changes: Any) -> Combinations:
    made = Combinations("2026-11-01T00:00:00Z", 5, KEY, ("age", "city"), people=False, sample=found.pack())
    return Combinations(**{name: changes.get(name, getattr(made, name)) for name in made.__struct_fields__})


def condition(*classes: tuple[int, int], now: datetime = LATER, before: Any = None, **changes: Any) -> tuple:
    return k_anonymous(ASKED, combined([told(sample(*classes), **changes)]), now, before)


# --- what is asked


def model(*inputs: dict[str, Any]) -> Any:
    manifest = supported()
    manifest["spec"]["schema"] = {"inputs": list(inputs)}
    return parsed(manifest)


TABLE = {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["age", "size", "weight"]}
PATIENT = {"name": "patient", "datatype": "BYTES", "shape": [-1], "role": "Identifier"}
CITY = {"name": "city", "datatype": "BYTES", "shape": [-1], "role": "QuasiIdentifier"}
K5 = stored({"kAnonymity": {"k": 5}})


def test_what_is_counted_follows_from_roles_and_treatments() -> None:
    fields = (
        {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 5},
        {"name": "weight", "role": "QuasiIdentifier", "treatment": "Drop"},
        {"name": "elsewhere", "role": "QuasiIdentifier"},
    )
    policies = [stored({"fields": list(fields)}), K5, stored({"kAnonymity": {"k": 9, "tolerance": 0.1}})]
    asked = of_requests(model(TABLE, CITY, PATIENT), policies)
    assert asked == Asked(9, 0.01, ("age", "city"), "patient")
    config = reidentification_config(model(TABLE, CITY, PATIENT), policies)
    assert config == {"k": 9, "fields": ["age", "city"], "tolerance": 0.01, "subject": "patient"}
    assert unsupported(model(TABLE, CITY, PATIENT), [K5]) == []


def test_replicas_get_the_key_that_their_hashes_have_in_common() -> None:
    document = sidecar_config(model(TABLE, CITY, PATIENT), [K5], REFERENCES, keys=b"keys")
    assert document["reidentification"] == {
        "k": 5,
        "fields": ["city"],
        "tolerance": 0.01,
        "subject": "patient",
    }
    assert document["keys"]["sha256"] == hashlib.sha256(b"keys").hexdigest()
    assert "keys" not in sidecar_config(model(TABLE), [K5], REFERENCES, keys=b"keys")


def test_a_k_beyond_what_people_are_counted_to_is_judged_by_rows() -> None:
    asked = of_requests(model(CITY, PATIENT), [stored({"kAnonymity": {"k": 129}})])
    assert asked is not None
    assert asked.subject == ""


def test_nothing_is_counted_where_nothing_is_asked_or_can_be() -> None:
    assert of_requests(model(CITY), [stored({})]) is None
    assert reidentification_config(model(CITY), [stored({})]) is None
    assert reidentification_config(model(TABLE), [K5]) is None
    wide = {"name": "x", "datatype": "FP64", "shape": [-1, 3], "role": "QuasiIdentifier"}
    assert "x is a quasi-identifier of several elements: name them" in unsupported(model(wide), [K5])[0]
    assert unsupported(model(wide), [stored({})]) == []


# --- what was counted


def test_replicas_are_added_up() -> None:
    one, other = sample((2, 3)), sample((3, 4))
    found = combined(
        [
            told(one, suppressed=(Suppressed("city", 2), Suppressed("nobody's", 2)), since="2026-11-01T02:00:00+02:00"),
            told(other, suppressed=(Suppressed("city", 3),), uncounted=7),
            None,
        ]
    )
    assert found is not None
    assert (found.since, found.suppressed, found.uncounted) == (BEGAN, (("city", 5),), 7)
    assert (found.figures.rows, found.figures.combinations, found.figures.sizes) == (18, 3, ((4, 1),))


def test_what_counts_differently_is_not_added() -> None:
    many, few = sample((1, 9)), sample((1, 3))
    for changes in ({"key": "f" * 16}, {"k": 6}, {"people": True}, {"fields": ("age",)}):
        found = combined([told(many), told(few, **changes)])
        assert found is not None
        assert found.figures.rows == 9


@given(st.text(max_size=30), st.binary(max_size=64), st.integers(0, 64))
def test_whatever_a_sidecar_tells_it_does_no_harm(since: str, content: bytes, level: int) -> None:
    odd = told(sample(), since=since, sample=Packed(level, 3, content, content[:4], content))
    found = combined([odd, told(sample((1, 2)))])
    assert found is not None
    ReidentificationStatus.model_validate(reidentification_status(found))


def test_a_status_is_written_when_there_is_something_to_see() -> None:
    before = combined([told(sample((100, 100)))])
    assert before is not None
    same = combined([told(sample((99, 100), (1, 101)))])
    assert steady(before, same) is before
    for few in (((100, 100), (3, 100)), ((99, 100), (1, 97))):  # by which somebody could be told apart
        assert steady(before, combined([told(sample(*few))])) is before
    for classes in (((100, 120),), ((100, 100), (1, 1)), ((120, 90),), ((100, 80),)):
        now = combined([told(sample(*classes))])
        assert steady(before, now) != before
    assert steady(before, None) is before
    suppressing = dataclasses.replace(before, suppressed=(("city", 10),))
    assert steady(before, suppressing) == suppressing


def test_who_makes_one_figure_move_sees_none_of_the_others_anew() -> None:
    """With ten rows of one's own one could else read, of a combination of four, whether somebody became its fifth."""
    before = combined([told(sample((1, 96), (1, 4)))])
    assert before is not None
    four, five = (steady(before, combined([told(sample((1, 96), (1, size), (1, 1010)))])) for size in (4, 5))
    assert four is not None
    assert five is not None
    assert reidentification_status(four) == reidentification_status(five)
    assert four.figures.rows > 1100 > before.figures.rows


def test_sizes_are_told_in_steps_as_well() -> None:
    found = combined([told(sample((20, 250), (10, 1), (10, 4), (10, 7)), k=20)])
    assert found is not None
    message = k_anonymous(Asked(20, 0.01, ("age", "city")), found, LATER)[2]
    assert "small combinations, of rows: 20 of fewer than 5, 10 of 5 or more" in message


# --- the condition


def test_what_is_not_asked_or_cannot_be_seen_is_unknown() -> None:
    assert k_anonymous(None, None, LATER)[:2] == ("Unknown", "NotAsked")
    assert k_anonymous(Asked(5, 0.01, ()), None, LATER)[:2] == ("Unknown", "NoQuasiIdentifier")
    assert k_anonymous(Asked(5, 0.01, ("age",), unread=True), None, LATER)[:2] == ("Unknown", "NotReadable")
    assert k_anonymous(ASKED, None, LATER) == (
        "Unknown",
        "TooFewRows",
        "0 of at least 1,000 rows that are needed to tell",
    )


def test_many_rows_of_few_combinations_are_within_the_tolerance() -> None:
    status, reason, message = condition((20, 100), (1, 3))
    assert (status, reason) == ("True", "WithinTolerance")
    assert message == (
        "0.25 % of 2,000 rows share age, city with fewer than 4 others, as the model gets them; 20 combinations; small"
        " combinations, of rows: a few of fewer than 5; tolerated: 1 %"
    )


def test_what_was_not_counted_is_not_within_the_tolerance() -> None:
    assert condition((20, 100), uncounted=20)[0] == "True"
    status, reason, message = condition((20, 100), uncounted=21)
    assert (status, reason) == ("Unknown", "TooFewRows")
    assert "tolerated: 1 %; 20 more rows were not counted. Fix: send at most 4,096 rows in a request" in message
    assert condition((20, 100), (30, 1), uncounted=21)[0] == "False"
    assert condition(uncounted=5000)[2] == (
        "0 of at least 1,000 rows that are needed to tell; 5,000 more rows were not counted"
    )
    before, now = combined([told(sample((20, 100)))]), combined([told(sample((20, 100)), uncounted=5000)])
    assert steady(before, now) == now


def test_rare_combinations_past_the_tolerance_are_a_risk_with_the_fix() -> None:
    status, reason, message = condition((20, 100), (10, 1), (10, 2), suppressed=(Suppressed("city", 4),))
    assert (status, reason) == ("False", "ReidentificationRisk")
    assert "1.5 % of 2,000 rows" in message
    assert "20 of fewer than 5" in message
    assert "values that the field's hierarchy has no line for: city in a few rows. Fix: generalise" in message


def test_the_field_that_makes_most_rows_rare_is_named() -> None:
    rare = ((20, 100), (10, 1), (10, 2))
    assert (
        "Fix: generalise city first (without it 0.25 % would be left) in the policy"
        in condition(*rare, without=(0.012, 0.003))[2]
    )
    assert "Fix: generalise the fields further in the policy" in condition(*rare, without=(0.0147, 0.0145))[2]
    assert "Fix: generalise the fields further in the policy" in condition(*rare)[2]


def test_everybody_alone_is_a_risk_after_a_day_and_not_before() -> None:
    assert condition((1500, 1), now=BEGAN + timedelta(hours=5))[:2] == ("Unknown", "TooFewRows")
    assert condition((1500, 1), now=BEGAN + timedelta(hours=25))[:2] == ("False", "ReidentificationRisk")


def test_a_tail_among_many_rows_is_told_at_once() -> None:
    assert condition((10, 1000), (150, 1), now=BEGAN)[:2] == ("False", "ReidentificationRisk")


def test_people_are_what_counts_where_they_are_known() -> None:
    found = Sample()
    for combination in range(20):
        found.add(combination << 40, bit_of(combination), 100)
    assert k_anonymous(ASKED, combined([told(found)]), LATER)[0] == "True"
    status, _, message = k_anonymous(ASKED, combined([told(found, people=True)]), LATER)
    assert status == "False"
    assert "small combinations, of people: 20 of fewer than 5" in message


def test_an_estimate_near_the_tolerance_is_unknown() -> None:
    found = Sample()
    for number in range(2 * MAX_KEPT):
        found.add(number * ((1 << 64) // (2 * MAX_KEPT)), 1, 1 if number % 64 == 0 else 120)
    many = combined([told(found)])
    assert many is not None
    assert not many.figures.exact
    close = dataclasses.replace(ASKED, tolerance=many.figures.below)
    status, _, message = k_anonymous(close, many, LATER)
    assert status == "Unknown"
    assert "95 %:" in message
    assert "about 4,000 combinations" in message


def test_a_risk_is_over_only_when_it_is_well_below() -> None:
    broken = {"status": "False", "reason": "ReidentificationRisk", "message": "m"}
    almost = ((100, 20), (9, 2))  # 0.9 %
    assert condition(*almost)[0] == "True"
    assert condition(*almost, before=broken)[:2] == ("False", "ReidentificationRisk")
    assert condition((100, 20), (5, 2), before=broken)[:2] == ("True", "WithinTolerance")


@pytest.mark.parametrize("reason", ["WithinTolerance", "ReidentificationRisk"])
def test_what_was_told_stands_until_there_are_rows_again(reason: str) -> None:
    """Sidecars forget when they begin anew: that is no news."""
    before = {"status": "False", "reason": reason, "message": "m"}
    assert condition((1, 3), before=before) == ("False", reason, "m")
    assert k_anonymous(ASKED, None, LATER, before) == ("False", reason, "m")
    other = dataclasses.replace(ASKED, k=6)
    assert k_anonymous(other, combined([told(sample((20, 100)))]), LATER, before)[1] == reason


def test_the_status_is_of_the_resource() -> None:
    found = combined([told(sample((20, 100), (1, 3)), fields=tuple(f"f{n}" for n in range(100)))])
    assert found is not None
    status = ReidentificationStatus.model_validate(reidentification_status(found))
    assert (status.rows, status.combinations, status.smallest, len(status.fields)) == (2000, 20, 1, 64)
    assert status.rows_below_k == pytest.approx(5 / 2000, abs=1e-6)


# --- where figures are kept for an auditor


def by_pod(*verdicts: Any, before: Any = None, asked: Asked | None = ASKED) -> tuple:
    judged = [Judged(5, ("age", "city"), one) for one in verdicts]
    return k_anonymous_by_pod(asked, judged, ["DataPolicy care"], before)


@pytest.mark.parametrize(
    ("verdicts", "status", "reason"),
    [
        (["Within"], "True", "WithinTolerance"),
        (["Within", "Within"], "True", "WithinTolerance"),
        (["Risk"], "False", "ReidentificationRisk"),
        (["Risk", "Risk"], "Unknown", "KeptForAuditor"),  # together they may keep to it
        (["Within", "Risk"], "Unknown", "KeptForAuditor"),
        (["Within", "Unknown"], "Unknown", "KeptForAuditor"),
        ([], "Unknown", "KeptForAuditor"),
    ],
)
def test_what_each_sidecar_says_of_its_own_rows_is_no_more_than_it_proves(
    verdicts: list[str], status: str, reason: str
) -> None:
    found = by_pod(*verdicts)
    assert found[:2] == (status, reason)
    assert "kept for the auditor of DataPolicy care" in found[2]


@pytest.mark.parametrize("verdict", ["Within", "Risk", "Unknown"])
def test_what_a_silent_sidecar_has_counted_is_not_taken_for_granted(verdict: str) -> None:
    judged = [Judged(5, ("age", "city"), verdict)]  # type: ignore[arg-type]
    found = k_anonymous_by_pod(ASKED, judged, ["DataPolicy care"], None, 2)
    assert found[:2] == ("Unknown", "KeptForAuditor")
    assert "1 of 2 sidecars have said" in found[2]


@pytest.mark.parametrize("verdict", ["Within", "Risk"])
def test_nor_is_what_one_has_counted_that_was_not_asked(verdict: str) -> None:
    judged = [Judged(5, ("age", "city"), verdict)]  # type: ignore[arg-type]
    found = k_anonymous_by_pod(ASKED, judged, ["DataPolicy care"], None, 1, 9)
    assert found[:2] == ("Unknown", "KeptForAuditor")
    assert "1 of 10 sidecars have said whether their own rows keep to it (more than 1 of a model are not" in found[2]


def test_a_verdict_stands_until_sidecars_tell_another_and_no_figure_that_was_told_before_does() -> None:
    status, reason, message = by_pod("Risk")
    before = {"status": status, "reason": reason, "message": message}
    assert by_pod(before=before) == (status, reason, message)
    assert by_pod("Within", before=before)[0] == "True"
    plain = condition((10, 200))
    told_plainly = {"status": plain[0], "reason": plain[1], "message": plain[2]}
    assert (plain[0], "2,000 rows" in plain[2]) == ("True", True)
    assert by_pod(before=told_plainly)[:2] == ("Unknown", "KeptForAuditor")


def test_a_sidecar_that_judges_something_else_says_nothing() -> None:
    other = [Judged(3, ("age", "city"), "Within"), Judged(5, ("age",), "Within")]
    assert k_anonymous_by_pod(ASKED, other, ["DataPolicy care"])[0] == "Unknown"
    assert k_anonymous_by_pod(None, other, ["DataPolicy care"])[:2] == ("Unknown", "NotAsked")


@given(
    st.lists(st.lists(st.integers(0, 12), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(2, 6),
    st.sampled_from([0.0, 0.1, 0.3]),
)
def test_rows_that_keep_to_k_by_themselves_keep_to_it_together(pods: list[list[int]], k: int, tolerance: float) -> None:
    """What `True` rests on: nothing that each replica tolerates is more than tolerated in all of them."""

    def below(sizes: list[int]) -> float:
        return sum(size for size in sizes if size < k) / max(sum(sizes), 1)

    if all(below(pod) <= tolerance for pod in pods):
        assert below([sum(sizes) for sizes in zip(*pods, strict=True)]) <= tolerance + 1e-12
