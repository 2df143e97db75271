from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelward.api.decisions import Fairness
from modelward.api.modeldeployment import ModelDeployment
from modelward.api.status import FairnessStatus
from modelward.api.validate import SchemaError, parse
from modelward.fairness.counts import AttributeCounts, FairnessReport, GroupCounts
from modelward.fairness.labels import Labels, Told
from modelward.incidents import Report
from modelward.planner.fairness import fair, fairness_config, fairness_status, fairness_unsupported
from modelward.planner.fairness_reports import counted, to_let_go, to_pass_on
from modelward.planner.group_counts import FEWEST, Counted
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.unsupported import unsupported
from modelward.sidecar import config
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, supported

SEX = {"field": "sex", "groups": ["female", "male"]}
RAW: dict[str, Any] = {"spec": {"fairness": {"protected": [SEX]}}}
DECLARED = Fairness.model_validate(RAW["spec"]["fairness"])
NOW = 1_800_000_000.0
SINCE = "2026-03-01T09:00:00Z"


def report(*groups: GroupCounts, since: str = SINCE, uncounted: int = 0, field: str = "sex") -> Report:
    told = FairnessReport(since, (AttributeCounts(field, groups),), uncounted)
    return Report("clinic/wdbc", "", "", SINCE, (), (), (), (), 0, fairness=told)


def seen(*groups: GroupCounts, raw: dict[str, Any] = RAW) -> Counted:
    found = counted(raw, {"a": report(*groups)}, None, NOW)
    assert found is not None
    return found


def condition(*groups: GroupCounts, declared: Fairness = DECLARED) -> tuple[str, str, str]:
    return fair(declared, seen(*groups))


def test_replicas_are_added_up_and_the_earliest_counts() -> None:
    told = {
        "a": report(GroupCounts("female", 60, 6, 5, 4, 3, 2), since="2026-03-01T10:00:00Z", uncounted=3),
        "b": report(GroupCounts("female", 40, 4), GroupCounts("male", 7), uncounted=1),
        "c": "no answer",
    }
    found = counted(RAW, told, None, NOW)
    assert found is not None
    assert (found.since, found.uncounted) == (SINCE, 4)
    assert [group.vector for group in found.attributes[0].groups] == [
        (100, 10, 5, 4, 3, 2),
        (7, 0, 0, 0, 0, 0),
        (0,) * 6,
    ]
    assert [group.name for group in found.attributes[0].groups] == ["female", "male", "other"]


def test_who_tells_nothing_changes_nothing() -> None:
    before = seen(GroupCounts("female", 60))
    assert counted(RAW, {"a": "no answer"}, before, NOW) == before
    assert counted(RAW, {"a": "no answer"}, None, NOW) is None
    assert counted({"spec": {}}, {"a": report(GroupCounts("female", 60))}, before, NOW) is None
    assert counted({"spec": {"fairness": {"protected": 3}}}, {"a": report()}, before, NOW) is None


@pytest.mark.parametrize(
    "since", ["\x1b[31mnow, or so    ", "2026-99-99T00:00:00Z", "2026-3-01T09:00:00Z ", "", "0001-01-01T00:00:00Z"]
)
def test_a_lying_sidecar_makes_no_group_no_share_and_no_time_up(since: str) -> None:
    lies = report(
        GroupCounts("x" * 253, 5),
        GroupCounts("female", 100, 101),
        GroupCounts("male", 100, 10, 50, 60),
        GroupCounts("other", 1 << 53, 1 << 53, 0, 0, 1 << 53, 1 << 53),
        since=since,
    )
    found = counted(RAW, {"a": lies, "b": lies}, None, NOW)
    assert found is not None
    assert found.since == "1970-01-01T00:00:00Z"
    status = fairness_status(found)
    FairnessStatus.model_validate(status)
    assert [(one["name"], one["rows"]) for one in status["attributes"][0]["groups"]] == [
        ("female", 0),
        ("male", 0),
        ("other", 1 << 54),
    ]
    fair(DECLARED, found)


def test_a_difference_that_is_too_large() -> None:
    told = condition(GroupCounts("female", 400, 40), GroupCounts("male", 400, 120))
    assert told[:2] == ("False", "DifferenceTooLarge")
    assert told[2] == ("favourable answers by sex: male 0.200 above female (95 %: 0.146 to 0.253); accepted: 0.1")


def test_a_difference_that_may_be_chance() -> None:
    told = condition(GroupCounts("female", 60, 20), GroupCounts("male", 60, 28))
    assert told[:2] == ("Unknown", "TooFewRows")
    assert "may be chance" in told[2]


def test_within_the_limit_and_who_is_left_out() -> None:
    told = condition(GroupCounts("female", 400, 40), GroupCounts("male", 400, 44), GroupCounts("other", 49, 49))
    assert told[:2] == ("True", "WithinLimit")
    assert "largest difference is 0.010" in told[2]
    assert "not compared, fewer than 50 rows: sex=other" in told[2]
    assert "no feedback" in told[2]


def test_rows_of_which_nothing_is_known_are_told_and_are_not_most() -> None:
    groups = GroupCounts("female", 400, 40), GroupCounts("male", 400, 44)
    one = counted(RAW, {"a": report(*groups, uncounted=800)}, None, NOW)
    assert fair(DECLARED, one)[:2] == ("True", "WithinLimit")
    assert "; of 800 rows group or outcome is not known" in fair(DECLARED, one)[2]
    most = counted(RAW, {"a": report(*groups, uncounted=801)}, None, NOW)
    assert fair(DECLARED, most) == (
        "Unknown",
        "TooFewRows",
        "800 rows are the lesser part of all; of 801 rows group or outcome is not known",
    )
    unequal = GroupCounts("female", 400, 40), GroupCounts("male", 400, 120)
    assert fair(DECLARED, counted(RAW, {"a": report(*unequal, uncounted=9000)}, None, NOW))[0] == "False"


@pytest.mark.parametrize(("selected", "which"), [(0, "no"), (400, "every")])
def test_answers_that_are_all_alike_are_no_evidence_of_fairness(selected: int, which: str) -> None:
    told = condition(GroupCounts("female", 400, selected), GroupCounts("male", 400, selected))
    assert told[:2] == ("Unknown", "NothingToCompare")
    assert told[2].startswith(f"{which} answer to 800 rows is favourable: hold spec.fairness.favourable against")


def test_more_fields_and_rates_need_more_to_be_certain() -> None:
    one = condition(GroupCounts("female", 200, 60), GroupCounts("male", 200, 88))
    assert one[:2] == ("False", "DifferenceTooLarge")
    two = {"spec": {"fairness": {"protected": [SEX, {"field": "age", "edges": [40]}]}}}
    both = seen(GroupCounts("female", 200, 60), GroupCounts("male", 200, 88), raw=two)
    assert fair(DECLARED, both)[:2] == ("Unknown", "TooFewRows")


def test_others_are_a_group_as_any() -> None:
    told = condition(GroupCounts("female", 400, 200), GroupCounts("male", 400, 200), GroupCounts("other", 400, 20))
    assert told[:2] == ("False", "DifferenceTooLarge")
    assert "above other" in told[2]


def test_feedback_tells_of_what_the_selection_rates_hide() -> None:
    female = GroupCounts("female", 400, 200, 100, 90, 100, 10)
    assert condition(female, GroupCounts("male", 400, 200, 100, 88, 100, 12))[:2] == ("True", "WithinLimit")
    told = condition(female, GroupCounts("male", 400, 200, 100, 60, 100, 40))
    assert told[:2] == ("False", "DifferenceTooLarge")
    assert "true positives by sex: female" in told[2]
    assert "false positives by sex: male" in told[2]


@pytest.mark.parametrize(
    "groups",
    [(), (GroupCounts("female", 1000, 10),), (GroupCounts("female", 1000, 10), GroupCounts("male", 49, 49))],
)
def test_too_few_rows(groups: tuple[GroupCounts, ...]) -> None:
    told = condition(*groups)
    assert told[:2] == ("Unknown", "TooFewRows")
    assert "fewer than two groups by sex have 50 rows" in told[2]


def test_without_a_look_the_condition_stands() -> None:
    before = {"type": "Fair", "status": "False", "reason": "DifferenceTooLarge", "message": "as it was"}
    assert fair(DECLARED, None, before) == ("False", "DifferenceTooLarge", "as it was")
    assert fair(DECLARED, None, {**before, "reason": "NotDeclared"})[:2] == ("Unknown", "TooFewRows")
    assert fair(DECLARED, None)[:2] == ("Unknown", "TooFewRows")
    for nothing in (None, Fairness()):
        assert fair(nothing, None, before)[:2] == ("Unknown", "NotDeclared")


def test_rates_of_small_groups_are_not_told() -> None:
    groups = (GroupCounts("female", 100, 30, 60, 30, 40, 0), GroupCounts("male", 49, 49))
    status = fairness_status(seen(*groups))
    FairnessStatus.model_validate(status)
    assert (status["rows"], status["labelled"]) == (149, 100)
    (attribute,) = status["attributes"]
    female, male, other = attribute["groups"]
    assert female == {
        "name": "female",
        "rows": 100,
        "labelled": 100,
        "selectionRate": 0.3,
        "low": 0.218949,
        "high": 0.395849,
        "truePositiveRate": 0.5,
    }
    assert male == {"name": "male", "rows": 49, "labelled": 0}
    assert other == {"name": "other", "rows": 0, "labelled": 0}
    assert "demographicParityDifference" not in attribute
    status = fairness_status(seen(groups[0], GroupCounts("male", 100, 60, 50, 45, 50, 15)))
    (attribute,) = status["attributes"]
    assert attribute["demographicParityDifference"] == 0.3
    assert attribute["demographicParityRatio"] == 0.5
    assert "equalizedOddsDifference" not in attribute, "of false positives one group has too few"


@given(st.integers(50, 10_000), st.floats(0, 1), st.integers(0, 500))
def test_what_nobody_would_see_is_not_written(rows: int, share: float, more: int) -> None:
    selected = int(rows * share)
    before = seen(GroupCounts("female", rows, selected), GroupCounts("male", rows, selected))
    told = {"a": report(GroupCounts("female", rows + more, selected), GroupCounts("male", rows + more, selected))}
    after = counted(RAW, told, before, NOW)
    assert after is not None
    if after == before:
        assert abs(selected / rows - selected / (rows + more)) < 0.005 or more < FEWEST
        assert more <= rows * 0.1 + 1
    else:
        assert after.attributes[0].groups[0].rows == rows + more


def test_a_crossing_is_seen_however_small() -> None:
    before = seen(GroupCounts("female", 10_000, 1000), GroupCounts("male", 10_000, 2000))
    assert fair(DECLARED, before)[0] == "True"
    told = {"a": report(GroupCounts("female", 10_000, 1000), GroupCounts("male", 10_000, 2001))}
    after = counted(RAW, told, before, NOW)
    assert fair(DECLARED, after)[0] == "False"


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60))
def test_no_two_figures_of_a_group_tell_how_single_people_were_answered(steps: list[tuple[int, bool]]) -> None:
    """Each look adds some rows, all answered alike; what is told one after the other never differs by few of them."""
    rows = selected = 0
    found: Counted | None = None
    told = []
    for more, favourable in steps:
        rows, selected = rows + more, selected + more * favourable
        told_now = {"a": report(GroupCounts("female", rows, selected), GroupCounts("male", 10_000, 5000))}
        found = counted(RAW, told_now, found, NOW)
        assert found is not None
        told.append(found.attributes[0].groups[0].rows)
        assert rows - told[-1] < max(FEWEST, rows * 0.1 + 1), "and yet it is told before long"
    for before, after in pairwise(told):
        assert before < found.minimum or not 0 < after - before < FEWEST


def test_counts_that_begin_anew_are_seen() -> None:
    before = seen(GroupCounts("female", 1000, 100), GroupCounts("male", 1000, 100))
    told = {"a": report(GroupCounts("female", 100, 10), GroupCounts("male", 100, 10))}
    after = counted(RAW, told, before, NOW)
    assert after != before
    assert after is not None


def process(name: str, female: int, male: int) -> Report:
    told = report(GroupCounts("female", female), GroupCounts("male", male))
    assert told.fairness is not None
    return msgspec.structs.replace(told, fairness=msgspec.structs.replace(told.fairness, run=name * 12))


def female(found: Counted | None) -> int:
    assert found is not None
    return found.attributes[0].groups[0].rows


def test_what_is_silent_or_no_more_is_kept_as_it_told_last() -> None:
    raw = {**RAW, "metadata": {"generation": 3}}
    found = counted(raw, {"a": process("1", 100, 100), "b": process("2", 100, 100)}, None, NOW)
    found = counted(raw, {"a": process("1", 103, 103), "b": "no answer"}, found, NOW + 60)
    assert female(found) == 200, "nobody would see three more rows"
    found = counted(raw, {"a": process("3", 10, 10), "c": process("4", 100, 100)}, found, NOW + 120)
    assert female(found) == 103 + 100 + 10 + 100, "a began anew, b is gone, and what a told last counts"
    kept = found
    found = counted(raw, {"a": process("3", 10, 10)}, kept, NOW + 60 + 30 * 86_400)
    assert female(found) == 100 + 10, "what has told nothing for 30 days is forgotten"
    found = counted({**RAW, "metadata": {"generation": 4}}, {"a": process("3", 10, 10)}, kept, NOW + 180)
    assert female(found) == 10, "another manifest begins anew"


def test_a_pod_that_makes_up_processes_is_kept_so_many_times_and_no_more() -> None:
    found = None
    for number in range(200):
        lies = report(GroupCounts("female", 1), GroupCounts("male", 1))
        assert lies.fairness is not None
        told = msgspec.structs.replace(lies.fairness, run=str(number), elsewhere=(Told("x", "1"),))
        found = counted(RAW, {"a": msgspec.structs.replace(lies, fairness=told)}, found, NOW + number)
    assert found is not None
    assert len(found.parts) == 65
    assert sum(len(part.report.elsewhere) for part in found.parts) == 1


# --- labels that reached another replica than the one that gave the answer


def keeps(run: str, *kept: str) -> Report:
    told = FairnessReport(
        SINCE, (), 0, run * 12, tuple(Told(f"{each * 12}-0000000{at}", "1-") for at, each in enumerate(kept))
    )
    return msgspec.structs.replace(report(), fairness=told)


def test_labels_go_to_whose_answer_it_was_and_are_let_go_then() -> None:
    told = {"a": keeps("a", "b", "c", "f"), "b": keeps("b", "a"), "c": keeps("c"), "none": report()}
    brought = to_pass_on(told)
    assert {pod: [each.request[0] for each in labels.told] for pod, labels in brought.items()} == {
        "a": ["a"],
        "b": ["b"],
        "c": ["c"],
    }
    gone = to_let_go(told, [brought["a"], brought["c"]])
    assert gone == {
        "a": Labels(delivered=("c" * 12 + "-00000001",), lost=("f" * 12 + "-00000002",)),
        "b": Labels(delivered=("a" * 12 + "-00000000",)),
    }
    silent = {**told, "d": "no answer"}
    assert not any(labels.lost for labels in to_let_go(silent, []).values()), "they may be d's"
    assert to_pass_on({"d": "no answer"}) == to_let_go({"d": "no answer"}, []) == {}


def test_no_more_labels_than_one_request_takes() -> None:
    many = tuple(Told(f"{'b' * 12}-{number:08x}", "1" * 4096) for number in range(200))
    told = {
        "a": msgspec.structs.replace(report(), fairness=FairnessReport(SINCE, (), 0, "a" * 12, many)),
        "b": keeps("b"),
    }
    (labels,) = to_pass_on(told).values()
    assert 100 < len(labels.told) < 200
    assert len(msgspec.json.encode(labels)) < 1 << 20


# --- what is declared


def model(**fairness: Any) -> ModelDeployment:
    manifest = supported()
    manifest["spec"]["fairness"] = fairness
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    return md


def test_the_sidecar_is_told_what_to_count_and_no_more() -> None:
    md = model(protected=[{"field": "radius", "edges": [10, 20]}], favourable={"atLeast": 0.5}, maxDifference=0.2)
    document = fairness_config(md)
    assert document == {
        "protected": [{"field": "radius", "groups": [], "edges": [10.0, 20.0]}],
        "favourable": {"element": 0, "atLeast": 0.5},
    }
    msgspec.convert(document, config.Fairness)
    assert list(fairness_unsupported(md)) == []
    assert fairness_config(model()) is None


@pytest.mark.parametrize(
    ("protected", "told"),
    [
        ({"field": "sex", "groups": ["f", "m"]}, "sex is no column"),
        ({"field": "features", "groups": ["f", "m"]}, "features is no column"),
        ({"field": "radius", "edges": [2, 1]}, "must ascend"),
        ({"field": "radius"}, "nothing to compare it with"),
    ],
)
def test_what_cannot_be_counted_is_told_with_its_fix(protected: dict[str, Any], told: str) -> None:
    (found,) = fairness_unsupported(model(protected=[protected]))
    assert told in found
    assert found.startswith("spec.fairness.protected[0].")


def test_an_output_that_is_not_declared_and_what_nobody_reads() -> None:
    radius = {"field": "radius", "edges": [10]}
    manifest = supported()
    manifest["spec"]["fairness"] = {"protected": [radius], "favourable": {"output": "grant"}}
    manifest["spec"]["schema"]["outputs"] = [{"name": "label", "datatype": "INT64", "shape": [-1]}]
    manifest["spec"]["encryption"]["inUse"] = {"only": True, "weightsConfigMapName": "w"}
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    nobody, output = fairness_unsupported(md)
    assert "inUse.only" in nobody
    assert "grant is not among" in output


@pytest.mark.parametrize(
    ("fairness", "told"),
    [
        ({"protected": [{"field": "radius", "edges": [1, 2], "groups": ["a", "b"]}]}, "one group more"),
        ({"favourable": {"equals": "1", "atLeast": 0.5}}, "one of equals and atLeast"),
        ({"minimumGroupSize": 1}, "minimumGroupSize"),
        ({"protected": [{"field": "radius", "edges": [1]}, {"field": "radius", "edges": [2]}]}, "radius"),
    ],
)
def test_what_has_no_meaning_is_no_manifest(fairness: dict[str, Any], told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        model(**fairness)


def test_the_manifest_of_the_how_to_is_one_that_can_be_watched() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "watch-fairness.md"
    shown = yaml.safe_load(page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0])
    manifest = supported()
    manifest["spec"] |= shown["spec"]
    manifest["spec"]["monitoring"] = {}
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    assert unsupported(md, []) == []
    assert msgspec.convert(sidecar_config(md, [], REFERENCES), config.Config).fairness is not None


@pytest.mark.parametrize(
    ("fairness", "outputs", "why"),
    [
        ({"favourable": {"equals": "1"}}, [], "spec.fairness without protected"),
        ({"protected": [{"field": "age", "groups": ["young"]}]}, [], "age holds FP64, which is never 'young'"),
        ({"protected": [{"field": "sex", "groups": ["f", "f"]}]}, [], "groups (one comes twice)"),
        ({"protected": [SEX], "favourable": {"equals": "granted"}}, ["INT64"], "never 'granted'"),
        ({"protected": [SEX], "favourable": {"element": 1}}, ["INT64"], "y has 1 for a row, counted from 0"),
        ({"protected": [SEX], "favourable": {"atLeast": 0.5}}, ["BYTES"], "y holds texts: give equals"),
    ],
)
def test_what_could_never_be_counted_is_named(fairness: dict[str, Any], outputs: list[str], why: str) -> None:
    manifest = supported()
    manifest["spec"]["schema"] = {
        "inputs": [
            {"name": "sex", "datatype": "BYTES", "shape": [-1]},
            {"name": "age", "datatype": "FP64", "shape": [-1]},
        ],
        "outputs": [{"name": "y", "datatype": datatype, "shape": [-1]} for datatype in outputs],
    }
    manifest["spec"]["fairness"] = fairness
    (told,) = fairness_unsupported(parsed(manifest))
    assert why in told
