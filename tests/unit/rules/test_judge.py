from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modelward.api.validate import canonical, parse
from modelward.rules.catalogue import catalogue
from modelward.rules.judge import MAX_DENIAL, Review, Verdict, denial, judge, judge_readiness, rule_problems
from tests.corpus import BASELINE, CASES, POLICIES, Case, good, policy

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def stored(manifest: dict[str, Any]) -> dict[str, Any]:
    return canonical(parse(manifest))


def judged(manifest: dict[str, Any], *policies: dict[str, Any], **review: Any) -> Verdict:
    return judge(Review(stored(manifest), namespace="clinic", now=NOW, **review), [stored(item) for item in policies])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_breaks_exactly_its_rules(case: Case) -> None:
    verdict = judged(case.manifest, policy(POLICIES[case.policy]))
    assert {violation.rule for violation in verdict.violations} == case.breaks
    for violation in verdict.violations:
        assert violation.policy == "DataPolicy/clinic/policy"
        assert "cannot be shown" not in violation.found, f"the message of {violation.rule} does not evaluate"


@pytest.mark.parametrize("case", [case for case in CASES if case.observed], ids=lambda case: case.name)
def test_a_case_is_kept_from_being_ready_by_exactly_its_rules(case: Case) -> None:
    review = Review(stored(case.manifest), namespace="clinic", now=NOW)
    found = judge_readiness(review, [stored(policy(POLICIES[case.policy]))], case.observed)
    assert {violation.rule for violation in found.violations} == case.not_ready


def test_the_corpus_is_large_and_breaks_every_rule() -> None:
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)
    assert {rule.id for rule in catalogue()} <= {rule for case in CASES for rule in case.breaks | case.not_ready}


def test_what_was_not_seen_is_not_judged() -> None:
    """`modelward check` knows the lineage, and neither the pods nor the signatures."""
    review = Review(stored(good()), namespace="clinic", now=NOW)
    strict = [stored(policy(POLICIES["strict"]))]
    assert judge_readiness(review, strict, {}).everything == ()
    seen = {"lineage": {"problems": ["wrong"]}}
    assert [violation.rule for violation in judge_readiness(review, strict, seen).everything] == ["LIN-008"]


def test_enforcement_decides_where_a_violation_goes() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    for enforcement, attribute in (("Enforce", "violations"), ("Warn", "warnings"), ("Audit", "audits")):
        verdict = judged(manifest, policy({"enforcement": enforcement, "require": BASELINE}))
        assert [violation.rule for violation in getattr(verdict, attribute)] == ["ENC-001"]
        assert len(verdict.everything) == 1


def test_a_policy_of_another_namespace_does_not_govern() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    verdict = judged(manifest, policy({"require": BASELINE}, namespace="elsewhere"))
    assert verdict == Verdict()


def cluster_policy(spec: dict[str, Any]) -> dict[str, Any]:
    return {**policy(spec), "kind": "ClusterDataPolicy", "metadata": {"name": "cluster"}}


def test_a_cluster_policy_chooses_namespaces_by_label() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    chosen = cluster_policy({"require": BASELINE, "namespaceSelector": {"matchLabels": {"tier": "patients"}}})
    assert judged(manifest, chosen, namespace_labels={"tier": "patients"}).violations
    assert not judged(manifest, chosen, namespace_labels={"tier": "toys"}).violations
    assert not judged(manifest, chosen).violations


def test_a_cluster_exception_counts_only_in_its_namespaces() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    for namespaces, excused in ((["clinic"], True), (["other"], False), ([], False)):
        exception = {
            "rules": ["ENC-001"],
            "names": ["wdbc"],
            "namespaces": namespaces,
            "reason": "r",
            "approvedBy": "a",
            "expires": "2030-01-01T00:00:00Z",
        }
        verdict = judged(manifest, cluster_policy({"require": BASELINE, "exceptions": [exception]}))
        assert (not verdict.violations) is excused


def test_a_namespace_exception_never_lifts_a_cluster_rule() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    verdict = judged(manifest, policy(POLICIES["excused"]), cluster_policy({"require": BASELINE}))
    assert [violation.policy for violation in verdict.violations] == ["ClusterDataPolicy/cluster"]


def test_on_update_an_exception_counts_only_while_the_controller_lists_it() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    old = stored(manifest)
    manifest["spec"]["replicas"] = 5
    silent = policy(POLICIES["excused"])
    assert judged(manifest, silent, old=old).violations
    (active,) = [e for e in silent["spec"]["exceptions"] if e["rules"] == ["ENC-001"]]
    listed = {key: active[key] for key in ("rules", "names", "expires")}
    speaking = {**silent, "status": {"activeExceptions": [listed]}}
    assert not judged(manifest, speaking, old=old).violations


def test_an_update_that_leaves_spec_labels_and_lineage_alone_is_never_refused() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    old = stored(manifest)
    manifest["metadata"]["finalizers"] = ["kopf"]
    manifest["metadata"]["annotations"]["note"] = "ours"
    assert judged(manifest, policy({"require": BASELINE}), old=old) == Verdict()
    manifest["metadata"]["labels"]["team"] = "moved"
    assert judged(manifest, policy({"require": BASELINE}), old=old).violations


def test_an_object_being_deleted_is_never_refused() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert judged(manifest, policy({"require": BASELINE})) == Verdict()


@pytest.mark.parametrize(
    "expression",
    ["object.spec.nowhere.atAll == 1", "'a string'", "1", "timestamp('never') < timestamp('later')"],
)
def test_a_custom_rule_that_cannot_be_evaluated_is_a_violation(expression: str) -> None:
    rule = {"id": "CUSTOM-001", "expression": expression, "message": "'m'"}
    (violation,) = judged(good(), policy({"rules": [rule]})).violations
    assert "could not be evaluated" in violation.found


def test_invalid_cel_in_a_policy_is_named() -> None:
    rule = {"id": "CUSTOM-007", "expression": "object.spec.", "message": "'m'"}
    (problem,) = rule_problems(stored(policy({"rules": [rule]})))
    assert problem.startswith("spec.rules[0].expression (CUSTOM-007) is not valid CEL: ")


def test_a_denial_has_a_line_a_violation_and_is_bounded() -> None:
    manifest = good()
    manifest["metadata"].pop("annotations")
    manifest["spec"] = {"model": {"image": "x" * 512}}
    rules = [
        {"id": f"CUSTOM-{n:03}", "expression": "false", "message": "'m' + 'x'", "fix": "y" * 900} for n in range(30)
    ]
    verdict = judged(manifest, policy({**POLICIES["strict"], "rules": rules}))
    text = denial(verdict, "ModelDeployment clinic/wdbc")
    assert len(text.encode()) <= MAX_DENIAL
    head, *lines = text.splitlines()
    assert head == f"ModelDeployment clinic/wdbc breaks {len(verdict.violations)} rules of DataPolicy/clinic/policy:"
    assert lines[-1].startswith("  ... and ")
    short = denial(judged(manifest, policy({"require": BASELINE})), "ModelDeployment clinic/wdbc")
    assert len(short.splitlines()) == 9


def test_what_several_policies_ask_for_is_told_once() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    verdict = judged(manifest, policy({"require": BASELINE}), cluster_policy({"require": BASELINE}))
    assert len(verdict.violations) == 2
    head, line = denial(verdict, "it").splitlines()
    assert head == "it breaks 1 rule of DataPolicy/clinic/policy and ClusterDataPolicy/cluster:"
    assert line.startswith("  ENC-001 spec.encryption.inTransit: no encryption in transit. Fix: ")


def test_what_different_policies_ask_for_is_told_under_their_names() -> None:
    manifest = good()
    del manifest["spec"]["encryption"]
    rule = {"id": "CUSTOM-001", "expression": "false", "message": "'no'"}
    verdict = judged(manifest, policy({"require": BASELINE}), cluster_policy({"rules": [rule]}))
    head, first, encryption, second, custom = denial(verdict, "it").splitlines()
    assert (head, first) == ("it breaks 2 rules:", "1 of DataPolicy/clinic/policy:")
    assert encryption.startswith("  ENC-001 ")
    assert (second, custom) == ("1 of ClusterDataPolicy/cluster:", "  CUSTOM-001 spec: no.")


def test_a_denial_is_bounded_however_many_policies_ask() -> None:
    rule = {"id": "CUSTOM-001", "expression": "false", "message": "'no'"}
    policies = [{**cluster_policy({"rules": [rule]}), "metadata": {"name": f"{'x' * 240}{n}"}} for n in range(40)]
    assert len(denial(judged(good(), *policies), "it").encode()) <= MAX_DENIAL


def test_a_message_cannot_forge_a_line() -> None:
    rule = {"id": "CUSTOM-001", "expression": "false", "message": "'one\\n  ENC-999 two'"}
    (violation,) = judged(good(), policy({"rules": [rule]})).violations
    assert "\n" not in violation.line
