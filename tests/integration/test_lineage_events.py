"""Who got answers, from real sidecars to the status and to a receiver of OpenLineage events; a real API server.

Two replicas run as in `test_incidents`, here with a model server behind them. A window of serving is a minute of the
clock, and this waits for its end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from modelward.controller import emitter
from modelward.controller.emitters import Emitters
from modelward.controller.incidents import Incidents
from modelward.controller.installation import Installation
from modelward.controller.lineage import Lineage
from modelward.controller.models import Models
from modelward.controller.queue import GoneError
from modelward.planner import access
from tests.integration.model_server import column, model_server
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    IMAGE,
    PLACE,
    SYSTEM,
    Controller,
    apply,
    cluster,
    controller,
    place,
    policy,
)
from tests.integration.test_incidents import ADDRESSES, COLUMNS, ORDINARY, Replicas, watched, what_it_refers_to
from tests.unit.controller.lineage_receiver import LineageServer, until

pytestmark = pytest.mark.timeout(300)

DATASET = "s3://clinic/wdbc.csv@sha256:" + "a" * 64


@pytest.fixture
def model_port() -> Iterator[int]:
    with model_server(lambda _: [column("y", "FP64", [0.5])]) as port:
        yield port


@pytest.fixture
def receiver() -> Iterator[LineageServer]:
    made = LineageServer()
    yield made
    made.stop()


class Traced(Replicas):
    """The same, with lineage that the reconciler and the look at sidecars share."""

    def begin(self) -> Incidents:
        made = self.controller
        self.emitters = Emitters(made.have)
        self.lineage = Lineage(made.cluster, self.emitters, made.clock)
        return Incidents(made.cluster, made.recorder, made.have, port=self.port, lineage=self.lineage)

    async def reconcile(self, name: str) -> dict[str, tuple[str, str]]:
        made = self.controller
        made.installed = await made.installation.reconcile()
        models = Models(
            made.cluster, made.recorder, made.have, made.clock, seen=self.incidents.of, lineage=self.lineage
        )
        await models.reconcile(PLACE, name)
        status = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}


@pytest.fixture
async def traced(
    controller: Controller,  # noqa: F811
    receiver: LineageServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Traced]:
    monkeypatch.setattr(emitter, "FIRST_WAIT_SECONDS", 0.05)
    settings = access.AccessSettings(lineage=access.Lineage(url=receiver.url, namespace="east"))
    controller.installation = Installation(controller.cluster, SYSTEM, IMAGE, controller.clock, access=settings)
    apply(controller.server, *what_it_refers_to())
    made = Traced(controller, tmp_path)
    yield made
    made.stop()
    await made.emitters.close()
    controller.server.kubectl("delete", "pod", "-n", PLACE, "--all", "--force", "--wait=false")


def served(receiver: LineageServer) -> list[dict[str, Any]]:
    """The windows that the receiver has, by their ends."""
    return [one for one in receiver.events if one.get("eventType") == "COMPLETE" and "serving" in one["job"]["name"]]


async def test_who_got_answers_is_known_and_told_whatever_dies_meanwhile(
    traced: Traced, receiver: LineageServer, model_port: int
) -> None:
    treated = [{"name": "a", "role": "QuasiIdentifier", "treatment": "Round", "digits": 1}]
    basis = {"article6": "PublicTask", "article9": "HealthCare"}
    manifest = watched("wdbc")
    manifest["spec"]["model"]["port"] = model_port
    manifest["metadata"]["annotations"] = {"lineage.modelward.io/dataset": DATASET}
    apply(traced.server, policy("coarse", fields=treated, legalBasis=basis), manifest)
    await traced.start("wdbc")
    await until(lambda: len(receiver.events) == 2)
    assert [one["eventType"] for one in receiver.events] == ["START", "COMPLETE"]
    assert receiver.events[0]["job"] == receiver.events[1]["job"]
    assert receiver.events[0]["job"]["name"] == f"{PLACE}.wdbc"

    deadline = time.monotonic() + 60
    while traced.ask("wdbc", "dr-lee", ORDINARY) != 200:  # the sidecar has not found its model yet
        assert time.monotonic() < deadline
    began = datetime.now(UTC)
    for address in ADDRESSES:
        assert traced.ask("wdbc", "dr-kim", ORDINARY, address) == 200
    receiver.stop()
    status = await traced.look("wdbc")
    while datetime.now(UTC).minute == began.minute or datetime.now(UTC).second < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.5)
    status = await traced.look("wdbc")
    consumers = {one["client"]: one for one in status["lineage"]["consumers"]}
    assert set(consumers) >= {"user:dr-kim"}
    assert consumers["user:dr-kim"]["requests"] == 2
    assert (consumers["user:dr-kim"]["issuer"], consumers["user:dr-kim"]["purpose"]) == ("i", "")
    assert status["lineage"]["windows"]["emitted"] == 0
    await until(lambda: traced.emitters.pending >= 2)
    assert served(receiver) == []

    # Another controller takes over while the receiver is away: it counts nothing twice, and sends what was not sent.
    await traced.emitters.close()
    traced.incidents = traced.begin()
    await traced.reconcile("wdbc")
    status = await traced.look("wdbc")
    assert {one["client"]: one["requests"] for one in status["lineage"]["consumers"]}["user:dr-kim"] == 2
    receiver.start()
    windows = traced.emitters.pending
    await until(lambda: traced.emitters.pending == 0)
    status = await traced.look("wdbc")
    assert status["lineage"]["windows"]["emitted"] == windows == len(served(receiver))
    assert (status["lineage"]["windows"]["failed"], status["lineage"]["windows"]["dropped"]) == (0, 0)

    replicas = {one["run"]["facets"]["modelward_serving"]["replica"] for one in served(receiver)}
    assert replicas == {"wdbc-0", "wdbc-1"}
    last = served(receiver)[-1]
    assert last["job"]["namespace"] == "east"
    lineage = last["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert set(lineage) == set(COLUMNS)
    (step,) = lineage["a"]["inputFields"][0]["transformations"]
    assert step["masking"]
    assert step["description"] == f"rounded to 1 digits (QuasiIdentifier, DataPolicy/{PLACE}/coarse)"
    (told,) = last["job"]["facets"]["modelward_purpose"]["legalBases"]
    assert told == {"policy": f"DataPolicy/{PLACE}/coarse", **basis}
    kept = traced.server.get("configmap", "wdbc.lineage", "-n", PLACE)
    assert json.loads(kept["data"]["lineage.json"])["consumers"][0]["client"].startswith("user:dr-")
    metrics = traced.lineage.metrics()["modelward_telemetry_total"][1]
    assert metrics['{sink="lineage",outcome="sent"}'] == windows

    # Gone, it is told of once more, and what was kept goes with it.
    assert traced.server.kubectl("delete", "modeldeployment", "wdbc", "-n", PLACE).ok
    with pytest.raises(GoneError):
        await traced.reconcile("wdbc")
    await traced.incidents.look(PLACE, "wdbc")
    await until(lambda: traced.emitters.pending == 0)
    states = [one["outputs"][0]["facets"].get("lifecycleStateChange") for one in receiver.events if one["outputs"]]
    assert [one["lifecycleStateChange"] for one in states if one][-1] == "DROP"


async def test_a_receiver_that_is_not_allowed_keeps_a_model_from_serving(
    traced: Traced, receiver: LineageServer
) -> None:
    manifest = watched("leaks")
    manifest["spec"]["monitoring"]["telemetry"] = {"lineageEndpoint": "https://elsewhere.example"}
    apply(traced.server, manifest)
    assert (await traced.reconcile("leaks"))["Ready"] == ("False", "AddressNotAllowed")
    await traced.look("leaks")
    assert receiver.events == []
