from __future__ import annotations

from typing import Any, cast

from modelward.controller.incidents import Incidents
from modelward.planner.sightings import Seen, Sighting


def test_detectors_that_a_sidecar_makes_up_are_one_series() -> None:
    made = Incidents(cast("Any", None), cast("Any", None), cast("Any", None))
    names = ["Ensemble", *(f'made"up{number}' for number in range(1000))]
    moment = "2026-03-01T11:00:00Z"
    made._seen["clinic", "wdbc"] = Seen(
        sightings=tuple(Sighting("user:x", "", name, (), (), 2, moment, moment, "") for name in names)
    )
    assert made.metrics()["modelward_model_anomalies"][1] == {
        '{namespace="clinic",model="wdbc",detector="Ensemble"}': 2,
        '{namespace="clinic",model="wdbc",detector="other"}': 2000,
    }
