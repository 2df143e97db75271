"""Reports: true totals at any size, and never more than 4 KiB."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelward.api.validate import canonical, parse
from modelward.planner.report import MAX_BYTES, UNREADABLE, Broken, Judged, judged, report
from modelward.rules.judge import Review, judge, judge_readiness
from tests.corpus import BASELINE, good, policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BROKEN = Broken("ClusterDataPolicy/baseline", "ENC-001", "fail", "high", "Encrypted in transit")


def size(item: dict[str, Any]) -> int:
    return len(json.dumps(item).encode())


def listed(item: dict[str, Any]) -> int:
    return sum(int(result["properties"]["count"]) for result in item["results"])


def test_results_are_aggregated_by_rule() -> None:
    warned = BROKEN._replace(rule="MON-001", result="warn", severity="low")
    models = {f"m{index}": Judged(broken=(BROKEN, warned), passed=3, excused=1) for index in range(5)}
    out = report("clinic", models)
    assert out["summary"] == {"pass": 15, "fail": 5, "warn": 5, "error": 0, "skip": 5}
    assert [(one["rule"], one["result"], one["properties"]["count"]) for one in out["results"]] == [
        ("ENC-001", "fail", "5"),
        ("MON-001", "warn", "5"),
    ]
    assert "m0, m1, m2 and 2 more" in out["results"][0]["message"]
    assert report("clinic", dict(reversed(models.items()))) == out


@given(
    st.dictionaries(
        st.from_regex(r"[a-z0-9]{1,50}", fullmatch=True),
        st.lists(
            st.builds(
                Broken,
                st.sampled_from(["ClusterDataPolicy/baseline", "DataPolicy/" + "n" * 63 + "/" + "p" * 253]),
                st.from_regex(r"[A-Z]{3}-[0-9]{3}", fullmatch=True),
                st.sampled_from(["fail", "warn", "error"]),
                st.sampled_from(["high", "medium", "low"]),
                st.text(max_size=200),
            ),
            max_size=20,
            unique=True,
        ),
        max_size=10,
    )
)
def test_no_report_is_too_large_and_none_counts_short(found: dict[str, list[Broken]]) -> None:
    out = report("n" * 63, {name: Judged(broken=tuple(broken), passed=1) for name, broken in found.items()})
    total = sum(map(len, found.values()))
    assert sum(out["summary"][key] for key in ("fail", "warn", "error")) == total
    assert listed(out) == total
    assert size(out) < MAX_BYTES


def test_a_thousand_models_and_all_rules_fit() -> None:
    rules = tuple(BROKEN._replace(rule=f"ABC-{number:03}", title="t" * 80) for number in range(60))
    out = report("clinic", {f"model-{index}": Judged(broken=rules) for index in range(1000)})
    assert out["summary"]["fail"] == listed(out) == 60_000
    last = out["results"][-1]
    assert (last["rule"], last["result"]) == ("NOT-LISTED", "fail")
    assert last["message"].startswith(f"{60 - len(out['results']) + 1} more rules, broken")
    assert len(out["results"]) > 5
    assert size(out) < MAX_BYTES


def test_a_verdict_is_summed_up_with_what_passed_and_what_was_excused() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    exception = {
        "rules": ["ENC-001"],
        "names": [manifest["metadata"]["name"]],
        "reason": "r",
        "approvedBy": "a",
        "expires": "2026-03-02T00:00:00Z",
    }
    strict = canonical(parse(policy({"require": BASELINE})))
    lenient = canonical(parse(policy({"require": BASELINE, "exceptions": [exception]})))
    namespace, name = strict["metadata"]["namespace"], manifest["metadata"]["name"]
    review = Review(canonical(parse(manifest)), namespace=namespace, now=NOW)
    without = judged(name, namespace, judge(review, [strict]), [strict], NOW)
    assert [one.rule for one in without.broken] == ["ENC-001"]
    assert without.violations == {without.policies[0]: 1}
    assert without.excused == 0
    assert without.passed > 5
    excused = judged(name, namespace, judge(review, [lenient]), [lenient], NOW)
    assert (excused.broken, excused.excused, excused.passed) == ((), 1, without.passed)
    assert judged("another", namespace, judge(review, [strict]), [lenient], NOW).excused == 0


def test_rules_of_readiness_count_where_what_they_need_was_seen() -> None:
    policy_ = canonical(parse(policy({"require": BASELINE})))
    namespace = policy_["metadata"]["namespace"]
    review = Review(canonical(parse(good())), namespace=namespace, now=NOW)
    observed = {"lineage": {"problems": ["transformations is not JSON"]}}
    at_admission = judge(review, [policy_])
    at_readiness = judge_readiness(review, [policy_], observed)
    before = judged("wdbc", namespace, at_admission, [policy_], NOW)
    after = judged("wdbc", namespace, at_admission + at_readiness, [policy_], NOW, observed)
    assert len(after.broken) == len(at_readiness.violations) > 0
    assert after.passed >= before.passed


def test_unwatched_pods_are_failures_and_come_first() -> None:
    out = report("clinic", {"m": Judged(broken=(BROKEN,))}, unwatched=3)
    assert out["summary"]["fail"] == listed(out) == 4
    assert [one["rule"] for one in out["results"]] == ["SIDECAR-MISSING", "ENC-001"]
    assert report("clinic", {}, unwatched=1)["summary"]["fail"] == 1


def test_what_cannot_be_read_is_an_error() -> None:
    assert report("clinic", {"old": UNREADABLE})["summary"]["error"] == 1
