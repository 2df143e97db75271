"""Security tests in the cluster: the controller and the Job's own program against a real API server.

Nobody starts pods here, so the test is the kubelet: it has the Deployment ready, makes the Job's pod as the Job
controller would, and runs what the pod would run, with the files that it would mount. What stands in for
`modelward attack` is a report that is given.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from modelward import securitytest
from modelward.attack import report as reports
from modelward.attack.report import AttackReport, SecurityTestReport
from modelward.cli import security_test_job
from modelward.controller.installation import Installation
from modelward.controller.models import Models
from modelward.controller.security_tests import Loaded, SecurityTests
from modelward.planner.names import KubeObject
from modelward.planner.sidecar import JOB_FOR_LABEL, JOB_LABEL
from modelward.securitytest import Errand
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    IMAGE,
    PLACE,
    SYSTEM,
    Controller,
    apply,
    cluster,
    controller,
    model,
    place,
    policy,
)
from tests.integration.test_fits import JOBS_IMAGE
from tests.ports import free_port

pytestmark = pytest.mark.timeout(300)

Told = dict[str, tuple[str, str]]


def report(outcome: Any, *attacks: tuple[str, Any], suite: str = "baseline") -> bytes:
    return reports.write(
        SecurityTestReport(
            suite=suite,
            target="https://m",
            model="m",
            started_at="2026-01-01T00:00:00Z",
            finished_at="2099-01-01T00:00:00Z",
            requests=7,
            outcome=outcome,
            attacks=tuple(
                AttackReport(id=name, title="It holds", outcome=came, severity="high", fix="Close it.")
                for name, came in attacks
            ),
        )
    )


PASSED = report("Passed", ("bypass.no-token", "Withstood"))
FAILED = report("Failed", ("bypass.no-token", "Withstood"), ("extraction.synthetic", "Succeeded"))


class Testing:
    """The controller, and the node that would run its Jobs."""

    __test__ = False

    def __init__(self, made: Controller, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.controller, self.server, self.folder = made, made.server, folder
        self.port = free_port()
        self.answers: list[bytes | Exception] = []
        self.errands: list[Errand] = []
        self.threads: list[threading.Thread] = []
        self.failures: list[str] = []
        monkeypatch.setattr(security_test_job, "attack", self._attack)
        made.installation = Installation(made.cluster, SYSTEM, IMAGE, made.clock, jobs_image=JOBS_IMAGE)
        self.tests = SecurityTests(made.cluster, made.have, self, made.clock, self.port)
        self.stale = False

    def _attack(self, errand: Errand, _: Path) -> bytes:
        self.errands.append(errand)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    # --- as the sidecars are asked

    async def loaded(self, raw: KubeObject) -> list[Loaded]:
        document = self.configuration(raw["metadata"]["name"])
        return [Loaded("127.0.0.1", "" if self.stale else hashlib.sha256(document.encode()).hexdigest())]

    async def authorities(self, _: KubeObject) -> bytes:
        return self.controller.have().authority.bundle

    # ---

    def configuration(self, name: str) -> str:
        return str(self.server.get("configmap", f"{name}-sidecar", "-n", PLACE)["data"]["config.json"])

    async def reconcile(self, name: str) -> Told:
        made = self.controller
        made.installed = await made.installation.reconcile()
        await Models(made.cluster, made.recorder, made.have, made.clock, tests=self.tests).reconcile(PLACE, name)
        return {kind: (one["status"], one["reason"]) for kind, one in self.conditions(name).items()}

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return found

    def conditions(self, name: str) -> dict[str, Any]:
        return {item["type"]: item for item in self.status(name)["conditions"]}

    def made(self, name: str) -> dict[str, KubeObject]:
        listed = self.server.get("service,networkpolicy", "-n", PLACE, "-l", f"modelward.io/model={name}")["items"]
        return {item["kind"]: item for item in listed if item["metadata"]["name"] == name}

    def open(self, name: str) -> bool:
        """Whether callers get in: by the Service, and by the NetworkPolicy."""
        made = self.made(name)
        service = "modelward.io/withheld" not in made["Service"]["spec"]["selector"]
        policy_ = "from" not in made["NetworkPolicy"]["spec"]["ingress"][0]
        assert service == policy_, "the two say otherwise"
        return service

    def jobs(self, name: str) -> list[KubeObject]:
        found = self.server.get("job", "-n", PLACE, "-l", f"modelward.io/model={name}")["items"]

        def order(job: KubeObject) -> tuple[str, bool]:  # of two of one second, the one that has ended comes first
            return str(job["metadata"]["creationTimestamp"]), not job.get("status", {}).get("conditions")

        return sorted(found, key=order)

    def patch(self, kind: str, name: str, status: Any) -> None:
        what = (kind, name, "-n", PLACE, "--subresource=status", "--type=merge")
        result = self.server.kubectl("patch", *what, "-p", json.dumps({"status": status}))
        assert result.ok, result.stderr

    def serve(self, name: str) -> None:
        """Be the Deployment's controller, with all pods ready."""
        made = self.server.get("deployment", name, "-n", PLACE)
        count = made["spec"]["replicas"]
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        self.patch("deployment", name, {"observedGeneration": made["metadata"]["generation"], **counts})

    def pod(self, job: KubeObject, **spec: Any) -> None:
        """Be the Job controller and the kubelet."""
        template = job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "controller": True}
        owner |= {key: job["metadata"][key] for key in ("name", "uid")}
        labels = {**template["metadata"]["labels"], "batch.kubernetes.io/job-name": owner["name"]}
        metadata = {"name": f"{owner['name']}-x", "namespace": PLACE, "labels": labels, "ownerReferences": [owner]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], **spec}}
        apply(self.server, json.loads(json.dumps(pod)))
        self.patch("pod", metadata["name"], {"phase": "Running", "podIP": "127.0.0.1"})

    def start(self, name: str, answer: bytes | Exception) -> threading.Thread:
        job = self.jobs(name)[-1]
        self.answers.append(answer)
        self.pod(job)
        mounted = self.folder / job["metadata"]["name"]
        mounted.mkdir()
        data = self.server.get("secret", f"{name}.security-test", "-n", PLACE)["data"]
        for file, content in data.items():
            (mounted / file).write_bytes(base64.b64decode(content))
        (container,) = job["spec"]["template"]["spec"]["containers"]
        given = dict(one.removeprefix("--").split("=", 1) for one in container["args"])
        options = argparse.Namespace(tls=mounted, config_key=given["config-key"], model=given["model"], port=self.port)

        def run() -> None:
            try:
                security_test_job.run(options)
            except security_test_job.SecurityTestJobError as error:
                self.failures.append(str(error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)
        return thread

    def ended(self, name: str, kind: str, message: str = "") -> None:
        """Be the Job controller once its pod has ended."""
        job, now = self.jobs(name)[-1], "2026-01-01T00:00:00Z"
        if message:
            ended = {"exitCode": 1, "message": message}
            state = {"name": "attack", "image": "i", "imageID": "i", "ready": False, "restartCount": 0}
            state |= {"state": {"terminated": ended}}
            self.patch("pod", f"{job['metadata']['name']}-x", {"phase": "Failed", "containerStatuses": [state]})
        kinds = ("SuccessCriteriaMet", "Complete") if kind == "Complete" else ("FailureTarget", "Failed")
        told = [
            {"type": one, "status": "True", "reason": "r", "message": "m", "lastTransitionTime": now} for one in kinds
        ]
        more = {"completionTime": now, "succeeded": 1} if kind == "Complete" else {"failed": 1}
        self.patch("job", job["metadata"]["name"], {"conditions": told, "startTime": now, **more})

    async def until(self, name: str, holds: Callable[[Told], bool]) -> Told:
        deadline = time.monotonic() + 60
        while not holds(told := await self.reconcile(name)):
            assert time.monotonic() < deadline, (self.conditions(name)["SecurityTested"], self.failures)
            await asyncio.sleep(0.2)
        return told

    async def begun(self, name: str, **test: Any) -> None:
        """A model whose pods are ready, and whose first test has its Job."""
        apply(self.server, model(name, securityTest={"suite": "baseline", **test}))
        await self.reconcile(name)
        self.serve(name)
        await self.reconcile(name)
        assert len(self.jobs(name)) == 1


@pytest.fixture
def testing(
    controller: Controller,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Testing]:
    made = Testing(controller, tmp_path, monkeypatch)
    yield made
    for kinds in ("job,pod", "networkpolicy,secret,configmap"):
        which = ("-l=modelward.io/model",) if "secret" in kinds else ("--all",)
        controller.server.kubectl("delete", kinds, "-n", PLACE, "--wait=false", "--force", *which)


def is_tested(told: Told) -> bool:
    return told["SecurityTested"][1] not in ("NotRun", "TestMissing")


async def test_a_gated_model_takes_no_caller_until_its_test_has_passed(testing: Testing) -> None:
    apply(testing.server, model("gated", securityTest={"suite": "baseline"}))
    told = await testing.reconcile("gated")
    assert told["SecurityTested"] == ("Unknown", "NotRun")
    assert told["Ready"] == ("False", "PodsNotReady")  # which is told first: a test takes pods
    assert not testing.open("gated")
    assert testing.jobs("gated") == []

    testing.serve("gated")
    testing.stale = True  # the sidecar goes by the configuration of before
    assert (await testing.reconcile("gated"))["Ready"] == ("False", "SecurityTestMissing")
    assert testing.jobs("gated") == []
    assert "latest configuration" in testing.conditions("gated")["SecurityTested"]["message"]
    testing.stale = False
    await testing.reconcile("gated")
    (job,) = testing.jobs("gated")
    assert job["spec"]["template"]["spec"]["hostAliases"][0]["ip"] == "127.0.0.1"
    await testing.reconcile("gated")
    assert len(testing.jobs("gated")) == 1, "one at a time"

    thread = testing.start("gated", PASSED)
    told = await testing.until("gated", is_tested)
    assert (told["SecurityTested"], told["Ready"]) == (("True", "Passed"), ("True", "Serving"))
    assert testing.open("gated")
    thread.join(30)
    assert not thread.is_alive()
    assert testing.failures == []
    last = testing.status("gated")["lastSecurityTest"]
    assert (last["suite"], last["outcome"], last["withstood"], last["requests"]) == ("baseline", "Passed", 1, 7)
    assert last["image"] == "wdbc@sha256:" + "b" * 64
    assert last["finishedAt"] < "2090", "what a Job says of the time counts for nothing"
    kept = testing.server.get("configmap", "gated.security-test", "-n", PLACE)
    assert reports.read(kept["data"]["report.json"].encode()).outcome == "Passed"
    (event,) = testing.controller.events("SecurityTestPassed")
    assert (event["type"], event["count"]) == ("Normal", 1)

    testing.ended("gated", "Complete")
    testing.controller.cluster.forget()
    await testing.reconcile("gated")
    assert testing.controller.cluster.writes == []
    metrics = testing.tests.metrics()
    assert metrics["modelward_security_test"][1][f'{{namespace="{PLACE}",model="gated",outcome="Passed"}}'] == 1.0


async def test_the_jobs_token_is_for_its_run_its_model_and_its_address(testing: Testing) -> None:
    await testing.begun("letsin")
    testing.start("letsin", PASSED)
    await testing.until("letsin", is_tested)
    (errand,) = testing.errands
    key = Ed25519PublicKey.from_public_bytes(testing.controller.have().signing_key.public_key().public_bytes_raw())
    for number, token in enumerate((errand.stranger, *errand.tokens)):
        shown = securitytest.check(token.encode(), key, f"{PLACE}/letsin", "127.0.0.1", time.time())
        assert (shown.run, shown.number) == (errand.request.digest[:16], number)
    assert len(errand.tokens) == securitytest.CALLERS
    assert errand.url == f"https://letsin.{PLACE}.svc:8443"
    assert errand.manifest["spec"]["model"]["image"] == "wdbc@sha256:" + "b" * 64
    config = json.loads(testing.configuration("letsin"))
    assert config["access"]["rules"][0]["subjects"] == [securitytest.SUBJECT]
    everything = json.dumps(testing.server.get("secret,configmap,job,pod,modeldeployment", "-n", PLACE))
    assert all(token not in everything for token in (errand.stranger, *errand.tokens)), "it lies in no object"


async def test_where_a_client_certificate_is_asked_for_the_test_is_brought_one(testing: Testing) -> None:
    apply(testing.server, model("mutual", encryption={"inTransit": {"mode": "MutualTLS"}}, securityTest={}))
    await testing.reconcile("mutual")
    testing.serve("mutual")
    await testing.reconcile("mutual")
    testing.start("mutual", PASSED)
    await testing.until("mutual", is_tested)
    (errand,) = testing.errands
    certificate = x509.load_pem_x509_certificate(errand.chain.encode())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["security-test.modelward.internal"]
    assert certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(hours=2)


async def test_a_model_with_a_hole_stays_closed_and_says_which_until_it_is_mended(testing: Testing) -> None:
    await testing.begun("holed")
    testing.start("holed", FAILED)
    told = await testing.until("holed", is_tested)
    assert (told["SecurityTested"], told["Ready"]) == (
        ("False", "AttackSucceeded"),
        ("False", "SecurityTestFailed"),
    )
    assert not testing.open("holed")
    assert "endpoint" not in testing.status("holed")
    assert testing.status("holed")["lastSecurityTest"]["succeeded"] == ["extraction.synthetic"]
    testing.ended("holed", "Complete")
    await testing.reconcile("holed")
    (event,) = testing.controller.events("SecurityTestFailed")
    assert event["type"] == "Warning"
    assert event["count"] == 1, "once a run"
    assert "extraction.synthetic" in event["message"]
    assert "Fix: Close it." in event["message"]
    assert len(testing.jobs("holed")) == 1

    apply(
        testing.server, model("holed", securityTest={"suite": "baseline"}, access={"rules": [{"subjects": ["user:l"]}]})
    )
    testing.serve("holed")
    told = await testing.reconcile("holed")
    assert told["SecurityTested"] == ("False", "TestMissing")
    assert len(testing.jobs("holed")) == 2
    testing.start("holed", PASSED)
    told = await testing.until("holed", is_tested)
    assert told["Ready"] == ("True", "Serving")
    assert testing.open("holed")


async def test_without_a_gate_callers_come_whatever_is_found(testing: Testing) -> None:
    await testing.begun("ungated", gate=False)
    assert testing.open("ungated")
    testing.start("ungated", FAILED)
    told = await testing.until("ungated", is_tested)
    assert (told["SecurityTested"], told["Ready"]) == (("False", "AttackSucceeded"), ("True", "Serving"))


async def test_a_test_that_comes_to_nothing_is_tried_again_later(testing: Testing) -> None:
    await testing.begun("breaks")
    job = testing.jobs("breaks")[-1]
    testing.pod(job)
    testing.ended("breaks", "Failed", "the certificate of https://breaks does not verify")
    told = await testing.reconcile("breaks")
    assert (told["SecurityTested"], told["Ready"]) == (
        ("False", "TestErrored"),
        ("False", "SecurityTestMissing"),
    )
    assert "does not verify" in testing.conditions("breaks")["SecurityTested"]["message"]
    assert testing.status("breaks")["lastSecurityTest"]["attempts"] == 1
    (event,) = testing.controller.events("SecurityTestErrored")
    assert "does not verify" in event["message"]
    assert len(testing.jobs("breaks")) == 1
    testing.controller.ahead = timedelta(seconds=70)
    await testing.reconcile("breaks")
    assert len(testing.jobs("breaks")) == 2


async def test_a_run_that_comes_to_nothing_takes_no_pass_away(testing: Testing) -> None:
    await testing.begun("evicted", schedule="0 * * * *")
    testing.start("evicted", PASSED)
    await testing.until("evicted", is_tested)
    testing.ended("evicted", "Complete")
    passed = testing.status("evicted")["lastSecurityTest"]

    testing.controller.ahead = timedelta(hours=2)
    await testing.reconcile("evicted")
    assert len(testing.jobs("evicted")) == 2, "as scheduled"
    testing.pod(testing.jobs("evicted")[-1])
    testing.ended("evicted", "Failed", "its node was drained")
    told = await testing.reconcile("evicted")
    assert (told["SecurityTested"], told["Ready"]) == (("True", "Passed"), ("True", "Serving"))
    assert testing.open("evicted")
    last = testing.status("evicted")["lastSecurityTest"]
    assert (last["outcome"], last["stands"]["finishedAt"]) == ("Errored", passed["finishedAt"])
    message = testing.conditions("evicted")["SecurityTested"]["message"]
    assert "came to nothing: " in message
    assert "its node was drained; it is tried again from" in message
    (event,) = testing.controller.events("SecurityTestErrored")
    assert "its node was drained" in event["message"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is refused"),
        (report("Passed", ("bypass.no-token", "Succeeded")), "its attacks say otherwise"),
        (report("Passed", ("bypass.no-token", "Withstood"), suite="easy"), "reports of the suite easy"),
    ],
)
async def test_a_report_that_does_not_hold_is_no_pass(testing: Testing, content: bytes, why: str) -> None:
    await testing.begun("lies")
    testing.start("lies", content)
    told = await testing.until("lies", is_tested)
    assert told["SecurityTested"] == ("False", "TestErrored")
    assert why in testing.conditions("lies")["SecurityTested"]["message"]
    assert not testing.open("lies")


async def test_neither_another_pod_nor_another_models_job_says_anything(testing: Testing) -> None:
    await testing.begun("forged")
    (job,) = testing.jobs("forged")
    other = {"name": "attack", "image": "decoy@sha256:" + "d" * 64, "command": ["python3"]}
    testing.pod(job, containers=[other])  # of this Job, by its labels and its owner, and not what the Job runs
    asked: list[str] = []
    original = testing.tests._asker.ask
    testing.tests._asker.ask = lambda whom, *rest, **more: (asked.append(whom.address), original(whom, *rest, **more))[
        1
    ]  # type: ignore[method-assign]
    await testing.reconcile("forged")
    assert asked == []

    # A report that was kept for another run, or another model, is none of this one's.
    request = json.loads(job["metadata"]["annotations"]["modelward.io/security-test-request"])
    uid = testing.server.get("modeldeployment", "forged", "-n", PLACE)["metadata"]["uid"]
    owner = {"apiVersion": "modelward.io/v1alpha1", "kind": "ModelDeployment", "name": "forged", "uid": uid}
    labels = {"app.kubernetes.io/managed-by": "modelward", "modelward.io/model": "forged"}
    metadata = {"name": "forged.security-test", "namespace": PLACE, "labels": labels}
    metadata["ownerReferences"] = [{**owner, "controller": True}]
    metadata["annotations"] = {"modelward.io/security-test-request": json.dumps({**request, "run": "another"})}
    apply(
        testing.server,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"report.json": PASSED.decode()}},
    )
    testing.ended("forged", "Complete")
    told = await testing.reconcile("forged")
    assert told["SecurityTested"] == ("False", "TestErrored")


async def test_a_controller_that_takes_over_finds_what_was_kept(testing: Testing) -> None:
    """It ended between keeping the report and saying so."""
    await testing.begun("crashed")
    testing.start("crashed", PASSED)
    await testing.until("crashed", is_tested)
    testing.ended("crashed", "Complete")
    testing.patch("modeldeployment", "crashed", {"lastSecurityTest": None})
    testing.tests = SecurityTests(
        testing.controller.cluster, testing.controller.have, testing, testing.controller.clock, testing.port
    )
    told = await testing.reconcile("crashed")
    assert told["SecurityTested"] == ("True", "Passed")
    assert len(testing.jobs("crashed")) == 1


async def test_a_job_of_the_version_before_keeps_nobody_waiting_and_closes_no_gate(testing: Testing) -> None:
    await testing.begun("upgraded")
    (before,) = testing.jobs("upgraded")
    made = testing.controller
    made.installation = Installation(made.cluster, SYSTEM, IMAGE, made.clock, jobs_image=f"{JOBS_IMAGE[:-1]}0")
    await testing.reconcile("upgraded")
    (after,) = (job for job in testing.jobs("upgraded") if job["metadata"]["name"] != before["metadata"]["name"])
    assert after["spec"]["template"]["spec"]["containers"][0]["image"].endswith("0")
    now = "2026-01-01T00:00:00Z"
    failed = [
        {"type": one, "status": "True", "reason": "r", "message": "m", "lastTransitionTime": now}
        for one in ("FailureTarget", "Failed")
    ]
    testing.patch("job", before["metadata"]["name"], {"conditions": failed, "startTime": now, "failed": 1})
    assert (await testing.reconcile("upgraded"))["SecurityTested"] == ("Unknown", "NotRun")
    assert "lastSecurityTest" not in testing.status("upgraded")


async def test_a_policys_gate_is_judged_by_its_rule_too(testing: Testing) -> None:
    asks = policy("tests", require={"securityTest": {"maxAgeDays": 7, "gate": True}}, enforcement="Enforce")
    apply(testing.server, asks)
    await testing.begun("ruled", schedule="0 3 * * *")
    assert "TST-004" in {one["rule"] for one in testing.status("ruled")["violations"]}
    testing.start("ruled", PASSED)
    told = await testing.until("ruled", is_tested)
    assert told["Ready"] == ("True", "Serving")
    assert testing.status("ruled").get("violations", []) == []
    testing.ended("ruled", "Complete")
    testing.controller.ahead = timedelta(days=8)
    told = await testing.reconcile("ruled")
    assert told["SecurityTested"] == ("False", "TestTooOld")
    assert told["Ready"] == ("False", "RequirementNotMet")
    assert not testing.open("ruled")
    assert len(testing.jobs("ruled")) == 2, "and it is repeated"


async def test_a_schedule_that_is_none_makes_nothing_and_says_why(testing: Testing) -> None:
    apply(testing.server, model("odd", securityTest={"schedule": "at three"}))
    told = await testing.reconcile("odd")
    assert told["Stalled"] == ("True", "NotSupported")
    assert "a schedule has 5, as in a CronJob" in testing.conditions("odd")["Stalled"]["message"]
    assert testing.jobs("odd") == []


async def test_the_objects_are_marked_as_jobs_of_modelwards_own(testing: Testing) -> None:
    await testing.begun("marked")
    (job,) = testing.jobs("marked")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels[JOB_LABEL], labels[JOB_FOR_LABEL]) == ("security-test", "marked")
    assert "modelward.io/model" not in labels
    assert (
        msgspec.json.decode(
            job["metadata"]["annotations"]["modelward.io/security-test-request"], type=securitytest.Request
        ).model
        == f"{PLACE}/marked"
    )
