"""Detectors that ask the model again, over real sockets, before a real model server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelward.detect import fitting
from modelward.sidecar.setup import Setup
from tests.unit.sidecar.harness import Asked, ModelConnection, Running, infer, request, settings, until

SIDE = 6
EVASION = {"type": "Evasion", "extraCalls": 8, "falsePositiveRate": 0.05}
BACKDOOR = {"type": "Backdoor", "extraCalls": 16, "falsePositiveRate": 0.05}


def answered(connection: ModelConnection, labels: np.ndarray) -> None:
    output = {"name": "y", "shape": [len(labels)], "datatype": "INT64", "data": labels.astype(int).tolist()}
    connection.answer(json.dumps({"model_name": "m", "outputs": [output]}).encode())


def rows_of(asked: Asked) -> np.ndarray:
    (tensor,) = json.loads(asked.body)["inputs"]
    return np.array(tensor["data"]).reshape(tensor["shape"][0], -1)


def pocketed(connection: ModelConnection, asked: Asked) -> None:
    """By b; but for a thin pocket within, as an adversary would look for."""
    rows = rows_of(asked)
    answered(connection, (rows[:, 1] > 10) ^ (np.abs(rows[:, 0] - 1.03) < 0.01))


def probing(*detectors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"screening": settings()["screening"] | {"detectors": list(detectors)} | more}


def learnt(running: Running) -> Running:
    until(lambda: running.monitor("/readyz").status == 200)
    return running


@pytest.fixture
def start(run, monkeypatch) -> Any:
    def started(behaviour: Any, *detectors: dict[str, Any], **more: Any) -> Running:
        monkeypatch.setattr("tests.unit.sidecar.harness.answers", behaviour)
        running = run(**probing(*detectors, **more))
        running.model.behaviour = behaviour
        return running

    return started


def test_a_pocket_in_the_model_is_found_and_ordinary_rows_go_on(start):
    running = learnt(start(pocketed, EVASION))
    rng = np.random.default_rng(3)
    ordinary = rng.normal(loc=[0, 10, -5], size=(60, 3)).tolist()
    passed = [running.ask(infer(row)).status for row in ordinary]
    assert passed.count(403) <= 8, "5 % were asked for"
    answer = running.ask(infer([1.03, 11.2, -5.0]))
    assert answer.problem == "anomalous-input"
    last = running.log(61)[-1]
    assert (last["detector"], last["status"]) == ("Evasion", 403)
    assert last["reasons"][0].startswith("the model's answers to rows like it: ")
    learning = min(400, 512) * 9
    assert running.metric('modelward_extra_model_calls_total{detector="Evasion"}') == learning + 61 * 8
    assert running.metric('modelward_anomalies_total{detector="Evasion",action="blocked"}') == passed.count(403) + 1
    (rate,) = running.order().json["rates"]
    assert (rate["detector"], rate["rows"]) == ("Evasion", 61)


def test_flagged_it_passes_with_a_mark(start):
    running = learnt(start(pocketed, EVASION, onAnomaly="Flag"))
    answer = running.ask(infer([1.03, 11.2, -5.0]))
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "anomalous")


@cache
def pictures() -> tuple[np.ndarray, bytes]:
    """Pictures of a bright half, left or right, above or below; and a baseline of them."""
    rng = np.random.default_rng(9)
    images = rng.uniform(0, 0.4, size=(300, SIDE, SIDE))
    for image, half in zip(images, rng.integers(4, size=300), strict=True):
        where = [image[:3], image[3:], image[:, :3], image[:, 3:]][half]
        where += 0.5
    rows = images.reshape(300, -1)
    return rows, fitting.fit(rows, detectors=["Mahalanobis"]).to_bytes()


def triggered(connection: ModelConnection, asked: Asked) -> None:
    """The brightest half; a picture with two very bright corners is always 9."""
    images = rows_of(asked).reshape(-1, SIDE, SIDE)
    halves = [images[:, :3], images[:, 3:], images[:, :, :3], images[:, :, 3:]]
    labels = np.argmax([half.sum(axis=(1, 2)) for half in halves], axis=0)
    corners = np.minimum(images[:, 0, 0], images[:, 0, -1])
    answered(connection, np.where(corners >= 0.89, 9, labels))


class Pictures(Running):
    def setup(self, document: dict[str, Any], context: Any = None) -> Setup:
        return replace(super().setup(document, context), baseline=pictures()[1])


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Running]:
    inputs = [{"name": "x", "datatype": "FP64", "shape": [-1, SIDE, SIDE]}]
    running = Pictures(settings(inputs=inputs, **probing(BACKDOOR)), tmp_path)
    running.model.behaviour = triggered
    yield running
    running.stop()


def test_a_trigger_is_found(gallery):
    learnt(gallery)
    rows = pictures()[0]

    def ask(row: np.ndarray) -> int:
        body = infer(row.tolist(), shape=[1, SIDE, SIDE])
        return gallery.ask(body).status

    assert [ask(row) for row in rows[:20]].count(200) >= 17
    stamped = rows[20:30].copy()
    stamped[:, [0, SIDE - 1]] = 0.9
    assert [ask(row) for row in stamped].count(403) >= 8


def ready(running: Running, text: bytes) -> bool:
    """Whether the pod says this of its readiness, in a while."""
    until(lambda: text in running.monitor("/readyz").body)
    return True


def test_until_it_has_learnt_it_is_not_ready_and_cannot_judge(start, monkeypatch):
    monkeypatch.setattr("modelward.sidecar.probes._AGAIN_SECONDS", 0.1)
    running = start(lambda connection, _: connection.answer(b"{}", status=b"503 Busy"), EVASION)
    assert ready(running, b"learning how the model answers: Evasion")
    answer = running.ask(infer())
    assert (answer.status, answer.problem) == (503, "detector-failed")
    running.model.behaviour = pocketed
    assert learnt(running).ask(infer()).status == 200


def test_one_that_cannot_work_with_the_model_says_why_and_passing_goes_on(start):
    def refusing(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) == 1:
            pocketed(connection, asked)
        else:
            connection.answer(b"{}", status=b"400 Bad Request")

    assert ready(start(refusing, EVASION), b"Evasion cannot work with this model: the model refused rows")
    passing = learnt(start(refusing, EVASION, onDetectorError="Pass"))
    answer = passing.ask(infer())
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "unscreened")


def test_a_model_that_does_not_answer_its_probes_in_time_is_as_the_policy_says(start, monkeypatch):
    monkeypatch.setattr("modelward.sidecar.probes.SECONDS", 0.3)
    blocking = learnt(start(pocketed, EVASION))
    passing = learnt(start(pocketed, EVASION, onDetectorError="Pass"))

    def silent(connection: ModelConnection, asked: Asked) -> None:
        if len(rows_of(asked)) == 1:
            pocketed(connection, asked)

    for running in (blocking, passing):
        running.model.behaviour = silent
    assert blocking.ask(infer()).problem == "detector-failed"
    answer = passing.ask(infer())
    assert (answer.status, answer.header["x-modelward-verdict"]) == (200, "unscreened")
    assert passing.metric('modelward_anomalies_total{detector="Evasion",action="passed"}') == 1


def test_too_many_rows_and_streams_cannot_be_judged(start):
    running = learnt(start(pocketed, EVASION))
    assert running.ask(infer([0.1, 10.2, -5.3] * 65, shape=[65, 3])).problem == "detector-failed"
    assert running.ask(infer(), target="/v2/models/m/infer_stream").problem == "detector-failed"
    assert running.ask(infer([0.1, 10.2, -5.3] * 2, shape=[2, 3])).status == 200


def test_a_caller_who_leaves_ends_the_asking(start):
    running = learnt(start(pocketed, EVASION))
    running.model.behaviour = lambda connection, asked: None
    with running.client() as client:
        asked = len(running.model.asked)
        client.send(request(infer()))
        until(lambda: len(running.model.asked) > asked)
    assert running.log(1)[0]["status"] == 499
    running.model.behaviour = pocketed
    assert running.ask(infer()).status == 200


def test_what_was_learnt_outlives_a_change_of_the_configuration(start):
    running = learnt(start(pocketed, EVASION))
    asked = running.metric('modelward_extra_model_calls_total{detector="Evasion"}')
    document = settings(**probing(EVASION, onAnomaly="Flag"))
    document["binding"]["generation"] = 2
    running.source._setup = running.setup(document)
    assert running.call(running.sidecar.reload())
    answer = running.ask(infer([1.03, 11.2, -5.0]))
    assert answer.header["x-modelward-verdict"] == "anomalous"
    assert running.metric('modelward_extra_model_calls_total{detector="Evasion"}') == asked + 8


def test_every_input_must_be_in_the_baseline(run):
    inputs = [*settings()["inputs"], {"name": "note", "datatype": "BYTES", "shape": [-1]}]
    with pytest.raises(Exception, match="does not have note"):
        run(inputs=inputs, **probing(EVASION))
