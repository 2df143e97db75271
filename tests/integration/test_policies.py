"""Policies, reports and the backstop's refusals against a real API server, with the rights that the chart gives."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.controller.backstop import CONFIG_MAP, Backstop
from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.controller.installation import Installation
from modelward.controller.operator import Operator
from modelward.controller.policies import Policies
from modelward.controller.reports import Reports
from modelward.planner.names import KubeObject
from modelward.planner.protection_policy import protection_policies
from modelward.planner.report import MAX_BYTES, NAME, Broken, Judged
from modelward.rules.admission_policy import catalogue_policies
from tests.integration.apiserver import ApiServer, Result, started
from tests.integration.test_controller import (
    IMAGE,
    KEYS,
    SYSTEM,
    Counting,
    as_controller,
    controller_process,
    model,
    namespace,
    rights,
)

pytestmark = pytest.mark.timeout(300)

PLACE = "policed"
STRICT: dict[str, Any] = {"require": {"encryption": {"inTransit": "MutualTLS"}}}
GOOD = {"id": "OWN-001", "expression": "object.spec.replicas > 1 // two", "message": "'one pod' // of two"}
# Google's CEL reverses strings, Kubernetes' only lists.
FOREIGN = {"id": "OWN-002", "expression": "object.metadata.name.reverse() != 'x'", "message": "'x'"}
NOT_CEL = {"id": "OWN-003", "expression": "object.spec.replicas >", "message": "'more'"}
MISSPELT = {"id": "OWN-004", "expression": "!has(object.spec.replica) || object.spec.replica > 1", "message": "'m'"}


def placed(item: KubeObject) -> KubeObject:
    return {**item, "metadata": {**item["metadata"], "namespace": PLACE}}


def policy(name: str, **spec: Any) -> KubeObject:
    metadata = {"name": name, "namespace": PLACE}
    return {"apiVersion": "modelward.io/v1alpha1", "kind": "DataPolicy", "metadata": metadata, "spec": spec}


def exception(ends: datetime, name: str = "legacy") -> dict[str, Any]:
    expires = ends.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"rules": ["ENC-001", "ENC-002"], "names": [name], "reason": "old", "approvedBy": "lee", "expires": expires}


@pytest.fixture(scope="module")
def place(apiserver: ApiServer, bin_dir: Path) -> Iterator[ApiServer]:
    lax = {"apiVersion": "modelward.io/v1alpha1", "kind": "ClusterDataPolicy", "metadata": {"name": "lax"}, "spec": {}}
    objects = [namespace(SYSTEM), namespace(PLACE), placed(KEYS), lax, *rights(bin_dir)]
    result = apiserver.apply(*objects)
    assert result.ok, result.stderr
    yield apiserver
    apiserver.delete(*objects)


@pytest.fixture
async def cluster(place: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    async with as_controller(place, monkeypatch) as connected:
        connected.forget()
        yield connected
    place.kubectl("delete", "modeldeployment,datapolicy,events", "-n", PLACE, "--all", "--wait=false")
    kinds = "validatingadmissionpolicies,validatingadmissionpolicybindings"
    place.kubectl("delete", kinds, "-l", "app.kubernetes.io/component=custom-rules")


class Clock:
    """The time, which can be moved."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def policies(cluster: Cluster, clock: Clock) -> Policies:
    return Policies(cluster, Recorder(cluster, clock), list, clock)


def apply(server: ApiServer, *manifests: KubeObject) -> None:
    result = server.apply(*manifests)
    assert result.ok, result.stderr


def conditions(server: ApiServer, name: str, kind: str = "datapolicy") -> dict[str, tuple[str, str, str]]:
    status = server.get(kind, name, "-n", PLACE).get("status", {})
    return {item["type"]: (item["status"], item["reason"], item["message"]) for item in status.get("conditions", ())}


def events(server: ApiServer, reason: str, where: str = PLACE) -> list[KubeObject]:
    return [item for item in server.get("events", "-n", where)["items"] if item["reason"] == reason]


def compiled(server: ApiServer) -> list[KubeObject]:
    labels = "app.kubernetes.io/component=custom-rules"
    items: list[KubeObject] = server.get("validatingadmissionpolicies", "-l", labels)["items"]
    return items


def refusal(server: ApiServer, item: KubeObject, seconds: float = 20) -> str:
    """Wait until the API server refuses an object, and return what it says."""
    deadline = time.monotonic() + seconds
    while (result := server.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(item))).ok:
        assert time.monotonic() < deadline, "let in"
        time.sleep(0.2)
    return result.stderr


async def wait_for(what: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(what):
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.2)


async def test_one_invalid_rule_is_told_and_the_others_stay_in_force(
    cluster: Counting, policies: Policies, place: ApiServer
) -> None:
    apply(place, policy("own", rules=[FOREIGN, GOOD]))
    await policies.reconcile("DataPolicy", PLACE, "own")
    told = conditions(place, "own")
    assert told["Ready"][:2] == told["RulesValid"][:2] == ("False", "InvalidRule")
    assert "spec.rules[0].expression (OWN-002) is not taken by the API server" in told["Ready"][2]
    said = ("found no matching overload", "undeclared reference to 'reverse'")  # which of them depends on the version
    assert any(text in told["Ready"][2] for text in said)
    (event,) = events(place, "InvalidRule")
    assert event["involvedObject"]["name"] == "own"
    one_pod = placed(model("single", replicas=1))
    assert "OWN-001 spec: one pod" in await asyncio.to_thread(refusal, place, one_pod)
    assert place.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(placed(model("twice")))).ok

    cluster.forget()
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert cluster.writes == [], "neither written nor offered to the API server again"

    apply(place, policy("own", rules=[FOREIGN]))
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert compiled(place) == [], "what is not asked any more is not enforced any more"
    apply(place, policy("own", rules=[GOOD]))
    await policies.reconcile("DataPolicy", PLACE, "own")
    assert conditions(place, "own")["RulesValid"][:2] == ("True", "Compiled")


async def test_a_rule_that_is_not_cel_refuses_as_the_webhook_does(policies: Policies, place: ApiServer) -> None:
    apply(place, policy("slip", rules=[NOT_CEL, {**GOOD, "id": "OWN-005"}]))
    await policies.reconcile("DataPolicy", PLACE, "slip")
    assert "spec.rules[0].expression (OWN-003) is not valid CEL" in conditions(place, "slip")["Ready"][2]
    said = await asyncio.to_thread(refusal, place, placed(model("any")))
    assert "OWN-003 spec: the rule could not be evaluated" in said


async def test_a_rule_whose_message_alone_is_refused_stays_in_force(policies: Policies, place: ApiServer) -> None:
    apply(place, policy("mute", rules=[{**GOOD, "message": "object.metadata.name.reverse() + 'x'"}]))
    await policies.reconcile("DataPolicy", PLACE, "mute")
    told = conditions(place, "mute")["RulesValid"][2]
    assert "spec.rules[0].message (OWN-001) is not taken by the API server" in told
    said = await asyncio.to_thread(refusal, place, placed(model("single", replicas=1)))
    assert "OWN-001 spec: what was found cannot be shown" in said


async def test_what_the_type_checker_doubts_is_told(policies: Policies, place: ApiServer) -> None:
    """The type checker is one of Kubernetes' own controllers, beside the API server."""
    apply(place, policy("typed", rules=[FOREIGN, MISSPELT, GOOD]))
    assert await policies.reconcile("DataPolicy", PLACE, "typed") == pytest.approx(5)
    with place.controllers("validatingadmissionpolicy-status-controller"):
        await wait_for(lambda: all("observedGeneration" in item.get("status", {}) for item in compiled(place)))
    await policies.reconcile("DataPolicy", PLACE, "typed")
    told = conditions(place, "typed")["RulesValid"][2]
    assert "spec.rules[1].expression (OWN-004) is doubted by the type checker: undefined field 'replica'" in told
    assert "OWN-002" in told
    assert "OWN-001" not in told
    apply(place, policy("typed", rules=[GOOD]))
    await policies.reconcile("DataPolicy", PLACE, "typed")
    assert conditions(place, "typed")["RulesValid"][:2] == ("True", "Compiled")


async def test_exceptions_are_projected_warned_of_and_told_when_they_end(
    cluster: Counting, policies: Policies, place: ApiServer, clock: Clock
) -> None:
    apply(place, policy("lenient", exceptions=[exception(datetime.now(UTC) + timedelta(days=8))]))
    again = await policies.reconcile("DataPolicy", PLACE, "lenient")
    assert again == pytest.approx(86400, abs=5)
    (active,) = place.get("datapolicy", "lenient", "-n", PLACE)["status"]["activeExceptions"]
    assert (active["reason"], active["approvedBy"], active["names"]) == ("old", "lee", ["legacy"])
    assert '{policy="DataPolicy/policed/lenient"}' in policies.metrics()["modelward_exceptions_active"][1]
    cluster.forget()
    await policies.reconcile("DataPolicy", PLACE, "lenient")
    assert cluster.writes == []
    for ahead, reason in ((timedelta(days=1, seconds=2), "ExceptionEnding"), (timedelta(days=9), "ExceptionExpired")):
        assert events(place, reason) == []
        clock.ahead = ahead
        await policies.reconcile("DataPolicy", PLACE, "lenient")
        (event,) = events(place, reason)
        assert "for legacy, approved by lee" in event["message"]
        cluster.forget()
        await policies.reconcile("DataPolicy", PLACE, "lenient")
        assert cluster.writes == []
    assert place.get("datapolicy", "lenient", "-n", PLACE)["status"]["activeExceptions"] == []


async def test_an_eleventh_policy_is_told_of(policies: Policies, place: ApiServer) -> None:
    apply(place, *(policy(f"many-{index}") for index in range(11)))
    await policies.reconcile("DataPolicy", PLACE, "many-3")
    assert conditions(place, "many-3")["TooManyPolicies"][:2] == ("True", "LimitExceeded")


@pytest.fixture(scope="module")
def open_reports(place: ApiServer) -> Iterator[None]:
    """The OpenReports kind, as far as it is used here; its published CRD has the same fields and more."""
    apply(place, REPORT_CRD)
    waited = place.kubectl("wait", "--for=condition=Established", "crd/reports.openreports.io", "--timeout=30s")
    assert waited.ok, waited.stderr
    deadline = time.monotonic() + 30
    while not place.kubectl("get", "reports", "-A").ok:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield
    place.delete(REPORT_CRD)


RESULT = {
    "type": "object",
    "required": ["policy"],
    "properties": {
        **{name: {"type": "string"} for name in ("policy", "rule", "message", "source", "category")},
        "result": {"type": "string", "enum": ["pass", "fail", "warn", "error", "skip"]},
        "severity": {"type": "string", "enum": ["critical", "high", "low", "medium", "info"]},
        "scored": {"type": "boolean"},
        "properties": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
REPORT_CRD: KubeObject = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "reports.openreports.io"},
    "spec": {
        "group": "openreports.io",
        "scope": "Namespaced",
        "names": {"kind": "Report", "listKind": "ReportList", "plural": "reports", "singular": "report"},
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "source": {"type": "string"},
                            "scope": {
                                "type": "object",
                                "properties": {name: {"type": "string"} for name in ("apiVersion", "kind", "name")},
                            },
                            "summary": {
                                "type": "object",
                                "properties": {
                                    name: {"type": "integer"} for name in ("pass", "fail", "warn", "error", "skip")
                                },
                            },
                            "results": {"type": "array", "items": RESULT},
                        },
                    }
                },
            }
        ],
    },
}


async def test_without_the_kind_the_controller_says_so_once(
    cluster: Counting, place: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    reports = Reports(cluster, lambda: now)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        await reports.reconcile(PLACE, {"m": Judged()})
        now += 61
    assert [one.message for one in caplog.records if "CRD is not installed" in one.message] == [
        "Reports of openreports.io/v1alpha1 are not kept: the CRD is not installed"
    ]
    assert reports.metrics()["modelward_reports_available"][1] == {"": 0.0}
    assert cluster.writes == []


@pytest.mark.usefixtures("open_reports")
async def test_a_report_a_namespace_small_and_written_only_when_it_changes(cluster: Counting, place: ApiServer) -> None:
    reports = Reports(cluster)
    rules = tuple(Broken(f"DataPolicy/{PLACE}/p", f"ABC-{number:03}", "fail", "high", "t" * 80) for number in range(50))
    many = {f"model-{index:03}": Judged(broken=rules, passed=2) for index in range(500)}
    await reports.reconcile(PLACE, many)
    there = place.get("reports", "-n", PLACE, "--show-managed-fields")["items"]
    assert [item["metadata"]["name"] for item in there] == [NAME]
    assert len(json.dumps(there[0], separators=(",", ":")).encode()) <= MAX_BYTES
    assert there[0]["summary"] == {"pass": 1000, "fail": 25_000, "warn": 0, "error": 0, "skip": 0}
    assert sum(int(one["properties"]["count"]) for one in there[0]["results"]) == 25_000

    cluster.forget()
    await reports.reconcile(PLACE, many)
    assert cluster.writes == []
    assert await reports.namespaces() == [PLACE]
    await reports.reconcile(PLACE, {})
    assert place.get("reports", "-n", PLACE)["items"] == []
    cluster.forget()
    await reports.reconcile(PLACE, {})
    assert cluster.writes == []


class Running:
    """The operator without kopf: the API server's objects are shown to it by hand."""

    def __init__(self, cluster: Cluster, server: ApiServer) -> None:
        self.operator = Operator(cluster, Installation(cluster, SYSTEM, IMAGE), resync_seconds=3600)
        self.server = server

    def look(self) -> None:
        for kind in ("ModelDeployment", "DataPolicy"):
            for item in self.server.get(kind.lower(), "-n", PLACE)["items"]:
                self.operator.saw(kind, item, gone=False)

    def report(self) -> KubeObject:
        items = self.server.get("reports", "-n", PLACE)["items"]
        return items[0] if items else {}


@pytest.fixture
async def running(
    cluster: Cluster, place: ApiServer, open_reports: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    monkeypatch.setattr("modelward.controller.operator._SETTLING_SECONDS", 0.5)
    running = Running(cluster, place)
    await running.operator.prepare()
    tasks = [asyncio.ensure_future(work) for work in running.operator.work()]
    yield running
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_policy_tightened_later_is_told_in_condition_event_and_report(
    running: Running, place: ApiServer
) -> None:
    apply(place, placed(model("runs")), policy("tightened"))
    running.look()
    await wait_for(lambda: conditions(place, "runs", "modeldeployment").get("PolicyCompliant", ("",))[0] == "True")
    await wait_for(lambda: running.report().get("summary", {}).get("fail") == 0)
    apply(place, policy("tightened", **STRICT))
    running.look()
    await wait_for(lambda: conditions(place, "runs", "modeldeployment")["PolicyCompliant"][1] == "PolicyViolation")
    await wait_for(lambda: running.report()["summary"]["fail"] == 1)
    (result,) = running.report()["results"]
    assert (result["policy"], result["result"]) == (f"DataPolicy/{PLACE}/tightened", "fail")
    await wait_for(lambda: len(events(place, "PolicyViolation")) == 1)
    assert place.get("deployment", "runs", "-n", PLACE)["spec"]["replicas"] == 2, "kept running"
    await wait_for(lambda: place.get("datapolicy", "tightened", "-n", PLACE)["status"]["violations"] == 1)
    metrics = running.operator.metrics()
    assert sum(metrics["modelward_policy_violations"][1].values()) == 1
    assert metrics["modelward_reports_available"][1] == {"": 1.0}

    apply(place, policy("tightened", onViolation="Stop", **STRICT))
    running.look()
    await wait_for(lambda: place.get("deployment", "runs", "-n", PLACE)["spec"]["replicas"] == 0)
    await wait_for(lambda: len(events(place, "ModelStopped")) == 1)

    gone = place.get("modeldeployment", "runs", "-n", PLACE)
    assert place.kubectl("delete", "modeldeployment", "runs", "-n", PLACE).ok
    running.operator.saw("ModelDeployment", gone, gone=True)
    await wait_for(lambda: running.report() == {})


async def test_what_an_exception_excused_is_judged_again_when_it_ends(running: Running, place: ApiServer) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=15)
    apply(place, placed(model("legacy")), policy("lenient", exceptions=[exception(ends)], **STRICT))
    running.look()
    await wait_for(lambda: conditions(place, "legacy", "modeldeployment").get("PolicyCompliant", ("",))[0] == "True")
    await wait_for(lambda: len(place.get("datapolicy", "lenient", "-n", PLACE)["status"]["activeExceptions"]) == 1)
    running.look()

    def judged_again() -> bool:
        running.look()  # the policy's status is heard of, as by a watch
        return conditions(place, "legacy", "modeldeployment")["PolicyCompliant"][1] == "PolicyViolation"

    await wait_for(judged_again)
    assert (datetime.now(UTC) - ends).total_seconds() < 60
    (event,) = events(place, "ExceptionExpired")
    assert event["involvedObject"]["name"] == "lenient"


@pytest.mark.usefixtures("open_reports", "cluster")
async def test_the_process_does_all_of_it(place: ApiServer, tmp_path: Path) -> None:
    def scraped(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def judged(name: str) -> str:
        return conditions(place, name, "modeldeployment").get("PolicyCompliant", ("", "", ""))[1]

    ends = datetime.now(UTC) + timedelta(seconds=45)
    apply(place, placed(model("legacy")), policy("lenient", exceptions=[exception(ends)], **STRICT))
    with controller_process(place, tmp_path) as (process, port):
        await wait_for(lambda: judged("legacy") == "Compliant")
        await wait_for(lambda: scraped("modelward_exceptions_active") == 1)
        await wait_for(lambda: len(events(place, "ExceptionExpired")) == 1, 120)
        await wait_for(lambda: judged("legacy") == "PolicyViolation")
        assert (datetime.now(UTC) - ends).total_seconds() < 60
        await wait_for(lambda: place.kubectl("get", "report", NAME, "-n", PLACE).ok)
        await wait_for(lambda: place.get("report", NAME, "-n", PLACE)["summary"]["fail"] == 1)
        assert scraped("modelward_policy_violations") == 1
        assert scraped("modelward_exceptions_active") == 0
        assert scraped("modelward_reports_written_total") >= 1
        assert scraped("modelward_backstop_watched") == 1
        assert place.kubectl("get", "configmap", CONFIG_MAP, "-n", SYSTEM).ok
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0


async def test_refusals_by_the_backstop_alone_are_found_afterwards(
    cluster: Counting, place: ApiServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(cluster)
    backstop = Backstop(cluster, recorder, SYSTEM, clock)
    objects = [item for item in catalogue_policies() if item["metadata"]["name"] == "modelward-namespace-enforce"]
    apply(place, *objects, policy("strict", **STRICT))
    try:
        await backstop.reconcile()
        before = backstop.metrics()["modelward_backstop_refusals_total"][1].copy()
        item = placed(model("unsafe"))
        await asyncio.to_thread(refusal, place, item)
        for _ in range(3):
            assert not place.kubectl("create", "-f", "-", input=yaml.safe_dump(item)).ok
        await backstop.reconcile()
        label = '{policy="modelward-namespace-enforce"}'
        rose = backstop.metrics()["modelward_backstop_refusals_total"][1][label] - before.get(label, 0)
        assert rose >= 4
        told = [
            event for event in events(place, "PolicyViolation", "default") if "namespace-enforce" in event["message"]
        ]
        (event,) = told
        assert event["involvedObject"]["kind"] == "ValidatingAdmissionPolicy"
        assert "no details are known here" in event["message"]
        assert "the webhook" in event["message"]

        cluster.forget()
        await backstop.reconcile()
        assert cluster.writes == []
        again = Backstop(cluster, recorder, SYSTEM, clock)  # a restart
        await again.reconcile()
        assert cluster.writes == [], "what was told is not told again"
        assert again.metrics() == backstop.metrics()

        assert not place.kubectl("create", "-f", "-", input=yaml.safe_dump(item)).ok
        await again.reconcile()
        (event,) = [one for one in events(place, "PolicyViolation", "default") if "namespace-enforce" in one["message"]]
        assert event["count"] == 2, "one Event, however often"
        assert place.get("configmap", CONFIG_MAP, "-n", SYSTEM)["data"].keys() == {"known.json"}
    finally:
        place.delete(*objects)


async def test_without_the_right_to_read_metrics_the_controller_says_so_once(
    place: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(place.kubeconfig_for("alice-token")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert place.kubectl("create", "role", "reads", "-n", SYSTEM, "--verb=get", "--resource=configmaps").ok
    assert place.kubectl("create", "rolebinding", "reads", "-n", SYSTEM, "--role=reads", "--user=alice").ok
    try:
        async with Cluster.connected() as connected:
            backstop = Backstop(connected, Recorder(connected), SYSTEM)
            await wait_for(lambda: place.kubectl("auth", "can-i", "get", "cm", "-n", SYSTEM, token="alice-token").ok)
            for _ in range(2):
                await backstop.reconcile()
        assert backstop.metrics()["modelward_backstop_watched"][1] == {"": 0.0}
        (said,) = [one.message for one in caplog.records if "metrics may not be read" in one.message]
        assert "backstop.watchRefusals=false" in said
    finally:
        place.kubectl("delete", "role,rolebinding", "reads", "-n", SYSTEM)


DENYING: list[KubeObject] = [
    {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "modelward-test"},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ]
            },
            "matchConditions": [{"name": "named", "expression": "object.metadata.name == 'refused'"}],
            "validations": [{"expression": "false", "message": "no"}],
        },
    },
    {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "modelward-test"},
        "spec": {"policyName": "modelward-test", "validationActions": ["Deny"]},
    },
]
REFUSED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "refused", "namespace": "default"}}


async def test_refusals_of_several_api_servers_and_across_a_restart(
    bin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def total(backstop: Backstop) -> float:
        return sum(backstop.metrics()["modelward_backstop_refusals_total"][1].values())

    server = await asyncio.to_thread(started, bin_dir)
    try:
        await asyncio.to_thread(apply, server, namespace(SYSTEM), *DENYING)
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        async with Cluster.connected() as cluster:
            backstop = Backstop(cluster, Recorder(cluster), SYSTEM)
            await asyncio.to_thread(refusal, server, REFUSED, 60)
            await backstop.reconcile()
            by_one = total(backstop)
            assert by_one >= 1
            with server.twin() as second:
                await asyncio.to_thread(refusal, second, REFUSED, 60)
                # API servers publish no address of the loopback network, so these are given by hand.
                urls = [server.url, second.url]
                monkeypatch.setattr("modelward.controller.backstop.addresses", lambda _: [*urls, "https://127.0.0.1:1"])
                await backstop.reconcile()
            by_both = total(backstop)
            assert by_both > by_one, "each counts for itself"
        await asyncio.to_thread(server.restart)
        async with Cluster.connected() as cluster:
            again = Backstop(cluster, Recorder(cluster), SYSTEM)
            await asyncio.to_thread(refusal, server, REFUSED, 60)
            await again.reconcile()
            assert total(again) > by_both, "the counter began anew, what was found did not"
    finally:
        server.stop()


async def test_baseline_is_not_hollowed_out(place: ApiServer) -> None:
    baseline = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ClusterDataPolicy",
        "metadata": {"name": "baseline"},
        "spec": {"enforcement": "Audit"},
    }
    (guard,) = [one for one in protection_policies() if one.name == "modelward-baseline"]
    role = "rbac.authorization.k8s.io"
    verbs = ["get", "list", "create", "update", "patch"]
    subjects = [{"apiGroup": role, "kind": "User", "name": "bob"}]
    reference = {"apiGroup": role, "kind": "ClusterRole", "name": "policy-editor"}
    grants: list[KubeObject] = [
        {
            "apiVersion": f"{role}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "policy-editor"},
            "rules": [{"apiGroups": ["modelward.io"], "resources": ["clusterdatapolicies"], "verbs": verbs}],
        },
        {
            "apiVersion": f"{role}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "policy-editor"},
            "roleRef": reference,
            "subjects": subjects,
        },
    ]
    apply(place, baseline, *guard.manifests(), *grants)
    hollow = {**baseline, "spec": {"enforcement": "Audit", "namespaceSelector": {"matchLabels": {"no": "where"}}}}

    def changed() -> Result:
        return place.apply(hollow, token="bob-token", server_side=False)

    try:
        deadline = time.monotonic() + 60
        while (result := await asyncio.to_thread(changed)).ok:
            assert time.monotonic() < deadline, "changed without the verb unprotect"
            apply(place, baseline)
            await asyncio.sleep(0.2)
        assert "put stricter demands into a ClusterDataPolicy of your own" in result.stderr
        labelled = {**baseline, "metadata": {"name": "baseline", "labels": {"team": "x"}}}
        assert place.apply(labelled, token="bob-token", server_side=False).ok, "the spec is as it was"
        grants[0]["rules"][0]["verbs"].append("unprotect")
        apply(place, grants[0])
        await wait_for(lambda: changed().ok)
    finally:
        place.delete(baseline, *guard.manifests(), *grants)
