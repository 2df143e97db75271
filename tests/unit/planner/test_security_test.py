"""What is tested, when, by which objects, and what is said of it."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.status import SecurityTestStatus
from modelward.api.validate import parse
from modelward.attack import catalogue
from modelward.attack.report import AttackReport, SecurityTestReport
from modelward.cli.files import read_paths
from modelward.cli.output import to_yaml
from modelward.planner.names import MANAGED_BY_LABEL
from modelward.planner.network_policy import network_policy
from modelward.planner.readiness import observations
from modelward.planner.references import References
from modelward.planner.secret import ServingCertificate
from modelward.planner.security_test import (
    SUITES,
    due,
    is_test,
    job_name,
    request_of,
    rule_of_tester,
    security_test_job,
    security_test_network_policy,
    security_test_secret,
    security_test_unsupported,
    url_of,
)
from modelward.planner.security_test_report import (
    REPORT_KEY,
    errored_status,
    following,
    report_map,
    security_test_status,
)
from modelward.planner.sidecar import INJECT_LABEL, JOB_LABEL, MODEL_LABEL
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.status_news import status_news
from modelward.planner.tested import MAX_ATTEMPTS, AskedTest, LastTest, asked_of, subject_digest, tools_digest
from modelward.securitytest import SUBJECT, Request
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, stored, supported

GOLDEN = Path(__file__).parents[2] / "data" / "security-test"
NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
IMAGE = "modelward-jobs@sha256:" + "c" * 64
SUBJECT_DIGEST, TOOLS = "a" * 64, "b" * 64
REQUEST = Request("clinic/wdbc", "uid-1", "baseline", SUBJECT_DIGEST, TOOLS, "first")
ASKED = AskedTest("baseline", gates=True)


def model(test: Any = True, **spec: Any) -> ModelDeployment:
    manifest = supported()
    manifest["metadata"]["uid"] = "uid-1"
    if test is not None:
        manifest["spec"]["securityTest"] = {} if test is True else test
    manifest["spec"] |= spec
    return parsed(manifest)


def last(outcome: str = "Passed", ago: timedelta = timedelta(hours=1), **more: Any) -> dict[str, Any]:
    ended = (NOW - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"suite": "baseline", "outcome": outcome, "finishedAt": ended, "subject": SUBJECT_DIGEST, "tools": TOOLS}
    return told | more


def known(before: dict[str, Any] | None = None, **asked: Any) -> LastTest:
    return LastTest(replace(ASKED, **asked), SUBJECT_DIGEST, before)


def attack(outcome: Any = "Withstood", severity: Any = "high", name: str = "bypass.no-token") -> AttackReport:
    fix = "Close it." if outcome == "Succeeded" else ""
    return AttackReport(id=name, title="It holds", outcome=outcome, severity=severity, fix=fix)


def report(outcome: Any, *attacks: AttackReport, **more: Any) -> SecurityTestReport:
    return SecurityTestReport(
        suite="baseline",
        target="https://wdbc.clinic.svc:8443",
        model="wdbc",
        started_at="2026-06-10T11:58:00Z",
        finished_at="2099-01-01T00:00:00Z",  # what a Job says of the time counts for nothing
        requests=10,
        outcome=outcome,
        attacks=attacks,
        **more,
    )


# --- what is asked


def test_owner_and_policies_ask() -> None:
    asks = stored({"require": {"securityTest": {"maxAgeDays": 3, "gate": True}}})
    milder = stored({"require": {"securityTest": {"maxAgeDays": 30}}})
    assert asked_of(model(None), [stored({})]) is None
    assert asked_of(model(None), [asks]) == AskedTest("baseline", gates=True, max_age_days=3)
    assert asked_of(model({"gate": False}), [milder]) == AskedTest("baseline", gates=False, max_age_days=30)
    own = asked_of(model({"schedule": "@daily"}), [asks, milder])
    assert own == AskedTest("baseline", gates=True, schedule="@daily", max_age_days=3)


def test_a_schedule_and_a_suite_that_are_none_are_told() -> None:
    assert security_test_unsupported(model()) == []
    assert security_test_unsupported(model(None)) == []
    wrong = security_test_unsupported(model({"suite": "other", "schedule": "at three"}))
    assert [one.partition(" ")[0] for one in wrong] == ["spec.securityTest.suite", "spec.securityTest.schedule"]
    assert "there is no suite 'other': baseline" in wrong[0]
    assert "a schedule has 5" in wrong[1]


def test_the_suites_are_those_that_there_are() -> None:
    assert tuple(catalogue.SUITES) == SUITES  # named again where numpy need not be loaded


# --- what a test is of


def test_another_model_is_another_subject_and_more_of_the_same_is_not() -> None:
    def digest(md: ModelDeployment, references: References = REFERENCES) -> str:
        return subject_digest(md, references, [])

    same = digest(model())
    assert digest(model(replicas=7)) == same
    assert digest(model({"schedule": "@daily", "gate": False})) == same
    more = supported()["spec"]["model"] | {"resources": {"limits": {"memory": "9Gi"}}}
    assert digest(model(model=more)) == same
    for changed in (
        {"model": supported()["spec"]["model"] | {"image": "other@sha256:" + "9" * 64}},
        {"model": supported()["spec"]["model"] | {"env": [{"name": "A", "value": "b"}]}},
        {"access": {"rules": []}},
        {"encryption": {"inTransit": {"mode": "TLS", "minVersion": "1.2"}}},
        {"schema": {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3]}]}},
    ):
        assert digest(model(**changed)) != same, changed


def test_a_workload_that_runs_already_is_its_containers() -> None:
    pod = {"containers": [{"name": "m", "image": "m@sha256:1", "resources": {}}]}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wdbc", "port": 8080}
    md = model(model=None, targetRef=target)
    assert subject_digest(md, REFERENCES, [pod]) == subject_digest(
        md, REFERENCES, [{"containers": [{**pod["containers"][0], "resources": {"limits": {"cpu": "1"}}}]}]
    )
    assert subject_digest(md, REFERENCES, [pod]) != subject_digest(md, REFERENCES, [{"containers": [{"image": "n"}]}])


@pytest.mark.parametrize(
    "more",
    [
        {"initContainers": [{"name": "fetch", "image": "f", "args": ["s3://models/2"]}]},
        {"volumes": [{"name": "model", "persistentVolumeClaim": {"claimName": "other"}}]},
        {"containers": [{"name": "m", "image": "m", "envFrom": [{"configMapRef": {"name": "which"}}]}]},
        {"containers": [{"name": "m", "image": "m", "volumeMounts": [{"name": "other", "mountPath": "/mnt/models"}]}]},
        {"containers": [{"name": "m", "image": "m", "workingDir": "/other"}]},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_brings_a_workload_another_model_is_another_subject(more: dict[str, Any]) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "wdbc", "port": 8080}
    md, pod = model(model=None, targetRef=target), {"containers": [{"name": "m", "image": "m"}]}
    assert subject_digest(md, REFERENCES, [pod]) != subject_digest(md, REFERENCES, [{**pod, **more}])


def test_images_and_what_policies_do_are_the_tools() -> None:
    rounds = stored({"fields": [{"name": "age", "treatment": "Round", "digits": 0}]})
    assert tools_digest([rounds, stored({})], "s", "j") == tools_digest([stored({}), rounds], "s", "j")
    assert len({tools_digest(p, s, "j") for p in ([], [rounds]) for s in ("s", "t")}) == 4


# --- when


def test_who_waits_for_others_is_not_looked_at_every_few_seconds() -> None:
    """After an upgrade a thousand models are due at once."""
    gated, serving = LastTest(ASKED, SUBJECT_DIGEST), LastTest(ASKED, SUBJECT_DIGEST, last())
    assert gated.look_again is None
    assert replace(gated, now="a Job runs").look_again == replace(serving, now="a Job runs").look_again == 5
    assert replace(gated, now="waits", waits=True).look_again == 30
    assert replace(serving, now="waits", waits=True).look_again == 300


def test_the_first_test_is_due_at_once_and_so_is_that_of_another_subject() -> None:
    first = due(known(), TOOLS, "uid", NOW)
    assert first is not None
    assert first.run == "changed first"
    other = due(known(last(subject="c" * 64)), TOOLS, "uid", NOW)
    assert other is not None
    assert other.run == "changed after 2026-06-10T11:00:00Z"
    assert due(known(last()), TOOLS, "uid", NOW) is None
    assert due(known(last(suite="another")), TOOLS, "uid", NOW) is not None
    assert due(LastTest(), TOOLS, "uid", NOW) is None


def test_what_came_to_nothing_is_tried_again_ever_later_and_then_four_times_a_day() -> None:
    waits = []
    for attempts in range(1, MAX_ATTEMPTS + 1):
        minutes = next(
            (
                minutes
                for minutes in range(40)
                if due(known(last("Errored", timedelta(minutes=minutes), attempts=attempts)), TOOLS, "uid", NOW)
            ),
            None,
        )
        waits.append(minutes)
    assert waits == [1, 2, 4, 8, None]
    for attempts in (MAX_ATTEMPTS, MAX_ATTEMPTS + 40):
        for hours, again in ((5, False), (6, True)):
            tired = known(last("Errored", timedelta(hours=hours), attempts=attempts))
            assert (due(tired, TOOLS, "uid", NOW) is not None) is again
    tired = last("Errored", timedelta(hours=4), attempts=MAX_ATTEMPTS)
    assert due(known(tired), "d" * 64, "uid", NOW) is not None
    assert due(known(tired, schedule="@hourly"), TOOLS, "uid", NOW) is not None


def test_a_failed_test_is_repeated_by_schedule_alone() -> None:
    failed = last("Failed", timedelta(days=3))
    assert due(known(failed), TOOLS, "uid", NOW) is None
    assert due(known(failed, schedule="@daily"), TOOLS, "uid", NOW) is not None


def test_however_many_times_were_missed_one_run_is_due_spread_by_the_model() -> None:
    weekly = known(last(ago=timedelta(days=40)), schedule="0 3 * * *")
    found = due(weekly, TOOLS, "uid", NOW)
    assert found is not None
    assert found.run == "due 2026-06-10T03:00:00Z"
    assert due(known(last(ago=timedelta(hours=8)), schedule="0 3 * * *"), TOOLS, "uid", NOW) is None
    three = NOW.replace(hour=3)
    begun = {
        next(
            seconds
            for seconds in range(0, 400, 5)
            if due(
                known({**last(), "finishedAt": "2026-06-09T12:00:00Z"}, schedule="0 3 * * *"),
                TOOLS,
                f"uid-{number}",
                three + timedelta(seconds=seconds),
            )
        )
        for number in range(20)
    }
    assert len(begun) > 10
    assert max(begun) <= 300


def test_no_schedule_brings_a_model_more_than_six_tests_an_hour() -> None:
    for minutes, wanted in ((9, False), (11, True)):
        often = known(last(ago=timedelta(minutes=minutes)), schedule="* * * * *")
        assert (due(often, TOOLS, "uid", NOW) is not None) is wanted


def test_before_a_test_is_too_old_it_is_repeated() -> None:
    for days, wanted in ((5.9, False), (6.1, True)):
        old = known(last(ago=timedelta(days=days)), max_age_days=7)
        assert (due(old, TOOLS, "uid", NOW) is not None) is wanted


def test_a_test_that_ended_in_the_future_is_repeated_now() -> None:
    ahead = known(last("Passed", timedelta(days=-900)), schedule="@daily", max_age_days=7)
    assert due(ahead, TOOLS, "uid", NOW) is not None
    assert due(known(last("Passed", timedelta(minutes=-5))), TOOLS, "uid", NOW) is None, "clocks differ a little"


def test_other_tools_are_a_reason_and_close_no_gate() -> None:
    upgraded = known(last())
    assert due(upgraded, "d" * 64, "uid", NOW) is not None
    assert not upgraded.gated


# --- what the test may


def test_the_test_may_what_the_most_privileged_caller_may() -> None:
    def rules(*given: dict[str, Any]) -> dict[str, Any] | None:
        access = {**supported()["spec"]["access"], "rules": list(given)}
        return rule_of_tester(model(access=access))

    slow = {"subjects": ["user:a"], "operations": ["Infer", "Feedback"], "rateLimit": {"requests": 5, "seconds": 60}}
    quick = {"subjects": ["user:b"], "purposes": ["diagnosis"], "rateLimit": {"requests": 10, "seconds": 60}}
    reads = {"subjects": ["user:c"], "operations": ["Metadata"]}
    assert rules() is None
    assert rules(reads) is None
    assert rules(slow, reads) == {
        "subjects": [SUBJECT],
        "operations": ["Infer", "Metadata"],
        "purposes": [],
        "rateLimit": {"requests": 5, "seconds": 60},
    }
    both = rules(slow, quick)
    assert both is not None
    assert both["rateLimit"]["requests"] == 10
    free = rules(slow, {"subjects": ["user:d"]})
    assert free is not None
    assert "rateLimit" not in free


def test_the_sidecar_is_told_of_the_test_where_one_is_asked_for_and_nowhere_else() -> None:
    for md, policies, wanted in (
        (model(), [], True),
        (model(None), [], False),
        (model(None), [stored({"require": {"securityTest": {}}})], True),
    ):
        rules = sidecar_config(md, policies, REFERENCES)["access"]["rules"]
        assert (SUBJECT in rules[0]["subjects"]) is wanted


def test_no_rule_of_the_owners_comes_before_the_tests() -> None:
    """Else an owner would hold the test alone to a rate at which no attack can be told from none."""
    slow = {"requests": 1, "seconds": 86400}
    for named in (SUBJECT, "*"):
        rules = [{"subjects": ["user:a"]}, {"subjects": [named], "operations": ["Infer"], "rateLimit": slow}]
        md = model(access={**supported()["spec"]["access"], "rules": rules})
        first, *_ = sidecar_config(md, [], REFERENCES)["access"]["rules"]
        assert (first["subjects"], first.get("rateLimit")) == ([SUBJECT], None)


# --- its objects


def test_golden() -> None:
    """MODELWARD_WRITE_GOLDEN=1 writes the output anew; read the difference before you commit it."""
    objects = [document.data for document in read_paths([GOLDEN / "input.yaml"])]
    (md,) = (one for one in map(parse, objects) if isinstance(one, ModelDeployment))
    request = msgspec.structs.replace(REQUEST, subject=subject_digest(md, References.among(objects, "clinic"), []))
    found = "---\n".join(
        map(
            to_yaml,
            [
                security_test_network_policy(md),
                security_test_secret(md, ServingCertificate(b"chain", b"key", b"authorities")),
                security_test_job(md, request, "10.1.2.3", IMAGE, "a2V5"),
                network_policy(md, ("monitoring",), withheld=True),
                report_map(md, request, report("Passed", attack())),
            ],
        )
    )
    if os.environ.get("MODELWARD_WRITE_GOLDEN"):
        (GOLDEN / "output.yaml").write_text(found)
    assert list(yaml.safe_load_all(found)) == list(yaml.safe_load_all((GOLDEN / "output.yaml").read_text()))


def made() -> dict[str, Any]:
    return security_test_job(model(), REQUEST, "10.1.2.3", IMAGE, "a2V5")


def test_its_pod_has_no_right_no_token_and_one_way_out() -> None:
    template = made()["spec"]["template"]
    pod = template["spec"]
    assert template["metadata"]["labels"] == {JOB_LABEL: "security-test", "modelward.io/job-for": "wdbc"}
    assert not {MODEL_LABEL, INJECT_LABEL, MANAGED_BY_LABEL} & set(template["metadata"]["labels"])
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["hostAliases"] == [{"ip": "10.1.2.3", "hostnames": ["wdbc.clinic.svc"]}]
    assert url_of(model()) == "https://wdbc.clinic.svc:8443"
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    policy = security_test_network_policy(model())["spec"]
    assert policy["podSelector"]["matchLabels"] == template["metadata"]["labels"]
    (way,) = policy["egress"]
    assert way == {
        "to": [{"podSelector": {"matchLabels": network_policy(model(), ())["spec"]["podSelector"]["matchLabels"]}}]
    }
    assert set(security_test_secret(model(), ServingCertificate(b"c", b"k", b"a"))["data"]) == {"tls.crt", "tls.key"}


def test_a_job_ends_is_not_repeated_by_itself_and_is_collected() -> None:
    spec = made()["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (0, 1800, 600)


def test_names_fit_and_each_run_has_its_own() -> None:
    longest = Request("clinic/" + "m" * 50, "u", "baseline", SUBJECT_DIGEST, TOOLS, "first")
    assert len(job_name("m" * 50, longest)) <= 63
    assert job_name("wdbc", REQUEST) != job_name("wdbc", msgspec.structs.replace(REQUEST, run="again"))


def test_a_job_is_of_this_very_model_or_of_none() -> None:
    assert request_of(made(), model()) == REQUEST
    manifest = supported()
    manifest["metadata"]["uid"] = "uid-2"
    assert request_of(made(), parsed(manifest)) is None
    renamed = made()
    renamed["metadata"]["name"] = "wdbc-sec-00000000"
    assert request_of(renamed, model()) is None
    for text in ("", "{}", "[", '{"model": 1}'):
        forged = made()
        forged["metadata"]["annotations"] = {"modelward.io/security-test-request": text}
        assert request_of(forged, model()) is None


def test_a_pod_that_runs_anything_else_is_no_test() -> None:
    template = made()["spec"]["template"]
    pod = {"metadata": template["metadata"], "spec": template["spec"]}
    assert is_test(pod, IMAGE)
    assert not is_test(pod, "other")
    for key, value in (("initContainers", [{}]), ("hostNetwork", True), ("ephemeralContainers", [{}])):
        assert not is_test({**pod, "spec": {**pod["spec"], key: value}}, IMAGE)
    twice = {**pod["spec"], "containers": pod["spec"]["containers"] * 2}
    assert not is_test({**pod, "spec": twice}, IMAGE)


def test_while_callers_are_kept_away_the_test_and_the_controller_get_in_alone() -> None:
    opened = network_policy(model(), ("monitoring",))["spec"]["ingress"]
    closed = network_policy(model(), ("monitoring",), withheld=True)["spec"]["ingress"]
    assert "from" not in opened[0]
    assert [set(one) for one in closed[0]["from"]] == [{"namespaceSelector", "podSelector"}, {"podSelector"}]
    assert closed[0]["from"][1]["podSelector"]["matchLabels"] == made()["spec"]["template"]["metadata"]["labels"]
    assert closed[1:] == opened[1:]


# --- what becomes of it


def test_a_report_becomes_a_status_that_is_bounded_and_of_its_own_time() -> None:
    many = [attack("Succeeded", name=f"evasion.a{number}") for number in range(40)]
    low = attack("Succeeded", "low", "malformed.header")
    told = security_test_status(REQUEST, report("Failed", low, *many, attack()), "image", NOW)
    assert told["outcome"] == "Failed"
    assert told["finishedAt"] == "2026-06-10T12:00:00Z"
    assert len(told["succeeded"]) == 32
    assert told["succeeded"][0] == "evasion.a0", "what fails the test comes first"
    assert (told["message"], told["withstood"], told["run"]) == ("Close it.", 1, REQUEST.digest)
    kept = report_map(model(), REQUEST, report("Passed", attack()))
    assert msgspec.json.decode(kept["data"][REPORT_KEY], type=SecurityTestReport).outcome == "Passed"
    assert request_of({"metadata": {**kept["metadata"], "name": job_name("wdbc", REQUEST)}}, model()) == REQUEST


def test_errored_runs_in_a_row_are_counted() -> None:
    first = errored_status(REQUEST, "no\nanswer", "", NOW, None)
    assert (first["attempts"], first["message"]) == (1, "no answer")
    second = errored_status(REQUEST, "no answer", "", NOW, first)
    assert second["attempts"] == 2
    noted = security_test_status(REQUEST, report("Errored", note="gone"), "", NOW)
    assert following(noted, second)["attempts"] == 3
    assert "attempts" not in following(security_test_status(REQUEST, report("Passed", attack()), "", NOW), second)
    other = msgspec.structs.replace(REQUEST, subject="d" * 64)
    assert errored_status(other, "no answer", "", NOW, second)["attempts"] == 1


@pytest.mark.parametrize("outcome", ["Passed", "Failed"])
def test_what_was_found_stands_while_runs_come_to_nothing(outcome: Any) -> None:
    """Else who evicts a test's pod closes a gate, or opens one."""
    found = attack("Withstood" if outcome == "Passed" else "Succeeded")
    before = security_test_status(REQUEST, report(outcome, found), "", NOW - timedelta(days=2))
    status: dict[str, Any] = before
    for attempts in range(1, 10):
        status = errored_status(REQUEST, "evicted", "", NOW + timedelta(hours=attempts), status)
        assert (status["attempts"], status["stands"]["finishedAt"]) == (attempts, before["finishedAt"])
        assert SecurityTestStatus.model_validate(status).stands is not None
        assert len(str(status)) < 1000, "it does not grow"
        assert known(status).gated is (outcome == "Failed")
    told = known(status).told(NOW)
    assert told[1] == {"Passed": "Passed", "Failed": "AttackSucceeded"}[outcome]
    assert f"{before['finishedAt']}: " in told[2]
    assert "2026-06-10T21:00:00Z came to nothing: evicted; it is tried again from 2026-06-11T03:00:00Z on" in told[2]
    assert replace(known(status), now="Job x runs").told(NOW)[2].endswith("came to nothing: evicted; Job x runs")
    assert known(status, max_age_days=1).told(NOW)[1] == ("TestTooOld" if outcome == "Passed" else "AttackSucceeded")
    decided = following(security_test_status(REQUEST, report("Failed", attack("Succeeded")), "", NOW), status)
    assert ("stands" in decided, known(decided).gated) == (False, True)


def test_nothing_stands_of_another_model_or_suite_and_no_pass_is_of_the_future() -> None:
    passed = security_test_status(REQUEST, report("Passed", attack()), "", NOW + timedelta(days=900))
    for other in ({"subject": "d" * 64}, {"suite": "other"}):
        request = msgspec.structs.replace(REQUEST, **other)
        assert "stands" not in errored_status(request, "evicted", "", NOW, passed)
    errored = errored_status(REQUEST, "evicted", "", NOW, passed)
    assert errored["stands"]["finishedAt"] == errored["finishedAt"], "else it were never too old"
    first = errored_status(REQUEST, "evicted", "", NOW, None)
    assert "stands" not in errored_status(REQUEST, "evicted", "", NOW, first)


def test_rules_go_by_the_age_of_the_pass_that_stands() -> None:
    stands = {"outcome": "Passed", "finishedAt": "2026-06-03T11:00:00Z"}
    test = known(last("Errored", attempts=1, stands=stands))
    seen = observations({"metadata": {}}, [], NOW, test=test.standing)["securityTest"]
    assert seen == {"outcome": "Passed", "ageDays": 8}
    assert known(last("Errored")).standing == last("Errored"), "and where none does, by what came of the last run"


@pytest.mark.parametrize(
    ("test", "gated", "status", "reason", "message"),
    [
        (LastTest(), False, "Unknown", "NotRequested", "no security test"),
        (known(), True, "Unknown", "NotRun", "has run yet"),
        (replace(known(), now="Job x runs"), True, "Unknown", "NotRun", "; Job x runs"),
        (known(gates=False), False, "Unknown", "NotRun", "has run yet"),
        (known(last(withstood=9)), False, "True", "Passed", "9 attacks withstood"),
        (known(last(subject="c" * 64)), True, "False", "TestMissing", "is not what there is now"),
        (
            known(last("Failed", succeeded=["bypass.no-token"], message="Close it.")),
            True,
            "False",
            "AttackSucceeded",
            "attacks that succeeded: bypass.no-token. Fix: Close it.",
        ),
        (known(last("Errored", message="no answer")), True, "False", "TestErrored", "no answer"),
        # How old it may be, the rule TST-004 judges: it withholds where the policy gates.
        (known(last(ago=timedelta(days=8)), max_age_days=7), False, "False", "TestTooOld", "older than the 7 days"),
        (known(last("Failed"), gates=False), False, "False", "AttackSucceeded", "see the report"),
    ],
)  # fmt: skip
def test_what_is_said_of_it(test: LastTest, gated: bool, status: str, reason: str, message: str) -> None:
    found = test.told(NOW)
    assert found[:2] == (status, reason)
    assert message in found[2]
    assert test.gated is gated


def test_an_event_a_run() -> None:
    def news(before: Any, after: Any) -> list[tuple[str, str]]:
        wrapped = [{"conditions": [], **({"lastSecurityTest": one} if one else {})} for one in (before, after)]
        return [(one.reason, one.message) for one in status_news(*wrapped)]

    failed = last("Failed", run="1", succeeded=["bypass.no-token"], message="Close it.")
    assert news(None, failed) == [
        ("SecurityTestFailed", "suite baseline: attacks that succeeded: bypass.no-token. Fix: Close it.")
    ]
    assert news(failed, failed) == []
    assert [one for one, _ in news(failed, last(run="2"))] == ["SecurityTestPassed"]
    assert [one for one, _ in news(failed, last("Errored", run="2"))] == ["SecurityTestErrored"]
    assert [one for one, _ in news(failed, {**failed, "run": "3"})] == ["SecurityTestFailed"]
