import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.admission.decide import NotReadyError, Settings, Surroundings, decide
from modelward.admission.review import Request, ReviewError, decode
from modelward.api.validate import canonical, parse
from modelward.rules.prepared import prepare
from tests.corpus import good, policy

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BASELINE = canonical(
    parse(
        {
            **policy({"require": {"encryption": {"inTransit": "TLS"}, "explanations": True}}),
            "kind": "ClusterDataPolicy",
            "metadata": {"name": "baseline"},
        }
    )
)
LAX = copy.deepcopy(BASELINE)
LAX["spec"]["require"] = {}
SETTINGS = Settings("sidecar@sha256:" + "a" * 64, "a2V5")


def around(*policies: Any, settings: Settings | None = SETTINGS) -> Surroundings:
    return Surroundings([prepare(policy) for policy in policies or (BASELINE,)], {}, settings)


def request(item: dict[str, Any], old: dict[str, Any] | None = None, **change: Any) -> Request:
    group, _, version = item["apiVersion"].rpartition("/")
    document = {
        "uid": "u",
        "kind": {"group": group, "version": version, "kind": item["kind"]},
        "operation": "UPDATE" if old else "CREATE",
        "name": item["metadata"].get("name", ""),
        "namespace": "clinic",
        "object": item,
        "oldObject": old,
        **change,
    }
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": document}
    return decode(json.dumps(review).encode())


def bare(**metadata: Any) -> dict[str, Any]:
    item = {**good(), "spec": {"model": {"image": "x@sha256:" + "a" * 64}}}
    item["metadata"] = {"name": "m", "namespace": "clinic", **metadata}
    return item


def test_every_violation_is_in_the_message():
    decision = decide(request(bare()), around(), NOW)
    assert not decision.allowed
    assert decision.message.splitlines()[0] == "ModelDeployment clinic/m breaks 2 rules of ClusterDataPolicy/baseline:"
    assert [line.split()[0] for line in decision.message.splitlines()[1:]] == ["ENC-001", "EXP-001"]


def test_warnings_let_in():
    warn = copy.deepcopy(BASELINE)
    warn["spec"]["enforcement"] = "Warn"
    decision = decide(request(bare()), around(warn), NOW)
    assert decision.allowed
    assert [warning.split()[0] for warning in decision.warnings] == ["ENC-001", "EXP-001"]


def test_a_forged_status_neither_helps_nor_harms():
    forged = bare()
    forged["status"] = {"conditions": "not even a list"}
    assert not decide(request(forged), around(), NOW).allowed
    assert decide(request(forged), around(LAX), NOW).allowed


@pytest.mark.parametrize(
    "spec", [{}, {"model": {}}, {"model": {"image": 7}}, {"unknown": 1}, None, [], {"model": None, "targetRef": None}]
)
def test_what_the_schema_will_refuse_is_left_to_it(spec):
    assert decide(request({**bare(), "spec": spec}), around(), NOW).allowed


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_deleting_is_not_judged_here(operation):
    assert decide(request(bare(), operation=operation), around(), NOW).allowed


def test_an_update_is_judged_where_it_changes_what_is_judged():
    old = bare()
    note = bare(annotations={"note": "x"}, finalizers=["example.org/wait"])
    assert decide(request(note, old), around(), NOW).allowed
    assert decide(request({**bare(), "status": {"replicas": 1}}, old), around(), NOW).allowed
    for changed in (
        bare(labels={"team": "x"}),
        bare(annotations={"lineage.modelward.io/consumer": "other"}),
        {**bare(), "spec": {**bare()["spec"], "replicas": 2}},
    ):
        assert not decide(request(changed, old), around(), NOW).allowed
        changed["metadata"]["deletionTimestamp"] = "2026-05-01T00:00:00Z"
        assert decide(request(changed, old), around(), NOW).allowed


def test_a_policy_whose_rules_do_not_compile_is_refused():
    broken = policy({"rules": [{"id": "CUSTOM-001", "expression": "object.(", "message": "'x'"}]})
    decision = decide(request(broken), around(), NOW)
    assert not decision.allowed
    assert "CUSTOM-001" in decision.message
    stored = canonical(parse(broken))
    assert decide(request({**stored, "metadata": {**stored["metadata"], "labels": {"a": "b"}}}, stored), around(), NOW)
    assert decide(request(policy({})), around(), NOW).allowed


def test_a_broken_rule_that_is_stored_does_not_bar_other_changes():
    stored = canonical(parse(policy({"rules": [{"id": "CUSTOM-001", "expression": "object.(", "message": "'x'"}]})))
    changed = copy.deepcopy(stored)
    changed["spec"]["repair"] = True
    assert decide(request(changed, stored), around(), NOW).allowed
    changed["spec"]["rules"][0]["expression"] = "object.["
    assert not decide(request(changed, stored), around(), NOW).allowed


def test_ten_policies_are_enough_for_a_namespace():
    ten = [canonical(parse(policy({}, name=f"p{index}"))) for index in range(10)]
    decision = decide(request(policy({}, name="p10")), around(BASELINE, *ten), NOW)
    assert "10 is the most" in decision.message
    assert decide(request(policy({}, name="p10")), around(BASELINE, *ten[1:]), NOW).allowed
    cluster = {**policy({}), "kind": "ClusterDataPolicy", "metadata": {"name": "c"}}
    assert decide(request(cluster), around(BASELINE, *ten), NOW).allowed


def pod(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "model"}]}}


def test_a_pod_gets_its_sidecar_once():
    first = decide(request(pod(labels={"modelward.io/model": "m"})), around(), NOW)
    assert [operation["path"] for operation in first.patch] == [
        "/metadata/labels",
        "/spec/initContainers",
        "/spec/volumes",
    ]
    done = pod()
    for operation in first.patch:
        _, part, field = operation["path"].split("/")
        done[part][field] = operation["value"]
    assert decide(request(done), around(), NOW).patch == ()


def test_a_pod_that_cannot_be_protected_is_refused():
    decision = decide(request(pod(generateName="p-")), around(), NOW)
    assert not decision.allowed
    assert decision.message.startswith("Pod clinic/p- cannot be protected:\n  ")


def test_without_settings_there_is_no_answer_about_pods():
    with pytest.raises(NotReadyError):
        decide(request(pod()), around(settings=None), NOW)
    assert not decide(request(bare()), around(settings=None), NOW).allowed


def test_other_kinds_and_subresources_are_not_judged_here():
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {}}
    with pytest.raises(ReviewError):
        decide(request(other), around(), NOW)
    with pytest.raises(ReviewError):
        decide(request(bare(), subResource="status"), around(), NOW)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["metadata", "spec", "status"]), values)
def test_no_model_gets_in_by_being_odd(part, value):
    """An odd object is refused here, or by its schema; it is never let in where the schema takes it."""
    odd = {**bare(), part: value}
    decision = decide(request(odd) if isinstance(odd["metadata"], dict) else _nameless(odd), around(), NOW)
    if decision.allowed:
        with pytest.raises(Exception, match=r".*"):
            parse({key: item for key, item in odd.items() if key != "status"})


def _nameless(item: dict[str, Any]) -> Request:
    template = request(bare())
    return Request(uid="u", kind=template.kind, operation="CREATE", namespace="clinic", object=item)


@given(values, values)
def test_no_pod_gets_in_unprotected_by_being_odd(metadata, spec):
    odd = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    template = request(pod())
    try:
        decision = decide(Request(uid="u", kind=template.kind, operation="CREATE", object=odd), around(), NOW)
    except ReviewError:
        return
    assert not decision.allowed


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("transformations", '[{"what": "x"', "transformations is not JSON"),
        ("model", "oci://x@sha256:abc", "model does not end in @sha256: and 64 lower-case hex digits"),
        ("model", "oci://x@sha256:" + "d" * 64, "model has the digest of lineage.modelward.io/dataset"),
        ("statements", "deployment/x", "statements is not configmap/<name> or secret/<name>"),
    ],
)
def test_lineage_that_cannot_be_read_is_let_in_with_a_warning(name: str, value: str, words: str):
    item = good()
    item["metadata"]["annotations"][f"lineage.modelward.io/{name}"] = value
    decision = decide(request(item), around(LAX), NOW)
    assert decision.allowed
    (warning,) = decision.warnings
    assert warning.startswith(f"lineage.modelward.io/{words}")
    assert warning.endswith("it is not Ready until that is mended")
