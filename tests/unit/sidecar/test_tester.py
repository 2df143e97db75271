"""The security test as a caller: who lets it in, what holds for it as for others, and where it does not count."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward import incidents, securitytest
from modelward.securitytest import SUBJECT, Request
from modelward.sidecar.tester import plain
from tests.unit.sidecar.harness import COLUMNS, CONTROLLER, STRANGE, Answer, Running, infer, settings, token
from tests.unit.sidecar.test_fairness import FAIRNESS, INPUTS, applicants, counts, grants

TESTED = {"subjects": [SUBJECT], "operations": ["Infer", "Metadata"]}


def request_for(model: str = "clinic/m", run: str = "1") -> Request:
    return Request(model, "uid", "baseline", "a" * 64, "b" * 64, run)


def shown(sign: Any = CONTROLLER.sign, address: str = "127.0.0.1", ago: float = 0.0, **changes: str) -> str:
    number = int(changes.pop("number", "1"))
    return securitytest.token(sign, request_for(**changes), number, address, time.time() - ago)


def access(*rules: dict[str, Any]) -> dict[str, Any]:
    return {**settings()["access"], "rules": [*settings()["access"]["rules"], *rules]}


@pytest.fixture
def tested(run) -> Running:
    screening = settings()["screening"]
    screening |= {"quarantine": [{"anomalies": 3, "seconds": 60, "durationSeconds": 600}]}
    return run(screening=screening, access=access(TESTED))


def test_it_is_let_in_by_the_controllers_token_and_no_other_way(tested: Running) -> None:
    assert tested.ask(infer(), bearer=shown()).status == 200
    assert tested.ask(infer(), bearer=shown()).status == 200  # and again, as it is remembered
    record = tested.log(2)[0]
    assert (record["subject"].partition("/")[0], record["issuer"], record["purpose"]) == (
        SUBJECT,
        "modelward",
        "security-test",
    )
    stranger = Ed25519PrivateKey.generate()
    for bearer in (
        shown(stranger.sign),
        shown(model="clinic/other"),
        shown(address="127.0.0.2"),
        shown(ago=securitytest.SECONDS + 1),
        shown(ago=-60),
        # What the controller shows for itself is no tester's, and a person whose name is the tester's is a person.
        incidents.token(CONTROLLER.sign, "clinic/m", "POST", "/v2/models/m/infer", time.time()),
    ):
        answer = tested.ask(infer(), bearer=bearer)
        assert (answer.status, answer.problem) == (401, "unauthenticated")
    named = tested.ask(infer(), bearer=token(sub=SUBJECT, groups=[SUBJECT]))
    assert (named.status, named.problem) == (403, "forbidden")


def test_its_stranger_is_known_and_may_do_nothing(tested: Running) -> None:
    answer = tested.ask(infer(), bearer=shown(number="0"))
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert tested.log(1)[0]["subject"].endswith("/0")


def test_its_token_is_none_of_the_controllers(tested: Running) -> None:
    answer = tested.ask(method="GET", target=incidents.INCIDENTS, bearer=shown())
    assert (answer.status, answer.problem) == (404, "not-found")


def test_without_a_rule_for_it_it_is_known_and_may_do_nothing(run) -> None:
    answer = run().ask(infer(), bearer=shown())
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_a_rate_limit_holds_for_it_by_itself(run) -> None:
    running = run(access=access({**TESTED, "rateLimit": {"requests": 2, "seconds": 60}}))
    assert [running.ask(infer(), bearer=shown()).status for _ in range(3)] == [200, 200, 429]
    assert running.ask(infer()).status == 200
    assert running.ask(infer(), bearer=shown(run="2")).status == 200, "another run begins with a budget of its own"


def held(answer: Answer) -> bool:
    return (answer.status, answer.problem) == (403, "forbidden")


def test_it_is_screened_and_held_like_others_and_nobody_is_told(tested: Running) -> None:
    bearer = shown()
    assert [tested.ask(infer(STRANGE), bearer=bearer).problem for _ in range(3)] == ["anomalous-input"] * 3
    assert held(tested.ask(infer(), bearer=bearer))
    assert tested.ask(infer()).status == 200
    assert tested.ask(infer(), bearer=shown(run="2")).status == 200
    told = tested.order().json
    assert (told["incidents"], told["quarantined"]) == ([], [])
    assert told["rates"][0]["rows"] == 1, "alice's alone"
    assert tested.metric('modelward_anomalies_total{detector="Mahalanobis",action="blocked"}') == 0
    assert tested.log(6)[0]["verdict"] == "anomalous"  # the access log tells of it


def test_its_rows_drift_nowhere(run) -> None:
    screening = settings()["screening"] | {"detectors": [{"type": "Drift", "window": 200}], "onAnomaly": "Flag"}
    running = run(screening=screening, access=access(TESTED))
    far = [9.0, 19.0, 4.0] * 400
    assert running.ask(infer(far, shape=[400, COLUMNS]), bearer=shown()).status == 200
    assert running.order().json["drift"] == []
    assert running.ask(infer(far, shape=[400, COLUMNS])).status == 200
    assert running.order().json["drift"] != []


def test_nothing_of_it_is_counted_of_groups_or_consumers(run) -> None:
    running = run(inputs=INPUTS, fairness=FAIRNESS, screening={}, access=access(TESTED))
    running.model.behaviour = grants
    rows = applicants((30, 12, "female"), (50, 5, "male"))
    assert running.ask(rows, bearer=shown()).status == 200
    assert {group[0] for field in counts(running).values() for group in field.values()} == {0}
    assert running.ask(rows).status == 200
    assert counts(running)["sex"]["female"][0] == 1
    running.log(2)
    windows = running.sidecar._gateway.findings.windows
    windows.finish()
    consumers = [one.client for window in windows._closed for one in window.consumers]
    assert consumers == ["user:alice"]


def test_pods_addresses_are_compared_as_kubernetes_writes_them() -> None:
    assert plain("::ffff:10.1.2.3") == "10.1.2.3"
    assert plain("fd00::1%eth0") == plain("FD00:0::1") == "fd00::1"
    assert plain("unix") == "unix"


def test_a_request_is_known_by_all_that_is_in_it() -> None:
    digests = {request_for().digest, request_for(run="2").digest, request_for(model="clinic/other").digest}
    assert len(digests) == 3
    assert json.loads(request_for().to_bytes())["suite"] == "baseline"
