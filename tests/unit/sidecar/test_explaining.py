"""Explanations over real sockets: whose they are, what they may tell, and how often the model is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modelward.detect import baseline as baselines
from modelward.detect import fitting
from modelward.detect.encoding import Column
from modelward.sidecar.setup import Setup
from tests.unit.sidecar.harness import (
    NORMAL,
    WEIGHTS,
    Answer,
    Asked,
    ModelConnection,
    Running,
    fitted,
    infer,
    request,
    settings,
    token,
    until,
)

COEF, INTERCEPT = np.array(json.loads(WEIGHTS)["coef"]), json.loads(WEIGHTS)["intercept"]
EXPLAIN = "/v2/models/m/explain"
WEIGHED = {"file": "explained-weights.json", "sha256": "0" * 64}  # whose digest the file's reader has checked
SAMPLE = baselines.from_bytes(fitted()).summary.sample


def rows_of(asked: Asked) -> np.ndarray:
    return np.concatenate(
        [np.array(tensor["data"], dtype=float).reshape(tensor["shape"][0], -1)
         for tensor in json.loads(asked.body)["inputs"] if tensor["datatype"] == "FP64"], axis=1,
    )  # fmt: skip


def answered(connection: ModelConnection, values: np.ndarray, datatype: str = "FP64", name: str = "y") -> None:
    output = {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.ravel().tolist()}
    connection.answer(json.dumps({"model_name": "m", "outputs": [output]}).encode())


def linear(connection: ModelConnection, asked: Asked) -> None:
    answered(connection, rows_of(asked) @ COEF + INTERCEPT)


def labels(connection: ModelConnection, asked: Asked) -> None:
    answered(connection, (rows_of(asked) @ COEF + INTERCEPT > 0).astype(int), "INT64")


def curved(connection: ModelConnection, asked: Asked) -> None:
    rows = rows_of(asked)
    answered(connection, rows[:, 0] * (rows[:, 1] - 10) + rows[:, 2])


@pytest.fixture
def start(run: Callable[..., Running]) -> Callable[..., Running]:
    """Starts a sidecar that explains; changes to `explanations` as keyword arguments, to the rest by `more`."""

    def started(behaviour: Any, more: dict[str, Any] | None = None, **asked: Any) -> Running:
        rules = [
            {"subjects": ["user:alice"], "operations": ["Infer", "Explain"], "purposes": ["diagnosis"]},
            {"subjects": ["user:bob"], "operations": ["Infer"]},
            {"subjects": ["user:carol"], "operations": ["Explain"], "rateLimit": {"requests": 1, "seconds": 60}},
        ]
        access = settings()["access"] | {"rules": rules}
        running = run(access=access, explanations=asked, **(more or {}))
        running.model.behaviour = behaviour
        return running

    return started


def explained(running: Running, row: Any = NORMAL, **changes: Any) -> Answer:
    return running.ask(infer(row), target=EXPLAIN, **changes)


def pending(running: Running) -> int:
    """How many requests are being explained, or wait for it."""
    return running.sidecar._gateway.chain.explaining._pending.total()


def asked_rows(running: Running) -> list[int]:
    """How many rows each call had that the model was asked."""
    return [len(rows_of(each)) for each in running.model.asked if each.method == "POST"]


# --- of a linear model


def test_a_linear_model_is_explained_exactly_by_its_weights(start):
    contact = {"contact": "dpo@clinic.example", "contestURL": "https://clinic.example/contest"}
    running = start(linear, method="LinearSHAP", weights=WEIGHED, **contact)
    answer = explained(running)
    assert answer.status == 200, answer.body
    assert answer.json["outputs"][0]["data"] == pytest.approx([COEF @ NORMAL + INTERCEPT])
    told = answer.json["explanation"]
    assert (told["method"], told["agreement"], told["explained"]) == ("LinearSHAP", "values", ["the model's result"])
    assert (told["columns"], told["referenceRows"]) == (["a", "b", "c"], len(SAMPLE))
    (row,) = told["rows"]
    mean = SAMPLE.mean(axis=0)
    assert row["contributions"] == pytest.approx(COEF * (np.array(NORMAL) - mean), abs=1e-12)
    assert row["base"] + sum(row["contributions"]) == pytest.approx(row["value"], abs=1e-12)
    assert "standardErrors" not in row
    assert {name: told[name] for name in contact} == contact
    assert asked_rows(running) == [1, 64], "the caller's own, and then whether it is this model"
    assert told["askedRows"] == 64
    assert running.metric('modelward_extra_model_calls_total{detector="Explanations"}') == 64


def test_of_a_classifier_reasons_speak_for_the_answer_that_it_gave(start):
    running = start(labels, method="LinearSHAP", weights=WEIGHED)
    told = explained(running, [-2.0, 10.0, -5.0]).json["explanation"]
    assert told["agreement"] == "classes"
    (row,) = told["rows"]
    assert row["contributions"][0] < 0, "of the second class"
    assert row["reasons"][0].startswith("a is -2 (")
    assert row["reasons"][0].endswith("speaks strongly for this answer.")


def test_weights_of_another_model_explain_nothing(start):
    running = start(curved, method="LinearSHAP", weights=WEIGHED)
    answer = explained(running)
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    assert "of the model that answers" in answer.json["detail"]
    assert running.log(1)[-1]["reason"] == "unfaithful"


# --- of any model, by asking it


def test_any_model_is_explained_by_asking_it_within_the_budget(start):
    running = start(curved, extraCalls=200)
    told = explained(running, [1.0, 12.0, -5.0]).json["explanation"]
    (row,) = told["rows"]
    assert row["value"] == pytest.approx(1.0 * 2.0 - 5.0)
    assert row["base"] + sum(row["contributions"]) == pytest.approx(row["value"], abs=1e-12)
    walks = 199 // 5
    assert told["referenceRows"] == walks
    assert sum(asked_rows(running)) == 1 + 1 + walks * 5 <= 1 + 200
    assert told["askedRows"] == 1 + walks * 5
    assert max(asked_rows(running)) <= 64
    assert row["contributions"][0] == pytest.approx(1.0, abs=5 * row["standardErrors"][0])
    assert "a is 1 (" in row["reasons"][0]
    assert explained(running, [1.0, 12.0, -5.0]).json["explanation"] == told, "the same each time"


def test_labels_are_explained_by_how_often_the_answer_is_given(start):
    def halves(connection: ModelConnection, asked: Asked) -> None:
        answered(connection, (rows_of(asked)[:, 0] > 0).astype(int), "INT64")

    (row,) = explained(start(halves), [-2.0, 10.0, -5.0]).json["explanation"]["rows"]
    assert (row["value"], 0.3 < row["base"] < 0.7) == (1.0, True)
    assert row["contributions"][1:] == [0.0, 0.0]
    assert row["reasons"][0].endswith("speaks strongly for this answer.")


def test_the_output_that_is_named_is_asked_for_and_explained(start):
    def two(connection: ModelConnection, asked: Asked) -> None:
        wanted = json.loads(asked.body).get("outputs", [{"name": "predict"}])[0]["name"]
        high = 1 / (1 + np.exp(-(rows_of(asked) @ COEF + INTERCEPT)))
        shares = np.stack([1 - high, high], axis=1)
        if wanted == "proba":
            answered(connection, shares, name="proba")
        else:
            answered(connection, (high > 0.5).astype(int), "INT64", "predict")

    answer = explained(start(two, output="proba"), [2.0, 10.0, -5.0])
    assert answer.json["outputs"][0]["name"] == "predict", "the caller gets what the caller asked for"
    (row,) = answer.json["explanation"]["rows"]
    assert row["value"] == pytest.approx(1 / (1 + np.exp(COEF @ [2.0, 10.0, -5.0] + INTERCEPT))), "of class 0"


def test_several_rows_are_explained_each_for_itself(start):
    running = start(curved, extraCalls=100)
    rows = [[1.0, 12.0, -5.0], [0.0, 10.0, -4.0]]
    answer = running.ask(infer(rows, shape=[2, 3]), target=EXPLAIN)
    found = answer.json["explanation"]["rows"]
    assert [row["value"] for row in found] == pytest.approx([-3.0, -4.0])
    many = running.ask(infer([NORMAL] * 17, shape=[17, 3]), target=EXPLAIN)
    assert (many.status, many.problem) == (422, "schema-violation")
    assert "At most 16 rows" in many.json["detail"]


def test_v1_has_explanations_as_well(run):
    upstream = settings()["upstream"] | {"protocol": "v1", "readyPath": "/v1/models/m"}
    rules = [{"subjects": ["user:alice"], "operations": ["Explain"]}]
    running = run(upstream=upstream, access=settings()["access"] | {"rules": rules}, explanations={"extraCalls": 100})

    def predicting(connection: ModelConnection, asked: Asked) -> None:
        rows = np.array(json.loads(asked.body)["instances"])
        connection.answer(json.dumps({"predictions": (rows @ COEF).tolist()}).encode())

    running.model.behaviour = predicting
    answer = running.ask({"instances": [NORMAL]}, target="/v1/models/m:explain")
    assert answer.json["predictions"] == pytest.approx([COEF @ NORMAL])
    assert answer.json["explanation"]["rows"][0]["value"] == pytest.approx(COEF @ NORMAL)
    assert {each.target for each in running.model.asked if each.method == "POST"} == {"/v1/models/m:predict"}


# --- who, and how often


def test_who_may_only_infer_is_not_told_why(start):
    running = start(curved)
    bob = token(sub="bob")
    assert explained(running, bearer=bob).problem == "forbidden"
    assert running.ask(infer(), bearer=bob).status == 200
    assert explained(running, bearer=token(purpose="marketing")).problem == "forbidden"
    assert explained(running, bearer=None).problem == "unauthenticated"
    assert asked_rows(running) == [1]


def test_explanations_count_towards_the_rate_limit_and_are_recorded_without_values(start):
    running = start(curved, extraCalls=100)
    carol = token(sub="carol")
    assert explained(running, bearer=carol).status == 200
    assert explained(running, bearer=carol).problem == "rate-limited"
    line = running.log(2)[0]
    assert (line["operation"], line["rows"], line["subject"], line["status"]) == ("Explain", 1, "user:carol", 200)
    told = {name: value for name, value in line.items() if name not in ("time", "request") and not name.endswith("_us")}
    assert "10.2" not in json.dumps(told)


def test_a_strange_row_is_not_explained_and_explained_rows_count_as_queries(start):
    running = start(curved)
    assert explained(running, [0.1, 99.0, -5.3]).problem == "anomalous-input"
    assert asked_rows(running) == []
    screening = settings()["screening"] | {"detectors": [{"type": "Extraction", "coverage": 0.05}]}
    running = start(curved, {"screening": screening}, extraCalls=100)
    statuses = [explained(running, row.tolist()).status for row in SAMPLE[:40]]
    assert statuses[0] == 200
    assert 403 in statuses, "a budget of a twentieth of the reference"


def test_what_detectors_find_by_asking_again_is_not_explained_either(start):
    def pocketed(connection: ModelConnection, asked: Asked) -> None:
        rows = rows_of(asked)
        answered(connection, ((rows[:, 1] > 10) ^ (np.abs(rows[:, 0] - 1.03) < 0.01)).astype(int), "INT64")

    detector = {"type": "Evasion", "extraCalls": 8, "falsePositiveRate": 0.05}
    running = start(pocketed, {"screening": settings()["screening"] | {"detectors": [detector]}}, extraCalls=100)
    until(lambda: running.monitor("/readyz").status == 200)
    assert explained(running, [1.03, 11.2, -5.0]).problem == "anomalous-input"
    assert running.metric('modelward_extra_model_calls_total{detector="Evasion"}') > 0
    assert explained(running, [0.2, 11.2, -5.0]).status == 200


def test_answers_that_may_not_go_out_are_not_explained(start):
    outputs = [{"name": "other", "datatype": "FP64", "shape": [-1]}]
    running = start(curved, {"outputs": outputs})
    assert explained(running).problem == "bad-upstream"
    assert asked_rows(running) == [1]


def test_an_output_that_is_not_declared_is_not_explained_either(start):
    def more(connection: ModelConnection, asked: Asked) -> None:
        high = 1 / (1 + np.exp(-rows_of(asked)[:, 0]))
        wanted = [one["name"] for one in json.loads(asked.body).get("outputs", [])]
        outputs = [
            {"name": "label", "shape": [len(high)], "datatype": "INT64", "data": (high > 0.5).astype(int).tolist()},
            {"name": "score", "shape": [len(high)], "datatype": "FP64", "data": high.tolist()},
        ]
        outputs = [one for one in outputs if not wanted or one["name"] in wanted]
        connection.answer(json.dumps({"model_name": "m", "outputs": outputs}).encode())

    outputs = [{"name": "label", "datatype": "INT64", "shape": [-1]}]
    running = start(more, {"outputs": outputs})
    row = [0.7, 10.0, -5.0]
    assert explained(running, row).problem == "bad-upstream", "the answer itself has what is not declared"
    answer = running.ask(infer(row) | {"outputs": [{"name": "label"}]}, target=EXPLAIN)
    assert answer.status == 200, answer.body
    assert answer.json["explanation"]["explained"] == ["whether the model gives this answer (1) or another (0)"]
    assert "0.66818" not in answer.body.decode()


# --- treated fields


def test_what_the_model_never_gets_is_never_told(start):
    def treated(connection: ModelConnection, asked: Asked) -> None:
        rows = rows_of(asked)
        assert (rows[:, 1] == 0).all(), "neither the caller's nor the reference's"
        answered(connection, 3 * rows[:, 0] + rows[:, 2])

    fields = {"b": {"treatment": "Drop"}, "c": {"treatment": "Generalise", "step": 5}}
    screening = settings()["screening"] | {"detectors": []}
    running = start(treated, {"fields": fields, "screening": screening}, extraCalls=100)
    answer = explained(running, [0.1, 10.2, -3.0])
    told = answer.json["explanation"]
    assert told["columns"] == ["a", "c"]
    assert len(told["rows"][0]["contributions"]) == 2
    assert told["rows"][0]["base"] + sum(told["rows"][0]["contributions"]) == pytest.approx(told["rows"][0]["value"])
    assert "10.2" not in answer.body.decode()
    assert "-3" not in " ".join(told["rows"][0]["reasons"])


def test_a_coarsened_value_is_told_as_its_interval_and_a_hidden_one_not_at_all(start):
    fields = {"c": {"treatment": "Generalise", "step": 5}}
    screening = settings()["screening"] | {"detectors": []}
    running = start(linear, {"fields": fields, "screening": screening}, hidden=["a"])
    reasons = explained(running, [30.0, 10.2, 22.0]).json["explanation"]["rows"][0]["reasons"]
    assert reasons[0].startswith("a (its value is not told): raises the result by ")
    assert reasons[1].startswith("c is between 20 and 25 (-")


@pytest.mark.parametrize("field", ["proba", "high"])
def test_an_output_that_is_treated_is_not_explained(start, field):
    def two(connection: ModelConnection, asked: Asked) -> None:
        high = 1 / (1 + np.exp(-rows_of(asked)[:, 0]))
        shares = np.stack([1 - high, high], axis=1)
        outputs = [
            {"name": "proba", "shape": [len(high), 2], "datatype": "FP64", "data": shares.ravel().tolist()},
            {"name": "label", "shape": [len(high)], "datatype": "INT64", "data": (high > 0.5).astype(int).tolist()},
        ]
        connection.answer(json.dumps({"model_name": "m", "outputs": outputs}).encode())

    outputs = [
        {"name": "proba", "datatype": "FP64", "shape": [-1, 2], "columns": ["low", "high"]},
        {"name": "label", "datatype": "INT64", "shape": [-1]},
    ]
    fields = {field: {"treatment": "Round", "digits": 1}}
    answer = explained(start(two, {"outputs": outputs, "fields": fields}), [0.7, 10.0, -5.0])
    assert answer.json["outputs"][0]["data"][1] == 0.7
    told = answer.json["explanation"]
    assert told["explained"] == ["whether the model gives this answer (1) or another (0)"]
    assert "0.66818" not in answer.body.decode().partition('"explanation"')[2]


def test_inputs_that_the_baseline_does_not_know_go_on_as_they_came(start):
    inputs = [*settings()["inputs"], {"name": "note", "datatype": "BYTES", "shape": [-1]}]
    running = start(curved, {"inputs": inputs}, extraCalls=100)
    body = infer([1.0, 10.0, -5.0] * 2, shape=[2, 3])
    body["inputs"].append({"name": "note", "datatype": "BYTES", "shape": [2], "data": ["first", "second"]})
    answer = running.ask(body, target=EXPLAIN)
    assert answer.status == 200, answer.body
    notes = [tuple(json.loads(each.body)["inputs"][1]["data"]) for each in running.model.asked if each.method == "POST"]
    assert notes[0] == ("first", "second")
    assert {text for texts in notes[1:] for text in texts} == {"first", "second"}
    assert all(len(set(texts)) == 1 for texts in notes[1:])
    assert answer.json["explanation"]["columns"] == ["a", "b", "c"]


def test_whole_numbers_and_categories_stay_the_rows_own_though_the_baseline_has_none_like_them(tmp_path):
    rows = np.column_stack([np.random.default_rng(1).integers(0, 9, 200), np.arange(200) % 2]).astype(float)
    rows[7, 1] = 2
    columns = (Column("n"), Column("kind", ("home", "work", "boat")))
    content = fitting.fit(rows, columns).to_bytes()

    class Mixed(Running):
        def setup(self, document: dict[str, Any], context: Any = None) -> Setup:
            return replace(super().setup(document, context), baseline=content)

    def mixed(connection: ModelConnection, asked: Asked) -> None:
        numbers, kinds = (tensor["data"] for tensor in json.loads(asked.body)["inputs"])
        assert {type(each) for each in numbers} == {int}
        values = np.array(numbers) * 1.5 + [
            {"home": 0.25, "work": 1.25, "boat": 7.25, "ship": 7.25}[kind] for kind in kinds
        ]
        answered(connection, values)

    inputs = [
        {"name": "n", "datatype": "INT64", "shape": [-1]},
        {"name": "kind", "datatype": "BYTES", "shape": [-1]},
    ]
    rules = [{"subjects": ["user:alice"], "operations": ["Explain"]}]
    screening = settings()["screening"] | {"detectors": []}
    document = settings(
        inputs=inputs, screening=screening, access=settings()["access"] | {"rules": rules}, explanations={}
    )
    running = Mixed(document, tmp_path)
    try:
        running.model.behaviour = mixed
        for kind in ("ship", "boat"):  # that one of the reference had the one, and nobody the other, is not told
            tensors = [("n", "INT64", 40), ("kind", "BYTES", kind)]
            body = {"inputs": [{"name": a, "datatype": b, "shape": [1], "data": [c]} for a, b, c in tensors]}
            answer = running.ask(body, target=EXPLAIN)
            (row,) = answer.json["explanation"]["rows"]
            assert row["value"] == 67.25
            assert row["contributions"] == pytest.approx([(40 - rows[:, 0].mean()) * 1.5, 6.5], rel=0.05)
            told = "kind has a value that few reference rows have, or none: raises the result by 6."
            assert row["reasons"][1].startswith(told)
    finally:
        running.stop()


def test_a_model_that_takes_one_row_at_a_time_is_asked_row_by_row(start):
    inputs = [{"name": "x", "datatype": "FP64", "shape": [3], "columns": ["a", "b", "c"]}]

    def one(connection: ModelConnection, asked: Asked) -> None:
        (tensor,) = json.loads(asked.body)["inputs"]
        assert tensor["shape"] == [3]
        answered(connection, np.array([np.array(tensor["data"]) @ COEF + 0.1]))

    running = start(one, {"inputs": inputs}, extraCalls=50)
    answer = running.ask(infer(shape=[3]), target=EXPLAIN)
    assert answer.status == 200, answer.body
    assert len(running.model.asked) == 1 + answer.json["explanation"]["askedRows"]


# --- trouble


def test_a_model_that_dies_or_is_slow_is_told_of(start, monkeypatch):
    monkeypatch.setattr("modelward.sidecar.explaining.SECONDS", 0.3)

    def one_row(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) == 1:
            curved(connection, asked)

    running = start(one_row)
    answer = explained(running)
    assert (answer.status, answer.problem) == (504, "upstream-timeout")
    assert running.log(1)[-1]["reason"] == "explanation-slow"
    monkeypatch.undo()
    running.model.behaviour = curved
    assert explained(running).status == 200
    running.model.behaviour = lambda connection, asked: (
        curved(connection, asked) if len(rows_of(asked)) == 1 else connection.answer(b"{}", status=b"500 Oh")
    )
    assert explained(running).problem == "bad-upstream"
    running.close_model()
    assert explained(running).problem == "bad-upstream"


def test_an_answer_that_cannot_be_explained_is_refused(start):
    def odd(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) == 1:
            curved(connection, asked)
        else:
            connection.answer(json.dumps({"model_name": "m", "outputs": []}).encode())

    assert "cannot be explained" in explained(start(odd)).json["detail"]


def test_the_many_rows_of_one_caller_do_not_take_the_time_of_another(start):
    running = start(curved, extraCalls=100)
    other = [2.0, 10.0, -5.0]
    go_on = threading.Event()

    def held(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) in (1, 16) or go_on.is_set():  # what the callers sent
            curved(connection, asked)
        else:
            running._loop.call_later(0.02, held, connection, asked)

    running.model.behaviour = held
    with running.client() as many, running.client() as one:
        many.send(request(infer([NORMAL] * 16, shape=[16, 3]), target=EXPLAIN))
        until(lambda: 20 in asked_rows(running))
        one.send(request(infer(other), target=EXPLAIN, bearer=token(sub="carol")))
        until(lambda: any(rows_of(each).tolist() == [other] for each in running.model.asked))
        assert running.ask(infer()).status == 200  # and what the model said of it has come
        go_on.set()
        assert [client.read().status for client in (one, many)] == [200, 200]
    begun = [rows_of(each)[0].tolist() for each in running.model.asked if len(rows_of(each)) == 20]
    assert begun.index(other) <= 2, "behind one row or two, and not behind all sixteen"
    assert len(begun) == 17


def test_explanations_wait_in_a_short_queue_and_inference_does_not_wait_for_them(start, monkeypatch):
    running = start(curved)
    go_on = threading.Event()

    def held(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) == 1 or go_on.is_set():
            curved(connection, asked)
        else:
            running._loop.call_later(0.02, held, connection, asked)

    running.model.behaviour = held
    with running.client() as first, running.client() as second:
        for client in (first, second):
            client.send(request(infer(), target=EXPLAIN))
        until(lambda: pending(running) == 2 and max(asked_rows(running)) > 1)
        assert running.ask(infer()).status == 200
        third = explained(running)
        assert (third.status, third.problem) == (503, "overloaded"), "two of one caller"
        assert third.header["retry-after"] == "5"
        monkeypatch.setattr("modelward.sidecar.explaining.MAX_PENDING", 2)
        assert explained(running, bearer=token(sub="carol")).problem == "overloaded", "and so many of all"
        assert len([rows for rows in asked_rows(running) if rows > 1]) == 1, "one call at a time"
        go_on.set()
        assert [client.read().status for client in (first, second)] == [200, 200]
    assert explained(running).status == 200


def test_a_caller_who_leaves_ends_the_asking(start):
    running = start(curved)
    running.model.behaviour = lambda connection, asked: curved(connection, asked) if len(rows_of(asked)) == 1 else None
    with running.client() as client:
        client.send(request(infer(), target=EXPLAIN))
        until(lambda: max(asked_rows(running), default=0) > 1)
    assert running.log(1)[0]["status"] == 499
    running.model.behaviour = curved
    assert explained(running).status == 200


def test_bytes_and_versions_are_for_infer(start):
    running = start(curved)
    assert running.ask(infer(), target="/v2/models/m/versions/2/explain").problem == "not-found"
    assert explained(running, header={"inference-header-content-length": "10"}).problem == "unsupported-media-type"


def test_without_explanations_the_model_servers_own_are_asked_for(run):
    rules = [{"subjects": ["user:alice"], "operations": ["Explain"]}]
    running = run(access=settings()["access"] | {"rules": rules})
    assert explained(running).status == 200
    assert running.model.asked[-1].target == EXPLAIN


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"explanations": {"extraCalls": 20}}, "with 3 columns the model must be asked about 21 rows"),
        ({"explanations": {}, "screening": {}}, "explanations need a baseline"),
        ({"explanations": {}, "inputs": None, "screening": settings()["screening"] | {"detectors": []}}, "inputs"),
    ],
)
def test_what_cannot_be_explained_is_told_when_the_configuration_is_taken(run, changes, why):
    with pytest.raises(Exception, match=why):
        run(**changes)
