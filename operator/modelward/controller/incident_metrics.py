"""What is told to Prometheus of what models' sidecars told last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from modelward.api.monitoring import DetectorType
from modelward.controller.health import quoted
from modelward.planner.sightings import Seen
from modelward.reidentification.steps import shown as in_steps_of

_DETECTORS = get_args(DetectorType)


def incident_metrics(models: Mapping[tuple[str, str], Seen]) -> dict[str, tuple[str, dict[str, float]]]:
    """Return the metrics; see `health.Metrics`. No client's name is a label.

    Args:
        models: what was seen of each, by namespace and name; of those that keep counts of groups these are not told.
    """
    anomalies: dict[str, float] = {}
    held: dict[str, float] = {}
    silent: dict[str, float] = {}
    apart: dict[str, float] = {}
    below: dict[str, float] = {}
    for (namespace, name), seen in models.items():
        place = f'namespace="{namespace}",model="{name}"'
        for one in seen.sightings:
            # What a sidecar makes up must not become as many series.
            label = f'{{{place},detector="{one.detector if one.detector in _DETECTORS else "other"}"}}'
            anomalies[label] = anomalies.get(label, 0) + one.count
        held[f"{{{place}}}"] = len(seen.quarantined)
        silent[f"{{{place}}}"] = len(seen.silent)
        if seen.kept:
            continue
        if seen.combined is not None:
            below[f"{{{place}}}"] = in_steps_of(seen.combined.figures).below
        for field, measure, difference in seen.fairness.differences if seen.fairness else ():
            apart[f"{{{place},field={quoted(field)},measure={quoted(measure)}}}"] = difference
    return {
        "modelward_model_anomalies": ("Anomalies of the last day that a model's sidecars tell of.", anomalies),
        "modelward_model_rows_below_k": ("Share of a model's rows that too few share a combination with.", below),
        "modelward_model_fairness_difference": ("How far apart the rates of a model's groups are.", apart),
        "modelward_model_quarantined_clients": ("Clients that any replica of a model holds in quarantine.", held),
        "modelward_model_silent_sidecars": ("Sidecars of ready pods that do not tell what they found.", silent),
    }
