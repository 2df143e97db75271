"""Calls over gRPC are counted by group as requests are, and their truth is told over REST."""

from __future__ import annotations

from pathlib import Path

import msgspec

from modelward.incidents import Report
from tests.unit.sidecar.harness import Running, settings
from tests.unit.sidecar.oip import GrpcModel, call, grpc, port_of, with_grpc
from tests.unit.sidecar.oip_messages import answer, infer


def test_calls_are_counted_by_group(tmp_path: Path) -> None:
    model = GrpcModel()
    access = settings()["access"]
    access["rules"][0]["operations"] = ["Infer", "Feedback"]
    fairness = {"protected": [{"field": "a", "edges": [0]}]}
    sidecar = Running(with_grpc(model, screening={}, access=access, fairness=fairness), tmp_path)
    try:
        model.behaviour = lambda *_: answer(
            {"name": "y", "datatype": "INT64", "shape": [2], "contents": {"int64_contents": [1, 0]}}
        )
        for raw in (False, True):
            told = call(port_of(sidecar), infer([-1.0, 0.0, 0.0, 1.0, 0.0, 0.0], raw=raw))
            assert told.code == grpc.StatusCode.OK
        model.behaviour = lambda _, context: context.abort(grpc.StatusCode.INTERNAL, "no")
        assert call(port_of(sidecar), infer([-1.0, 0.0, 0.0])).code != grpc.StatusCode.OK
        identifier = told.metadata["x-modelward-request-id"]
        feedback = {"id": identifier, "labels": [0, 1]}
        assert sidecar.ask(feedback, target="/v2/models/m/feedback").json == {"rows": 2}
        found = msgspec.json.decode(sidecar.order().body, type=Report).fairness
        assert found is not None
        assert [group.vector for group in found.attributes[0].groups] == [(2, 2, 0, 0, 1, 1), (2, 0, 1, 0, 0, 0)]
        assert found.uncounted == 0
    finally:
        sidecar.stop()
        model.server.stop(None)
