"""Combinations that too few share come up as a status, a condition and an Event: real sidecars, a real API server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from modelward.planner.names import KubeObject
from tests.integration.model_server import asked, column, condition, model_server
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    PLACE,
    apply,
    cluster,
    controller,
    place,
    policy,
)
from tests.integration.test_incidents import ADDRESSES, Replicas, replicas  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(300)

CITIES = [f"city {number}" for number in range(20)]


@pytest.fixture
def port() -> Iterator[int]:
    """Of a model that answers nothing in particular."""
    with model_server(lambda inputs: [column("y", "FP64", [0.0] * inputs[0]["shape"][0])]) as port:
        yield port


def clinic(name: str, port: int) -> KubeObject:
    return asked(
        name,
        port,
        [
            {"name": "rows", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "size"]},
            {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
        ],
    )


def asking(k: int) -> KubeObject:
    fields = [
        {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 10},
        {"name": "city", "role": "QuasiIdentifier"},
    ]
    return policy("anonymous", fields=fields, kAnonymity={"k": k})


def patients(*rows: tuple[float, str]) -> dict[str, Any]:
    data = [number for age, _ in rows for number in (age, 0.5)]
    return {
        "inputs": [
            {"name": "rows", "datatype": "FP64", "shape": [len(rows), 2], "data": data},
            {"name": "city", "datatype": "BYTES", "shape": [len(rows), 1], "data": [city for _, city in rows]},
        ]
    }


async def test_combinations_that_too_few_share_show_up_once(replicas: Replicas, port: int) -> None:  # noqa: F811
    apply(replicas.server, asking(5), clinic("clinic", port))
    await replicas.start("clinic")
    status = await replicas.look("clinic")
    assert condition(status, "KAnonymous")[:2] == ("Unknown", "TooFewRows")
    assert status["reidentification"]["rows"] == 0

    # Each replica sees some twice and thrice: together they are four, of five that are asked for, and five.
    common = [(20.0 + number % 10, city) for city in CITIES for number in range(60)]
    for address, times in zip(ADDRESSES, (2, 3), strict=True):
        rows = [*common, *[(50.0, "Ulm")] * times, *[(60.0, "Ulm")] * 2]
        assert replicas.send("clinic", "lee", "infer", patients(*rows), address)[0] == 200
    status = await replicas.look("clinic")
    assert condition(status, "KAnonymous")[:2] == ("True", "WithinTolerance"), condition(status, "KAnonymous")
    found = status["reidentification"]
    assert (found["rows"], found["k"], found["fields"], found["people"]) == (2400, 5, ["age", "city"], False)
    assert (found["combinations"], found["smallest"]) == (20, 1)  # in steps: of 22, and of 4
    assert found["rowsBelowK"] == pytest.approx(5 / 2400, abs=1e-6)
    assert replicas.controller.events("ReidentificationRisk") == []
    label = f'{{namespace="{PLACE}",model="clinic"}}'
    assert replicas.incidents.metrics()["modelward_model_rows_below_k"][1][label] == pytest.approx(5 / 2400)

    rare = [(20.0, f"village {number}") for number in range(40)]
    assert replicas.send("clinic", "lee", "infer", patients(*rare))[0] == 200
    status = await replicas.look("clinic")
    assert condition(status, "KAnonymous")[:2] == ("False", "ReidentificationRisk")
    assert "40 of fewer than 5" in condition(status, "KAnonymous")[2]
    assert (
        "Fix: generalise city first (without it 0.417 % would be left) in the policy"
        in condition(status, "KAnonymous")[2]
    )
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
