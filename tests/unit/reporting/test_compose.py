"""The report as data: what is told of whom, and that nothing is guessed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelward.reporting.attention import ends_soon
from modelward.reporting.compose import compose
from modelward.reporting.document import OUTCOMES, Certificate, Model, Report
from modelward.rules.catalogue import catalogue, frameworks
from tests.unit.reporting.sample import NOW, at, sources


@pytest.fixture(scope="module")
def report() -> Report:
    return compose(sources())


def model(report: Report, name: str) -> Model:
    return next(one for one in report.models if one.name == name)


def test_the_register_says_what_is_declared(report: Report) -> None:
    told = model(report, "wdbc").register
    assert (told.controller, told.contact) == ("Clinic of Example", "x")
    assert told.purposes == ("care", "diagnosis")
    assert (told.data_subjects, told.retention, told.legal_basis) == ("patients", "10 years", "consent")
    assert told.transfers == "none outside the Union"  # by the Namespace
    assert told.classification == ("SpecialCategory",)
    assert {one.role: one.fields for one in told.categories} == {
        "QuasiIdentifier": ("age",),
        "Sensitive": ("weight", "height"),
    }
    assert [(one.basis, one.who, one.requests) for one in told.recipients] == [
        ("allowed", "group:doctors", 0),
        ("declared", "oncology-triage", 0),
        ("answered", "serviceaccount:apps/triage", 1041),
        ("answered", "user:lee", 41),
    ]
    measures = {one.name: one.told for one in told.measures}
    assert measures["Encryption in transit"] == "TLS, version 1.3 or newer; certificate until 2026-03-06T12:00:00Z"
    assert measures["Minimisation and pseudonymisation"] == "age generalised to intervals of 5"
    assert measures["Encryption in use"] is None


def test_the_register_says_how_the_last_security_test_ended() -> None:
    test = {"suite": "baseline", "outcome": "Failed", "finishedAt": at(-1), "withstood": 9, "skipped": 2}
    test["succeeded"] = ["extraction.synthetic", "bypass.no-token"]
    given = sources()
    given.models[0]["status"]["lastSecurityTest"] = test
    told = {one.name: one.told for one in model(compose(given), "wdbc").register.measures}
    assert told["Testing of security"] == (
        f"suite baseline: Failed at {at(-1)}; succeeded: extraction.synthetic, bypass.no-token, 9 attacks withstood,"
        " 2 not tried"
    )
    test |= {"outcome": "Errored", "succeeded": [], "withstood": 0, "skipped": 0}
    test["stands"] = {"outcome": "Passed", "finishedAt": at(-2), "withstood": 9}
    told = {one.name: one.told for one in model(compose(given), "wdbc").register.measures}
    assert told["Testing of security"] == f"suite baseline: Errored at {at(-1)}; Passed at {at(-2)}, which stands"


def test_what_nobody_says_is_null_and_never_guessed() -> None:
    report = compose(sources(controller=None, contact=None, namespaces={}))
    told = msgspec.to_builtins(model(report, "hurried").register)
    for name in ("controller", "contact", "legalBasis", "dataSubjects", "transfers", "retention", "contest"):
        assert told[name] is None
    assert told["purposes"] == told["categories"] == told["recipients"] == ()
    asked = ("k-anonymity",)  # by a policy, of whatever model
    assert {one["name"] for one in told["measures"] if one["told"]} == set(asked)


def test_a_model_says_more_than_its_namespace_and_both_more_than_the_command_line() -> None:
    space = {"metadata": {"annotations": {"register.modelward.io/controller": "of the namespace"}}}
    given = sources(namespaces={"clinic": space})
    own = dict(given.models[0])
    own["metadata"] = {**own["metadata"], "annotations": {"register.modelward.io/controller": "its own"}}
    report = compose(sources(namespaces={"clinic": space}, models=[own, *given.models[1:]]))
    assert model(report, "wdbc").register.controller == "its own"
    assert model(report, "hurried").register.controller == "of the namespace"


def test_each_rule_has_one_outcome_in_each_framework_that_it_serves(report: Report) -> None:
    for one in report.models:
        for name in frameworks():
            kinds = one.verdicts.frameworks[name]
            rules = [rule for kind in OUTCOMES for rule in kinds.get(kind, ())]
            serving = [
                rule.id for rule in catalogue() if any(place.startswith(f"{name}-") for place in rule.frameworks)
            ]
            assert sorted(rules) == serving


def test_verdicts_are_those_of_check(report: Report) -> None:
    told = model(report, "hurried").verdicts
    levels = {(one.rule, one.level) for one in told.findings}
    assert {("ENC-001", "violation"), ("CUSTOM-001", "warning"), ("RUN-001", "violation")} <= levels
    excused = [one for one in told.findings if one.level == "excused"]
    assert [(one.rule, one.policy) for one in excused] == [("RUN-001", "DataPolicy/clinic/clinic")]
    assert "an old client" in excused[0].excuse
    gdpr = told.frameworks["GDPR"]
    assert "ENC-001" in gdpr["fails"]
    assert "FAI-001" in gdpr["notAsked"]
    assert "fails" not in model(report, "wdbc").verdicts.frameworks["GDPR"]


def test_what_only_the_controller_sees_is_taken_from_the_status() -> None:
    given = sources()
    wdbc = {**given.models[0], "status": dict(given.models[0]["status"])}
    policy = {**given.policies[1], "spec": {**given.policies[1]["spec"], "require": {"workload": "Restricted"}}}
    rule = next(one.id for one in catalogue() if one.observes == "pods")

    def outcome(status: dict[str, Any]) -> str:
        one = {**wdbc, "status": {**wdbc["status"], **status}}
        told = compose(sources(models=[one], policies=[given.policies[0], policy])).models[0].verdicts
        return next(kind for kinds in told.frameworks.values() for kind, rules in kinds.items() if rule in rules)

    assert outcome({}) == "passes"
    assert outcome({"observedGeneration": 1}) == "unseen"
    assert outcome({"replicas": 0}) == "unseen"
    broken = {
        "rule": rule,
        "policy": "DataPolicy/clinic/clinic",
        "field": "spec",
        "message": "no limits. Fix: set some",
    }
    assert outcome({"violations": [broken]}) == "fails"


def test_without_the_namespaces_the_status_says_which_cluster_policies_govern() -> None:
    given = sources()
    chosen = {
        **given.policies[0],
        "spec": {**given.policies[0]["spec"], "namespaceSelector": {"matchLabels": {"a": "b"}}},
    }
    policies = [chosen, given.policies[1]]
    told = {one.name: one.verdicts.policies for one in compose(sources(policies=policies, namespaces=None)).models}
    assert told["wdbc"] == ("ClusterDataPolicy/baseline", "DataPolicy/clinic/clinic")
    assert told["hurried"] == ("DataPolicy/clinic/clinic",)
    known = {one.name: one.verdicts.policies for one in compose(sources(policies=policies)).models}
    assert known["wdbc"] == ("DataPolicy/clinic/clinic",)


def test_places_count_models(report: Report) -> None:
    for one in report.places:
        assert one.passing + one.failing + one.not_asked == len(report.models)
    security = next(one for one in report.places if (one.framework, one.place) == ("GDPR", "32"))
    assert security.failing == 2


def test_incidents_come_from_the_status_events_and_logs(report: Report) -> None:
    assert [(one.kind, one.model, one.count, one.source) for one in report.incidents] == [
        ("AnomalyDetected", "clinic/wdbc", 12, "status"),
        ("SidecarMissing", "clinic/hurried", 3, "event"),
        ("AccessDenied", "clinic/circular", 4, "log"),
    ]
    line = report.timeline
    assert not line.exact
    assert {kind.kind: sum(kind.counts) for kind in line.kinds} == {
        "AccessDenied": 4,
        "AnomalyDetected": 12,
        "SidecarMissing": 3,
    }


def test_exceptions_and_certificates_with_the_days_that_are_left(report: Report) -> None:
    assert [one.days for one in report.exceptions] == [None, -2.0, 5.2]
    (certificate,) = report.certificates
    assert certificate.days == 5.0


@pytest.mark.parametrize(
    ("source", "days", "soon"),
    [
        ("issued by modelward's own authority", 5.0, False),  # renewed by itself
        ("issued by modelward's own authority", 0.5, True),
        ("from Secret own", 20.0, True),
        ("from Secret own", 90.0, False),
        ("from Secret own", None, True),
    ],
)
def test_a_certificate_that_somebody_has_to_see_to(source: str, days: float | None, soon: bool) -> None:
    assert ends_soon(Certificate(model="a/b", source=source, expires="", days=days)) == soon


def test_what_needs_attention_is_told_the_gravest_first(report: Report) -> None:
    grades = [one.grade for one in report.attention]
    assert grades == sorted(grades, key=["high", "medium", "low"].index)
    told = {one.what: one.models for one in report.attention}
    assert told["groups are treated unequally: Seen"] == ("clinic/wdbc",)
    assert told["2 features drifted, most age (6.5)"] == ("clinic/wdbc",)
    assert any(what.startswith("lineage goes in a circle: x -> ") for what in told)
    assert any("ends in 5.2 days" in what for what in told)


def test_the_lineage_of_all_with_cycles_and_blast_radius(report: Report) -> None:
    assert len(report.lineage.cycles) == 1
    reach = {one.digest: one for one in report.lineage.reach}["sha256:" + "a" * 64]
    assert reach.models == ("clinic/wdbc",)
    assert set(reach.consumers) == {"user:lee", "serviceaccount:apps/triage", "oncology-triage"}


def test_the_document_is_json_with_the_same_again(report: Report) -> None:
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["dataset", "model", "transformations", "consumer", "x"]), st.text()),
    st.dictionaries(st.sampled_from(["reason", "message", "lastTimestamp", "type"]), st.text()),
)
def test_annotations_and_events_are_anything(said: dict[str, str], event: dict[str, str]) -> None:
    given_ = sources()
    annotations = {f"lineage.modelward.io/{name}": value for name, value in said.items()}
    annotations |= {f"register.modelward.io/{name}": value for name, value in said.items()}
    one = {**given_.models[0], "metadata": {**given_.models[0]["metadata"], "annotations": annotations}}
    report = compose(sources(models=[one], events=[{**given_.events[0], **event}, {}, event]))
    assert msgspec.json.encode(report)


def test_nothing_at_all_is_a_report() -> None:
    report = compose(sources(models=[], policies=[], events=[], logged=[], consumed=[], namespaces={}))
    assert report.models == ()
    assert report.generated == at(0)
    assert report.timeline.kinds == ()
    assert NOW.tzinfo
