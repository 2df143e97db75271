"""Groups that are treated unequally come up as a status, a condition and an Event: real sidecars, a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from modelward.controller.incidents import Incidents
from modelward.controller.models import Models
from modelward.planner.names import KubeObject
from tests.integration.model_server import Inputs, asked, column, condition, model_server
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


@pytest.fixture
def port() -> Iterator[int]:
    """Of a model that answers 1 where the income is 10 or more."""

    def grant(inputs: Inputs) -> Inputs:
        (rows,) = [one["data"] for one in inputs]
        return [column("grant", "INT64", [int(income >= 10) for income in rows[1::2]])]

    with model_server(grant) as port:
        yield port


def credit(name: str, port: int, **fairness: Any) -> KubeObject:
    return asked(
        name,
        port,
        [
            {"name": "rows", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "income"]},
            {"name": "sex", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        ("Infer", "Feedback"),
        fairness={"protected": [{"field": "sex", "groups": ["female", "male"]}], **fairness},
    )


def dropping(name: str) -> KubeObject:
    """The model is not to see the sex."""
    return policy(name, fields=[{"name": "sex", "role": "Sensitive", "treatment": "Drop"}])


def applicants(*rows: tuple[float, str]) -> dict[str, Any]:
    data = [number for income, _ in rows for number in (30.0, income)]
    return {
        "inputs": [
            {"name": "rows", "datatype": "FP64", "shape": [len(rows), 2], "data": data},
            {"name": "sex", "datatype": "BYTES", "shape": [len(rows), 1], "data": [sex for _, sex in rows]},
        ]
    }


async def test_groups_that_are_treated_unequally_show_up_once(replicas: Replicas, port: int) -> None:  # noqa: F811
    apply(replicas.server, dropping("unseen"), credit("credit", port))
    await replicas.start("credit")
    status = await replicas.look("credit")
    assert condition(status, "Fair")[:2] == ("Unknown", "TooFewRows")
    assert status["fairness"]["rows"] == 0

    # Alike at first, on both replicas together: neither has rows enough by itself.
    alike = [(income, sex) for income in (5.0, 15.0) for sex in ("female", "male") for _ in range(15)]
    for address in ADDRESSES:
        assert replicas.send("credit", "lee", "infer", applicants(*alike), address)[0] == 200
    status = await replicas.look("credit")
    assert condition(status, "Fair")[:2] == ("True", "WithinLimit"), condition(status, "Fair")
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
    assert condition(status, "Fair")[:2] == ("False", "DifferenceTooLarge")
    assert "favourable answers by sex: male 0.667 above female" in condition(status, "Fair")[2]
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
    assert condition(status, "Fair")[:2] == ("True", "WithinLimit"), "0.5 is accepted here"
    # Of a replica that is no more, nothing is said but that it was taken.
    gone = {"id": "0123456789ab-00000001", "labels": [1]}
    assert replicas.send("truth", "lee", "feedback", gone)[0] == 202
    await replicas.look("truth")


async def test_what_cannot_be_watched_is_not_served(replicas: Replicas, port: int) -> None:  # noqa: F811
    manifest = credit("blind", port, protected=[{"field": "religion", "groups": ["a", "b"]}])
    apply(replicas.server, manifest)
    assert (await replicas.reconcile("blind"))["Ready"] == ("False", "NotSupported")
    status = replicas.server.get("modeldeployment", "blind", "-n", PLACE)["status"]
    assert "religion is no column of spec.schema.inputs" in condition(status, "Ready")[2]


async def test_what_is_to_be_kept_is_told_no_more_though_sidecars_cannot_hear_of_it(
    replicas: Replicas,  # noqa: F811
    port: int,
) -> None:
    made = replicas.controller
    apply(replicas.server, dropping("unseen"), credit("kept", port))
    await replicas.start("kept")
    models = Models(made.cluster, made.recorder, made.have, made.clock)
    replicas.incidents = Incidents(made.cluster, made.recorder, made.have, port=replicas.port, kept=models.keeps)
    unequal = applicants(*[(5.0, "female")] * 60, *[(15.0, "male")] * 60)
    assert replicas.send("kept", "lee", "infer", unequal)[0] == 200

    def told() -> dict[str, float]:
        return replicas.incidents.metrics()["modelward_model_fairness_difference"][1]

    await replicas.incidents.look(PLACE, "kept")
    assert told() == {}  # no policy was read yet
    await models.reconcile(PLACE, "kept")
    await replicas.incidents.look(PLACE, "kept")
    assert list(told().values()) == [1.0]

    # An auditor's key that is not there: the sidecars go on as they were configured before.
    apply(replicas.server, policy("care", audit={"publicKeyConfigMapName": "none", "keysDigest": f"sha256:{'0' * 64}"}))
    await models.reconcile(PLACE, "kept")
    assert told() == {}
    await replicas.incidents.look(PLACE, "kept")
    assert told() == {}
    seen = replicas.incidents.of(PLACE, "kept")
    assert seen is not None
    assert (seen.kept, seen.fairness) == (True, None)
    status = await replicas.look("kept")
    assert condition(status, "Ready")[1] == "ReferenceUnusable"
    assert "fairness" not in status
