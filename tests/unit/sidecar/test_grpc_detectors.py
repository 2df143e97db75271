"""Detectors that remember, and those that ask the model again, see calls over gRPC as they see requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.sidecar.harness import COLUMNS, NORMAL, Running, settings, until
from tests.unit.sidecar.oip import GrpcModel, call, details, grpc, port_of, with_grpc
from tests.unit.sidecar.oip_messages import infer
from tests.unit.sidecar.test_probes import EVASION, learnt, pocketed

Code = grpc.StatusCode


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[Running, GrpcModel]]]:
    model, started = GrpcModel(), []

    def start(*detectors: dict[str, Any], **more: Any) -> tuple[Running, GrpcModel]:
        screening = settings()["screening"] | {"detectors": list(detectors)} | more
        started.append(Running(with_grpc(model, screening=screening), tmp_path))
        return started[-1], model

    yield start
    for running in started:
        running.stop()
    model.server.stop(None)


def test_a_clients_pattern_is_refused(serve):
    running, model = serve({"type": "Membership"})
    around = np.array(NORMAL) + np.random.default_rng(2).normal(size=(40, COLUMNS)) * 0.01
    told = [call(port_of(running), infer(row.tolist())) for row in around]
    assert told[0].code == Code.OK
    assert told[-1].code == Code.PERMISSION_DENIED
    assert details(told[-1])[2] == "ANOMALOUS_INPUT"
    assert len(model.asked) == sum(each.code == Code.OK for each in told)
    assert running.log(40)[-1]["detector"] == "Membership"


def test_an_answer_is_looked_at(serve):
    running, model = serve({"type": "Output"})
    assert call(port_of(running), infer()).code == Code.OK
    output = next(iter(running.sidecar._gateway.chain.detection.watch.watchers.values()))
    assert [one.rows for one in output.forms._forms.values()] == [len(model.asked)] == [1]


def test_the_model_is_asked_again_over_rest(serve, monkeypatch):
    monkeypatch.setattr("tests.unit.sidecar.harness.answers", pocketed)
    running, model = serve(EVASION)
    running.model.behaviour = pocketed
    learnt(running)
    until(lambda: call(port_of(running), infer([1.03, 11.2, -5.0])).code != Code.UNAVAILABLE)
    assert call(port_of(running), infer([1.03, 11.2, -5.0])).code == Code.PERMISSION_DENIED
    assert len(model.asked) >= 1
