"""Where counts of groups are kept for an auditor, nothing that the controller writes holds one, whoever tells it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.fairness.counts import AttributeCounts, FairnessReport, GroupCounts
from modelward.incidents import Drifted
from modelward.planner.anonymity import Asked
from modelward.planner.audit import kept_for
from modelward.planner.fairness import kept_for_auditor
from modelward.planner.fairness_reports import counted, declared_by, to_pass_on
from modelward.planner.monitored import Watch
from modelward.planner.observation import Observation
from modelward.planner.reidentification import combined
from modelward.planner.sightings import Seen, gathered
from modelward.planner.status import status
from modelward.reidentification.told import Judged
from tests.unit.planner.test_reidentification import sample
from tests.unit.planner.test_reidentification import told as told_of
from tests.unit.planner.test_sightings import report

NOW = datetime(2026, 11, 3, tzinfo=UTC)
SEX = {"field": "sex", "groups": ["female"]}
GROUPS = (GroupCounts("female", 12_345, 6_789), GroupCounts("other", 23_456, 3_210))
PLAIN = FairnessReport("2026-11-01T00:00:00Z", (AttributeCounts("sex", GROUPS),), 0, "0123456789ab")
COMBINED = told_of(sample((3, 1), (10, 200)))
ASKED = Asked(5, 0.01, ("age", "city"))
WITHIN = Judged(5, ("age", "city"), "Within")


def raw(**before: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "credit", "namespace": "loans", "generation": 3},
        "spec": {"model": {"image": "x"}, "fairness": {"protected": [SEX]}},
        "status": before,
    }


def written(seen: Seen | None, item: dict[str, Any], kept: tuple[str, ...] = ("DataPolicy care",)) -> dict[str, Any]:
    observation = Observation(watch=Watch(seen=seen), anonymity=ASKED, kept=kept)
    return status(ModelDeployment.model_validate({**item, "status": None}), item, observation, NOW)


def plainly_seen() -> Seen:
    found = counted(raw(), {"a": report(fairness=PLAIN)}, None, 0.0)
    assert found is not None
    return Seen(asked=1, fairness=found, combined=combined([COMBINED]))


def test_figures_that_were_told_before_go_when_they_are_to_be_kept() -> None:
    plain = written(plainly_seen(), raw(), kept=())
    assert {"fairness", "reidentification"} <= set(plain)
    assert "12345" in json.dumps(plain)
    for seen in (plainly_seen(), Seen(asked=1, kept=True), None):  # whatever is still remembered
        found = written(seen, raw(**plain))
        assert not {"fairness", "reidentification"} & set(found)
        text = json.dumps(found)
        for figure in ("12345", "12,345", "6789", "0.549", "0.413", "2,003", "rowsBelowK", "female"):
            assert figure not in text, figure
        (fair,) = [one for one in found["conditions"] if one["type"] == "Fair"]
        assert (fair["status"], fair["reason"]) == ("Unknown", "KeptForAuditor")
        assert "the auditor of DataPolicy care alone" in fair["message"]


def test_whatever_pods_tell_is_left_out_once_one_says_that_it_is_kept() -> None:
    old = report(fairness=PLAIN, combinations=COMBINED)  # of an earlier configuration, or one that does as it likes
    new = report(kept=True, judged=WITHIN, fairness=FairnessReport(PLAIN.since, ()))
    seen = gathered({"a": old, "b": new})
    assert (seen.kept, seen.combined, seen.judged) == (True, None, (WITHIN,))
    assert not gathered({"a": old}).kept
    liar = report(judged=WITHIN)  # without keeping anything, it judges nothing
    assert gathered({"a": liar}).judged == ()


def test_what_pods_tell_is_left_out_where_policies_say_so_though_no_pod_does() -> None:
    drift = (Drifted("sex", "PSI", 3.21), Drifted("age", "PSI", 1.0), Drifted("x", "PSI", float("inf")))
    old = {"a": report(fairness=PLAIN, combinations=COMBINED, drift=drift, judged=WITHIN)}
    seen = gathered(old, kept=True)
    assert (seen.kept, seen.combined, seen.fairness) == (True, None, None)
    # Of what a feature's shares could be computed from no more than the sidecars tell that keep counts.
    assert [(one.feature, one.score) for one in seen.drifted] == [("x", float("inf")), ("sex", 4.0)]
    assert [one.score for one in gathered(old).drifted] == [float("inf"), 3.21]


def test_true_is_of_every_ready_pod_or_not_said() -> None:
    def k_anonymous(unasked: int) -> tuple[str, str]:
        told = written(Seen(asked=50, kept=True, judged=(WITHIN,) * 50, unasked=unasked), raw())
        (found,) = [one for one in told["conditions"] if one["type"] == "KAnonymous"]
        return found["status"], found["reason"]

    assert k_anonymous(0) == ("True", "WithinTolerance")
    assert k_anonymous(1) == ("Unknown", "KeptForAuditor")


def test_labels_are_passed_on_though_counts_are_not() -> None:
    other = FairnessReport(PLAIN.since, (), 0, "ba9876543210")
    one = FairnessReport(PLAIN.since, (), 0, "0123456789ab", ())
    assert to_pass_on({"a": report(fairness=one, kept=True), "b": report(fairness=other, kept=True)}) == {}


def test_the_switch_is_on_unless_every_policy_turns_it_off() -> None:
    def policy(name: str, **audit: Any) -> dict[str, Any]:
        return {"kind": "DataPolicy", "metadata": {"name": name}, "spec": {"audit": {"keysDigest": "x", **audit}}}

    assert kept_for([policy("a")]) == ("DataPolicy a",)
    assert kept_for([policy("a", only=False), policy("b", only=True)]) == ("DataPolicy a", "DataPolicy b")
    assert kept_for([policy("a", only=False)]) == ()
    assert kept_for([{"kind": "DataPolicy", "metadata": {"name": "c"}, "spec": {}}]) == ()


def test_who_declares_no_groups_is_told_that() -> None:
    assert kept_for_auditor(None, ["DataPolicy care"])[:2] == ("Unknown", "NotDeclared")
    assert kept_for_auditor(declared_by(raw()), ["DataPolicy care"])[1] == "KeptForAuditor"


def test_each_auditor_who_reads_the_aggregate_is_named() -> None:
    both = ("DataPolicy care", "ClusterDataPolicy all")  # one with `only`, and one without: both keys are encrypted to
    found = {one["type"]: one["message"] for one in written(None, raw(), kept=both)["conditions"]}
    assert "told to the auditors of DataPolicy care, ClusterDataPolicy all alone" in found["Fair"]
    assert "of DataPolicy care, ClusterDataPolicy all (" in found["KAnonymous"]
