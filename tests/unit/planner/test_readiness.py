from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import canonical, parse
from modelward.planner.deployment import pod_spec
from modelward.planner.readiness import observations
from modelward.rules.judge import Review, judge_readiness
from tests.corpus import Manifest, good, policy

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)


def md(**model: Any) -> ModelDeployment:
    manifest = good()
    manifest["spec"]["model"].update(model)
    parsed = parse(manifest)
    assert isinstance(parsed, ModelDeployment)
    return parsed


def broken(
    require: Manifest, pods: list[Manifest], manifest: Manifest | None = None, signatures: Any = (), test: Any = None
) -> set[str]:
    raw = manifest or good()
    review = Review(canonical(parse({key: value for key, value in raw.items() if key != "status"})), namespace="clinic")
    policies = [canonical(parse(policy({"require": require})))]
    found = judge_readiness(review, policies, observations(raw, pods, NOW, signatures, test))
    return {violation.rule for violation in found.violations}


@pytest.mark.parametrize("model", [{}, {"runAsUser": 10001}, {"resources": {}}])
def test_the_pods_that_modelward_makes_keep_every_rule(model: Manifest) -> None:
    made = md(**model)
    assert made.spec.model
    assert broken({"workload": "Restricted"}, [pod_spec(made, made.spec.model)]) == set()


def test_every_pod_template_counts() -> None:
    made = md()
    assert made.spec.model
    safe = pod_spec(made, made.spec.model)
    assert broken({"workload": "Baseline"}, [safe, {**safe, "hostPID": True}]) == {"RUN-007"}
    assert broken({"workload": "Restricted"}, [safe, {"containers": [{"name": "m"}]}]) == {"RUN-008", "RUN-009"}


def test_pods_that_are_not_known_are_not_judged() -> None:
    assert broken({"workload": "Restricted"}, []) == set()


def test_a_user_of_ones_own_is_in_the_pod_and_never_root() -> None:
    made = md(runAsUser=10001)
    assert made.spec.model
    (container,) = pod_spec(made, made.spec.model)["containers"]
    assert container["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"]["runAsNonRoot"] is True


def test_lineage_is_read() -> None:
    manifest = good()
    manifest["metadata"]["annotations"]["lineage.modelward.io/transformations"] = '[{"what": "a", "how": "b"}]'
    assert broken({"lineage": {}}, []) == set()
    assert broken({"lineage": {}}, [], manifest) == {"LIN-008"}


def test_a_signature_that_is_asked_for_is_never_taken_for_granted() -> None:
    asked = {"lineage": {"signedBy": ["key:ml-platform"], "trustConfigMapName": "signers"}}
    assert broken(asked, []) == {"LIN-009"}
    lacks = [{"kind": "DataPolicy", "name": "policy", "lacks": "no statement"}]
    assert broken(asked, [], signatures=lacks) == {"LIN-009"}
    assert broken(asked, [], signatures=[{**lacks[0], "lacks": ""}]) == set()
    assert broken(asked, [], signatures=[{**lacks[0], "lacks": "", "name": "other"}]) == {"LIN-009"}
    assert broken(asked, [], signatures=[{**lacks[0], "lacks": "", "kind": "ClusterDataPolicy"}]) == {"LIN-009"}


@pytest.mark.parametrize(
    ("outcome", "finished", "rules"),
    [
        (None, None, {"TST-004"}),
        ("Passed", "2026-06-10T03:00:00Z", set()),
        ("Passed", "2026-06-03T12:00:00Z", set()),
        ("Passed", "2026-06-03T11:00:00Z", {"TST-004"}),
        ("Failed", "2026-06-10T03:00:00Z", {"TST-004"}),
        ("Errored", "2026-06-10T03:00:00Z", {"TST-004"}),
    ],
)
def test_the_last_security_test_has_to_have_passed_lately(outcome: Any, finished: Any, rules: set[str]) -> None:
    test = {"suite": "baseline", "outcome": outcome, "finishedAt": finished} if outcome else None
    assert broken({"securityTest": {"gate": True, "maxAgeDays": 7}}, [], test=test) == rules
    assert broken({"securityTest": {"gate": False}}, [], test=test) == set(), "who does not gate does not withhold"
