"""Groups that are treated unequally come up as a status, a condition and an Event: real sidecars, a real API server."""

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


class _Model(BaseHTTPRequestHandler):
    """Answers 1 where the income is 10 or more."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        (rows,) = [one["data"] for one in asked["inputs"]]
        labels = [int(income >= 10) for income in rows[1::2]]
        output = {"name": "grant", "datatype": "INT64", "shape": [len(labels)], "data": labels}
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


def credit(name: str, port: int, **fairness: Any) -> KubeObject:
    trusted = {"name": "i", "issuer": "https://i", "audiences": ["a"], "jwksConfigMapName": "callers"}
    manifest = model(
        name,
        schema={
            "inputs": [
                {"name": "rows", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "income"]},
                {"name": "sex", "datatype": "BYTES", "shape": [-1, 1]},
            ]
        },
        access={"issuers": [trusted], "rules": [{"subjects": ["group:all"], "operations": ["Infer", "Feedback"]}]},
        fairness={"protected": [{"field": "sex", "groups": ["female", "male"]}], **fairness},
    )
    manifest["spec"]["model"]["port"] = port
    return manifest


def dropping(name: str) -> KubeObject:
    """The model is not to see the sex."""
    fields = [{"name": "sex", "role": "Sensitive", "treatment": "Drop"}]
    metadata = {"name": name, "namespace": PLACE}
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "DataPolicy",
        "metadata": metadata,
        "spec": {"fields": fields},
    }


def applicants(*rows: tuple[float, str]) -> dict[str, Any]:
    data = [number for income, _ in rows for number in (30.0, income)]
    return {
        "inputs": [
            {"name": "rows", "datatype": "FP64", "shape": [len(rows), 2], "data": data},
            {"name": "sex", "datatype": "BYTES", "shape": [len(rows), 1], "data": [sex for _, sex in rows]},
        ]
    }


def told(status: dict[str, Any]) -> tuple[str, str, str]:
    (condition,) = [one for one in status["conditions"] if one["type"] == "Fair"]
    return condition["status"], condition["reason"], condition["message"]


async def test_groups_that_are_treated_unequally_show_up_once(replicas: Replicas, port: int) -> None:  # noqa: F811
    apply(replicas.server, dropping("unseen"), credit("credit", port))
    await replicas.start("credit")
    status = await replicas.look("credit")
    assert told(status)[:2] == ("Unknown", "TooFewRows")
    assert status["fairness"]["rows"] == 0

    # Alike at first, on both replicas together: neither has rows enough by itself.
    alike = [(income, sex) for income in (5.0, 15.0) for sex in ("female", "male") for _ in range(15)]
    for address in ADDRESSES:
        assert replicas.send("credit", "lee", "infer", applicants(*alike), address)[0] == 200
    status = await replicas.look("credit")
    assert told(status)[:2] == ("True", "WithinLimit"), told(status)
    (attribute,) = status["fairness"]["attributes"]
    assert [(one["name"], one["rows"], one.get("selectionRate")) for one in attribute["groups"]] == [
        ("female", 60, 0.5),
        ("male", 60, 0.5),
        ("other", 0, None),
    ]
    assert replicas.controller.events("UnfairOutcome") == []

    for address in ADDRESSES:
        unequal = [(5.0, "female")] * 60 + [(15.0, "male")] * 60
        assert replicas.send("credit", "lee", "infer", applicants(*unequal), address)[0] == 200
    status = await replicas.look("credit")
    assert told(status)[:2] == ("False", "DifferenceTooLarge")
    assert "favourable answers by sex: male 0.667 above female" in told(status)[2]
    assert status["fairness"]["attributes"][0]["demographicParityDifference"] == pytest.approx(2 / 3, abs=1e-6)
    metrics = replicas.incidents.metrics()["modelward_model_fairness_difference"][1]
    label = f'{{namespace="{PLACE}",model="credit",field="sex",measure="favourable answers"}}'
    assert metrics[label] == pytest.approx(2 / 3)

    # Told once: not at every look, and not by a controller that starts anew.
    replicas.send("credit", "lee", "infer", applicants(*[(15.0, "male")] * 40))
    await replicas.look("credit")
    replicas.incidents = replicas.begin()
    assert (await replicas.reconcile("credit"))["Fair"] == ("False", "DifferenceTooLarge")
    await replicas.look("credit")
    (event,) = replicas.controller.events("UnfairOutcome")
    assert (event["type"], event["count"]) == ("Warning", 1)
    assert event["involvedObject"]["name"] == "credit"


async def test_what_was_true_reaches_the_replica_that_answered(replicas: Replicas, port: int) -> None:  # noqa: F811
    apply(replicas.server, dropping("unseen"), credit("truth", port, minimumGroupSize=10, maxDifference=0.5))
    await replicas.start("truth")
    rows = [(5.0, "female")] * 20 + [(15.0, "female")] * 20 + [(5.0, "male")] * 20 + [(15.0, "male")] * 20
    status, request, _ = replicas.send("truth", "lee", "infer", applicants(*rows), ADDRESSES[0])
    assert status == 200
    labels = [1] * 40 + [0] * 20 + [1] * 20
    feedback = {"id": request, "labels": labels}
    assert replicas.send("truth", "lee", "feedback", feedback, ADDRESSES[1])[::2] == (202, b'{"passedOn":80}')
    assert replicas.send("truth", "lee", "feedback", feedback, ADDRESSES[1])[0] == 409
    await replicas.look("truth")  # brings them
    assert replicas.send("truth", "lee", "feedback", feedback, ADDRESSES[0])[0] == 409
    status = await replicas.look("truth")
    assert status["fairness"]["labelled"] == 80
    female, male, _ = status["fairness"]["attributes"][0]["groups"]
    assert (female["truePositiveRate"], female["labelled"]) == (0.5, 40)
    assert (male["truePositiveRate"], male["falsePositiveRate"]) == (1.0, 0.0)
    assert told(status)[:2] == ("True", "WithinLimit"), "0.5 is accepted here"
    # Of a replica that is no more, nothing is said but that it was taken.
    gone = {"id": "0123456789ab-00000001", "labels": [1]}
    assert replicas.send("truth", "lee", "feedback", gone)[0] == 202
    await replicas.look("truth")


async def test_what_cannot_be_watched_is_not_served(replicas: Replicas, port: int) -> None:  # noqa: F811
    manifest = credit("blind", port, protected=[{"field": "religion", "groups": ["a", "b"]}])
    apply(replicas.server, manifest)
    assert (await replicas.reconcile("blind"))["Ready"] == ("False", "NotSupported")
    (ready,) = [
        one
        for one in replicas.server.get("modeldeployment", "blind", "-n", PLACE)["status"]["conditions"]
        if one["type"] == "Ready"
    ]
    assert "religion is no column of spec.schema.inputs" in ready["message"]
