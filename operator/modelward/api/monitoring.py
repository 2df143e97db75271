"""What watches a model's inputs and outputs, and who is told."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from modelward.api.base import LongText, ObjectName, Part, Url, cel

DetectorType = Literal[
    "Ensemble",
    "Mahalanobis",
    "NearestNeighbours",
    "Autoencoder",
    "IsolationForest",
    "Tails",
    "Drift",
    "Extraction",
    "Membership",
    "Output",
    "Evasion",
    "Backdoor",
]
OnAnomaly = Literal["Block", "Sanitise", "Flag"]


class Baseline(Part):
    """What normal inputs look like: a file made by `modelward fit`, or the data to fit one on."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "[has(self.configMapName), has(self.secretName), has(self.dataset)].filter(given, given).size() == 1",
                "give exactly one of configMapName, secretName, dataset",
            )
        )
    )

    config_map_name: ObjectName | None = Field(
        default=None,
        description="ConfigMap that holds it under the key baseline.npz (binaryData), as `modelward fit` made it.",
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret that holds it under the key baseline.npz, where reference data must not be seen by"
        " everyone.",
    )
    dataset: LongText | None = Field(
        default=None,
        description="Address of the data that a Job fits it on: pvc://<claim>/<path> or https://..., ending in"
        " .csv, .npz or .parquet, then @sha256:<64 hex digits>; without a digest that of the lineage annotation dataset"
        " holds. Example: pvc://reference/train.csv.",
    )


class Detector(Part):
    """One detector of anomalies or attacks."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            ("!has(self.window) || self.type == 'Drift'", "window is for Drift alone"),
            ("!has(self.coverage) || self.type == 'Extraction'", "coverage is for Extraction alone"),
            (
                "has(self.extraCalls) == (self.type in ['Evasion', 'Backdoor'])",
                "Evasion and Backdoor need extraCalls, how often they may ask the model again; it is for them alone",
            ),
        )
    )

    type: DetectorType = Field(
        description="What it looks for and how. Ensemble, Mahalanobis, NearestNeighbours, Autoencoder, IsolationForest"
        " and Tails: rows unlike the baseline. Drift: rows that become others over time. Extraction: a client that"
        " copies the model. Membership: one that asks around one row. Output: answers without confidence, or always the"
        " same. Evasion, Backdoor: rows that were bent to be judged otherwise, and triggers; they ask the model again."
        " Example: Ensemble."
    )
    false_positive_rate: float = Field(
        default=0.01,
        ge=0.00001,
        le=0.5,
        description="Share of normal requests that it may take for strange; its threshold is set by it.",
    )
    window: int | None = Field(
        default=None,
        ge=100,
        le=100_000,
        description="For Drift: so many rows are compared with the baseline. Not given: 1000.",
    )
    coverage: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="For Extraction: the share of the baseline's reference rows whose surroundings one client may ask"
        " about in a day: a budget for whoever asks like everybody else. Not given: no budget. Example: 0.5.",
    )
    extra_calls: int | None = Field(
        default=None,
        ge=3,
        le=64,
        description="For Evasion and Backdoor: about how many rows they ask the model besides each row of a request."
        " Each costs the model what a row of a request costs. Example: 8 for Evasion, 32 for Backdoor.",
    )


class Telemetry(Part):
    """Where records of requests go."""

    otlp_endpoint: Url | None = Field(
        default=None,
        description="OpenTelemetry collector that metrics and records go to (OTLP over HTTP). Not given: none.",
    )
    lineage_endpoint: Url | None = Field(
        default=None, description="Receiver of OpenLineage events: who asked what, when and why. Not given: none."
    )
    access_log: Literal["Stdout", "OTLP"] = Field(
        default="Stdout",
        description="Where the access log goes, a line a request: the container's output, or the collector.",
    )


class Monitoring(Part):
    """What watches the model's inputs and outputs."""

    baseline: Baseline | None = Field(
        default=None, description="What normal inputs look like; detectors compare requests with it."
    )
    detectors: Annotated[list[Detector], Field(max_length=16)] = Field(
        default=[],
        description="The detectors that watch the model, each type at most once. Example: [{type: Ensemble}].",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    on_anomaly: OnAnomaly = Field(
        default="Block",
        description="What is done with a strange request. Block: answer 403. Sanitise: bring its rows into what the"
        " baseline knows; what is not about a row's values is blocked. Flag: forward and mark. Of several detectors'"
        " verdicts the worst counts. Drift is told of alone.",
    )
    telemetry: Telemetry | None = Field(
        default=None, description="Where records of requests, metrics and lineage go, besides the sidecar's own log."
    )
