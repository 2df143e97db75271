"""Detectors that remember, each raised by requests over a real socket."""

from __future__ import annotations

import json
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest

from modelward.detect import clients, forms
from modelward.detect.answers import AnswerError, Output
from modelward.detect.clients import Facts
from modelward.detect.forms import Key
from modelward.incidents import RELEASE
from modelward.sidecar import config, watch, watchers
from modelward.sidecar.caller import Caller
from modelward.sidecar.detection import Detection
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.tensors import Tensor, TensorSpec
from tests.unit.sidecar.harness import (
    ANSWER,
    COLUMNS,
    NORMAL,
    Running,
    answers,
    fitted,
    infer,
    request,
    settings,
    token,
    until,
)

RNG = np.random.default_rng(11)


ANYONE = {"access": settings()["access"] | {"rules": [{"subjects": ["*"], "operations": ["Infer"]}]}}


def watching(*detectors: dict, **more) -> dict:
    screening = settings()["screening"] | {"detectors": list(detectors)} | more
    return {"screening": screening, **ANYONE}


def ordinary(count: int) -> list[list[float]]:
    return RNG.normal(loc=[0, 10, -5], size=(count, COLUMNS)).tolist()


def flat(rows: list[list[Any]]) -> list[Any]:
    return [value for row in rows for value in row]


def ask_all(running: Running, rows: list[list[float]], subject: str = "alice") -> list[int]:
    """The statuses, in order, on one connection."""
    bearer = token(sub=subject)
    with running.client() as client:
        found = []
        for row in rows:
            client.send(request(infer(row), bearer=bearer))
            found.append(client.read().status)
        return found


def test_extraction_by_synthetic_queries_is_refused_and_ordinary_clients_go_on(run):
    running = run(**watching({"type": "Extraction"}))
    assert set(ask_all(running, ordinary(150), "bob")) == {200}
    synthetic = RNG.uniform([-4, 6, -9], [4, 14, -1], size=(200, COLUMNS)).tolist()
    statuses = ask_all(running, synthetic, "mallory")
    assert statuses[:5] == [200] * 5
    assert 403 in statuses
    assert set(ask_all(running, ordinary(30), "bob")) == {200}
    refused = next(line for line in running.log(380) if line["status"] == 403)
    assert (refused["detector"], refused["verdict"], refused["subject"]) == ("Extraction", "anomalous", "user:mallory")
    assert any(reason.startswith("strange queries by client: ") for reason in refused["reasons"])
    assert running.metric('modelward_anomalies_total{detector="Extraction",action="blocked"}') == statuses.count(403)
    blocked = [each for each in running.order().json["incidents"] if each["action"] == "blocked"]
    assert [(each["client"], each["detector"]) for each in blocked] == [("user:mallory", "Extraction")]


def test_identities_that_are_split_are_joined_and_their_neighbours_go_on(run):
    quarantine = [{"anomalies": 2, "seconds": 600, "durationSeconds": 600}]
    running = run(**watching({"type": "Extraction"}, quarantine=quarantine))
    synthetic = RNG.uniform([-4, 6, -9], [4, 14, -1], size=(120, COLUMNS)).tolist()
    found = [ask_all(running, synthetic[4 * number :][:4], f"mallory{number}") for number in range(30)]
    assert set(found[0]) == {200}
    assert 403 in flat(found[15:]), "none of them has asked much, but all together"
    assert set(ask_all(running, ordinary(150), "bob")) == {200}
    marked = [line for line in running.log(270) if line["subject"] == "user:bob" and "verdict" in line]
    assert all(line["detector"] == "Extraction" for line in marked)
    assert "user:bob" not in {each["client"] for each in running.order().json["quarantined"]}


def test_asking_around_one_row_is_membership_and_may_be_flagged(run):
    running = run(**watching({"type": "Membership"}, onAnomaly="Flag"))
    around = (np.array(NORMAL) + RNG.normal(size=(40, COLUMNS)) * 0.01).tolist()
    with running.client() as client:
        for row in around:
            client.send(request(infer(row)))
            answer = client.read()
    assert answer.status == 200
    assert answer.header["x-modelward-verdict"] == "anomalous"
    assert running.log(40)[-1]["detector"] == "Membership"
    assert set(ask_all(running, ordinary(5), "bob")) == {200}


def test_release_forgets_what_a_client_has_asked(run):
    quarantine = [{"anomalies": 1, "seconds": 60, "durationSeconds": 600}]
    running = run(**watching({"type": "Membership"}, quarantine=quarantine))
    around = (np.array(NORMAL) + RNG.normal(size=(40, COLUMNS)) * 0.01).tolist()
    assert ask_all(running, around)[-1] == 403
    assert running.ask(infer()).problem == "forbidden"
    running.order(RELEASE, {"client": "user:alice"})
    assert running.ask(infer(around[0])).status == 200


def test_drift_is_told_and_refuses_nobody(run):
    running = run(**watching({"type": "Drift", "window": 200}))
    assert set(ask_all(running, ordinary(100))) == {200}
    assert running.ask(infer(flat(ordinary(200)), shape=[200, COLUMNS])).status == 200
    assert running.order().json["drift"] == []
    moved = [[a, b + 1.5, c] for a, b, c in ordinary(400)]
    assert running.ask(infer(flat(moved), shape=[400, COLUMNS])).status == 200
    drift = running.order().json["drift"]
    assert {each["feature"] for each in drift} >= {"b", ""}
    assert all(each["score"] > 1 for each in drift)
    assert running.metric('modelward_drift{feature="b",test="KS"}') > 1
    assert running.metric('modelward_drift{feature="a",test="KS"}') < 1
    assert running.order().json["incidents"] == []
    running.sidecar._gateway.chain.kept = True  # where counts are kept, no count can be computed from how far it is
    told = {(each["feature"], each["test"]): each["score"] for each in running.order().json["drift"]}
    assert told == {(each["feature"], each["test"]): math.ceil(each["score"]) for each in drift}
    assert running.metric('modelward_drift{feature="b",test="KS"}') == told["b", "KS"]
    assert running.metric('modelward_drift{feature="a",test="KS"}') == 1.0


def scores(connection, asked) -> None:
    """A model of two classes, sure of itself: the first where a is great, as one row in six has it."""
    row = json.loads(asked.body)["inputs"][0]["data"]
    sure = 0.97 if row[0] > 1 else 0.03
    outputs = [{"name": "p", "shape": [1, 2], "datatype": "FP64", "data": [sure, 1 - sure]}]
    connection.answer(json.dumps(ANSWER | {"outputs": outputs}).encode())


@pytest.fixture
def few():
    """Enough answers to learn from are fewer here."""
    original = forms.Outputs
    with mock.patch.object(forms, "Outputs", lambda kind, rate, learn: original(kind, rate=rate, learn=200)):
        yield


@pytest.mark.usefixtures("few")
def test_a_flood_of_one_label_is_withheld(run):
    running = run(**watching({"type": "Output"}))
    running.model.behaviour = scores
    for client in range(12):
        assert set(ask_all(running, ordinary(25), f"clerk{client}")) == {200}
    with running.client() as client:
        for _ in range(120):
            client.send(request(infer([1.5, 10.0, -5.0]), bearer=token(sub="mallory")))
            answer = client.read()
    assert (answer.status, answer.problem) == (403, "answer-withheld")
    assert "0.97" not in answer.body.decode()
    last = running.log(12 * 25 + 120)[-1]
    assert (last["detector"], last["status"]) == ("Output", 403)
    assert any(reason.startswith("flood of answers") for reason in last["reasons"])


@pytest.mark.parametrize("protocol", ["v1", "v2"])
def test_answers_are_watched_where_no_input_is_declared(run, protocol):
    upstream = settings()["upstream"] | {"protocol": protocol}
    running = run(**ANYONE, screening={"detectors": [{"type": "Output"}]}, inputs=None, upstream=upstream)
    target = "/v1/models/m:predict" if protocol == "v1" else "/v2/models/m/infer"
    output = {"name": "p", "shape": [2], "datatype": "FP64", "data": [0.25, 0.75]}
    body = {"predictions": [0.25, 0.75]} if protocol == "v1" else ANSWER | {"outputs": [output]}
    running.model.behaviour = lambda connection, _: connection.answer(json.dumps(body).encode())
    asked = {"instances": [[1.0], [2.0]]} if protocol == "v1" else infer([1.0, 2.0], shape=[2, 1])
    with running.client() as client:
        for _ in range(180):  # of one client alone it takes ten times as many
            client.send(request(asked, target=target))
            assert client.read().status == 200
    (known,) = forms_of(running)._forms.values()
    assert known.form is not None
    assert known.form.kind == "Probability"


def test_no_more_clients_are_remembered_than_there_is_room_for():
    document = settings(**watching({"type": "Extraction"}, {"type": "Membership"}, onAnomaly="Flag"))
    parsed = config.parse(json.dumps(document).encode())
    (declared,) = parsed.inputs
    spec = TensorSpec(declared)
    detection = Detection(parsed, fitted(), {"x": spec})
    for number in range(1500):
        exchange = Exchange("r")
        exchange.caller = Caller(f"user:{number}", "issuer", frozenset())
        exchange.address = f"10.{number // 250}.{number % 250}.1"
        detection.judge(exchange, [Tensor(spec, [1, COLUMNS], list(NORMAL))])
    watched = detection.watch.watchers
    assert len(watched["Membership"]._membership._clients) == 512
    assert [len(each) for each in watched["Extraction"]._extraction._parties.values()] == [512, 512, 1]


@pytest.mark.usefixtures("few")
def test_an_answer_that_cannot_be_read_is_a_detectors_failure(run):
    blocking = run(**watching({"type": "Output"}))
    passing = run(**watching({"type": "Output"}, onDetectorError="Pass"))
    for running in (blocking, passing):
        running.model.behaviour = lambda connection, _: connection.answer(b'{"outputs": "none"}')
    assert blocking.ask(infer()).problem == "detector-failed"
    answer = passing.ask(infer())
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "unscreened")
    assert blocking.metric('modelward_anomalies_total{detector="Output",action="failed"}') == 1
    assert passing.metric('modelward_anomalies_total{detector="Output",action="passed"}') == 1


def test_a_model_that_answers_in_a_type_of_its_own_keeps_nobody_waiting(run):
    """With a datatype that nobody knows the caller never got an answer."""
    running = run(**watching({"type": "Output"}))
    output = {"name": "y", "shape": [1], "datatype": "FP8", "parameters": {"binary_data_size": 1}}
    head = json.dumps(ANSWER | {"outputs": [output]}).encode()
    field = b"inference-header-content-length: %d\r\n" % len(head)
    running.model.behaviour = lambda connection, _: connection.answer(head + b"x", header=field)
    assert running.ask(infer()).problem == "detector-failed"


def test_a_fault_while_an_answer_is_checked_is_told(run, capfd):
    running = run(**watching({"type": "Output"}))
    with mock.patch.object(watch, "outputs_of", side_effect=ZeroDivisionError("secret 42")):
        answer = running.ask(infer())
    assert (answer.status, answer.problem) == (500, "internal-error")
    assert "secret" not in capfd.readouterr().err
    assert running.ask(infer()).status == 200


def test_answers_without_rows_and_outputs_that_are_too_wide_are_not_held():
    watcher = watchers.OutputWatcher(0.01)
    facts = Facts(clients.Caller("a", "b", "c"), 0.0)
    for _ in range(50):
        with pytest.raises(AnswerError):
            watcher.after(facts, [Output("FP64", [0], [])], 0)
    assert len(watcher.forms) == 0
    wide = Output("FP64", [1, 100_000], [0.5] * 100_000, "wide")
    for _ in range(50):
        watcher.after(facts, [wide, Output("FP64", [1], [0.5], "p")], 1)
    assert list(watcher.forms._forms) == [Key("p", "numbers", 1)]


def dicing(connection, asked) -> None:
    """Two outputs as the caller asks for them, of a width that the caller chooses as well."""
    body = json.loads(asked.body)
    row, names = (
        body["inputs"][0]["data"],
        [each["name"] for each in body.get("outputs", ({"name": "p"}, {"name": "label"}))],
    )
    sure = 0.97 if row[0] > 1 else 0.03
    width = body.get("parameters", {}).get("width", 2)
    scores = [sure, *[(1 - sure) / (width - 1)] * (width - 1)]
    given = {
        "p": {"name": "p", "shape": [1, width], "datatype": "FP64", "data": scores},
        "label": {"name": "label", "shape": [1], "datatype": "INT64", "data": [int(sure > 0.5)]},
    }
    connection.answer(json.dumps(ANSWER | {"outputs": [given[name] for name in names]}).encode())


@pytest.mark.usefixtures("few")
def test_answers_of_odd_forms_at_the_start_keep_no_one_from_being_watched(run):
    """Mallory has each answer in another form, and others beside them; what others get is learnt all the same."""
    running = run(**watching({"type": "Output"}))
    running.model.behaviour = dicing
    odd = infer([1.5, 10.0, -5.0])
    with running.client() as mallory:
        for client in range(12):
            for number in range(25):
                width = 2 + (client * 25 + number) % 50
                mallory.send(request(odd | {"parameters": {"width": width}}, bearer=token(sub="mallory")))
                assert mallory.read().status in (200, 503)  # more forms than there is room for cannot be judged
            assert set(ask_all(running, ordinary(25), f"clerk{client}")) == {200}
        assert {key.name for key in forms_of(running).learnt} >= {"p", "label"}
    answer = running.ask(infer() | {"parameters": {"width": 77}}, bearer=token(sub="nora"))
    assert (answer.status, answer.header.get("x-modelward-verdict")) == (200, None)  # its label is known, and judged
    with running.client() as client:
        for _ in range(120):
            client.send(request(infer([1.5, 10.0, -5.0]), bearer=token(sub="trudy")))
            last = client.read()
    assert (last.status, last.problem) == (403, "answer-withheld")  # what was learnt is what others got


@pytest.mark.usefixtures("few")
def test_an_answer_in_a_form_that_is_not_learnt_is_marked_and_accuses_nobody(run):
    running = run(**watching({"type": "Output"}))
    running.model.behaviour = dicing
    for client in range(12):
        assert set(ask_all(running, ordinary(25), f"clerk{client}")) == {200}
    odd = infer([0.1, 10.0, -5.0]) | {"outputs": [{"name": "p"}], "parameters": {"width": 3}}
    answer = running.ask(odd, bearer=token(sub="mallory"))
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "anomalous")
    line = running.log(12 * 25 + 1)[-1]
    assert (line["detector"], line["reasons"]) == ("Output", ["an answer in a form that is not learnt yet"])
    assert running.metric('modelward_anomalies_total{detector="Output",action="flagged"}') == 1
    assert running.order().json["quarantined"] == []
    assert running.ask(infer(), bearer=token(sub="clerk1")).header.get("x-modelward-verdict") is None


def forms_of(running) -> forms.Forms:
    """What is learnt of a model's answers."""
    found: forms.Forms = running.sidecar._gateway.chain.detection.watch.watchers["Output"].forms
    return found


@pytest.mark.parametrize("policy", ["Block", "Pass"])
def test_a_detector_that_fails_is_as_the_policy_says(run, policy):
    running = run(**watching({"type": "Extraction"}, {"type": "Mahalanobis"}, onDetectorError=policy))
    with mock.patch.object(watchers.Extraction, "add", side_effect=ZeroDivisionError("secret 42")):
        answer = running.ask(infer())
    assert answer.status == (503 if policy == "Block" else 200)
    action = "failed" if policy == "Block" else "passed"
    assert running.metric(f'modelward_anomalies_total{{detector="Extraction",action="{action}"}}') == 1
    assert running.log(1)[0]["detector"] == "Extraction"
    assert running.ask(infer()).status == 200


def test_the_worst_of_several_verdicts_acts(run):
    running = run(**watching({"type": "Membership"}, {"type": "Mahalanobis"}, onAnomaly="Sanitise"))
    far = (np.array([0.1, 99.0, -5.3]) + RNG.normal(size=(40, COLUMNS)) * 0.01).tolist()
    statuses = ask_all(running, far)
    assert (statuses[0], statuses[-1]) == (200, 403), "rows are sanitised, a client's pattern cannot be"
    first, last = running.log(40)[0], running.log(40)[-1]
    assert (first["detector"], first["verdict"]) == ("Mahalanobis", "sanitised")
    assert (last["detector"], last["scores"].keys()) == ("Membership", {"Mahalanobis"})


def test_rates_are_watched(run):
    running = run(**watching({"type": "Mahalanobis", "falsePositiveRate": 0.05}, onAnomaly="Flag"))
    ask_all(running, [*ordinary(60), [0.1, 99.0, -5.3]])
    until(lambda: [each["rows"] for each in running.order().json["rates"]] == [61])
    (rate,) = running.order().json["rates"]
    assert (rate["detector"], rate["asked"]) == ("Mahalanobis", 0.05)
    assert 0 < rate["low"] < rate["observed"] < rate["high"] < 1
    assert running.metric('modelward_detector_observed_rate{detector="Mahalanobis",bound="asked"}') == 0.05
    assert (
        running.metric('modelward_detector_observed_rate{detector="Mahalanobis",bound="observed"}') == rate["observed"]
    )


def test_what_was_asked_is_remembered_over_a_change_of_the_configuration(run):
    running = run(**watching({"type": "Membership"}))
    around = (np.array(NORMAL) + RNG.normal(size=(60, COLUMNS)) * 0.01).tolist()
    first = ask_all(running, around[:16])
    document = settings(**watching({"type": "Membership"}, onAnomaly="Flag"))
    document["binding"]["generation"] = 2
    running.source._setup = running.setup(document)
    assert running.call(running.sidecar.reload())
    with running.client() as client:
        for row in around[16:22]:
            client.send(request(infer(row)))
            answer = client.read()
    assert set(first) == {200}
    assert answer.header["x-modelward-verdict"] == "anomalous"


def test_the_answer_tells_no_value_and_no_score(run):
    running = run(**watching({"type": "Membership"}))
    around = (np.array(NORMAL) + RNG.normal(size=(40, COLUMNS)) * 0.01).tolist()
    ask_all(running, around[:-1])
    answer = running.ask(infer(around[-1]))
    assert answer.problem == "anomalous-input"
    assert not any(word in answer.body.decode() for word in ("Membership", "score", "quer", "client"))
    assert running.model.behaviour is answers
