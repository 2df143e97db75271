"""Combinations that too few share come up as a status, a condition and an Event: real sidecars, a real API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from modelward.planner.names import KubeObject
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    PLACE,
    apply,
    cluster,
    controller,
    model,
    place,
)
from tests.integration.test_incidents import ADDRESSES, Replicas, replicas  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(300)

CITIES = [f"city {number}" for number in range(20)]


class _Model(BaseHTTPRequestHandler):
    """Answers nothing in particular."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        rows = asked["inputs"][0]["shape"][0]
        output = {"name": "y", "datatype": "FP64", "shape": [rows], "data": [0.0] * rows}
        content = json.dumps({"outputs": [output]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def clinic(name: str, port: int) -> KubeObject:
    trusted = {"name": "i", "issuer": "https://i", "audiences": ["a"], "jwksConfigMapName": "callers"}
    manifest = model(
        name,
        schema={
            "inputs": [
                {"name": "rows", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "size"]},
                {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
            ]
        },
        access={"issuers": [trusted], "rules": [{"subjects": ["group:all"], "operations": ["Infer"]}]},
    )
    manifest["spec"]["model"]["port"] = port
    return manifest


def asking(k: int) -> KubeObject:
    fields = [
        {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 10},
        {"name": "city", "role": "QuasiIdentifier"},
    ]
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "DataPolicy",
        "metadata": {"name": "anonymous", "namespace": PLACE},
        "spec": {"fields": fields, "kAnonymity": {"k": k}},
    }


def patients(*rows: tuple[float, str]) -> dict[str, Any]:
    data = [number for age, _ in rows for number in (age, 0.5)]
    return {
        "inputs": [
            {"name": "rows", "datatype": "FP64", "shape": [len(rows), 2], "data": data},
            {"name": "city", "datatype": "BYTES", "shape": [len(rows), 1], "data": [city for _, city in rows]},
        ]
    }


def told(status: dict[str, Any]) -> tuple[str, str, str]:
    (condition,) = [one for one in status["conditions"] if one["type"] == "KAnonymous"]
    return condition["status"], condition["reason"], condition["message"]


async def test_combinations_that_too_few_share_show_up_once(replicas: Replicas, port: int) -> None:  # noqa: F811
    apply(replicas.server, asking(5), clinic("clinic", port))
    await replicas.start("clinic")
    status = await replicas.look("clinic")
    assert told(status)[:2] == ("Unknown", "TooFewRows")
    assert status["reidentification"]["rows"] == 0

    # Each replica sees some twice and thrice: together they are four, of five that are asked for, and five.
    common = [(20.0 + number % 10, city) for city in CITIES for number in range(60)]
    for address, times in zip(ADDRESSES, (2, 3), strict=True):
        rows = [*common, *[(50.0, "Ulm")] * times, *[(60.0, "Ulm")] * 2]
        assert replicas.send("clinic", "lee", "infer", patients(*rows), address)[0] == 200
    status = await replicas.look("clinic")
    assert told(status)[:2] == ("True", "WithinTolerance"), told(status)
    found = status["reidentification"]
    assert (found["rows"], found["k"], found["fields"], found["people"]) == (2409, 5, ["age", "city"], False)
    assert (found["combinations"], found["smallest"]) == (22, 4)
    assert found["rowsBelowK"] == pytest.approx(4 / 2409, abs=1e-6)
    assert replicas.controller.events("ReidentificationRisk") == []
    label = f'{{namespace="{PLACE}",model="clinic"}}'
    assert replicas.incidents.metrics()["modelward_model_rows_below_k"][1][label] == pytest.approx(4 / 2409)

    rare = [(20.0, f"village {number}") for number in range(40)]
    assert replicas.send("clinic", "lee", "infer", patients(*rare))[0] == 200
    status = await replicas.look("clinic")
    assert told(status)[:2] == ("False", "ReidentificationRisk")
    assert "40 of 1, 1 of 4" in told(status)[2]
    assert "Fix: generalise city first (without it 0.322 % would be left) in the policy" in told(status)[2]
    assert not [value for value in ("village", "Ulm", "city 1") if value in json.dumps(status)]

    # Told once: not at every look, and not by a controller that starts anew.
    replicas.send("clinic", "lee", "infer", patients(*[(20.0, "one more")] * 3))
    await replicas.look("clinic")
    replicas.incidents = replicas.begin()
    assert (await replicas.reconcile("clinic"))["KAnonymous"] == ("False", "ReidentificationRisk")
    await replicas.look("clinic")
    (event,) = replicas.controller.events("ReidentificationRisk")
    assert (event["type"], event["count"]) == ("Warning", 1)
    assert event["involvedObject"]["name"] == "clinic"

    # It goes on counting where only what is asked of the counts has changed.
    apply(replicas.server, asking(4))
    await replicas.reconcile("clinic")
    assert "reidentification" in replicas.controller.made("clinic")["ConfigMap"]["data"]["config.json"]
