"""Models and policies as the API server stores them, for events about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NOW = "2026-03-01T12:00:30Z"
DATASET = "s3://clinic/wdbc.csv@sha256:" + "a" * 64
ARTEFACT = "oci://registry.example/wdbc@sha256:" + "b" * 64
ANNOTATIONS = {
    "lineage.modelward.io/dataset": DATASET,
    "lineage.modelward.io/model": ARTEFACT,
    "lineage.modelward.io/training-run": "https://mlflow.example/runs/42",
    "lineage.modelward.io/transformations": '[{"what": "all features", "how": "z-score", "why": "model input"}]',
    "lineage.modelward.io/consumer": "oncology-triage",
}
INPUTS = [
    {"name": "patient", "datatype": "BYTES", "shape": [-1, 2], "columns": ["ssn", "age"]},
    {"name": "measures", "datatype": "FP64", "shape": [-1, 2], "columns": ["radius", "texture"]},
]
OUTPUTS = [{"name": "malignant", "datatype": "FP64", "shape": [-1]}]
FIELDS = [
    {"name": "ssn", "role": "Identifier", "treatment": "Pseudonymise"},
    {"name": "age", "role": "QuasiIdentifier", "treatment": "Drop"},
    {"name": "radius", "role": "Feature", "treatment": "Round", "digits": 1},
]


def model(
    annotations: dict[str, str] | None = None,
    inputs: Sequence[Any] = INPUTS,
    outputs: Sequence[Any] = OUTPUTS,
    purposes: Sequence[str] = ("diagnosis",),
    **spec: Any,
) -> dict[str, Any]:
    schema = {"inputs": list(inputs), "outputs": list(outputs)}
    rules = [{"subjects": ["group:doctors"], "operations": ["Infer"], "purposes": list(purposes)}]
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "namespace": "clinic",
            "name": "wdbc",
            "uid": "u1",
            "annotations": ANNOTATIONS if annotations is None else annotations,
        },
        "spec": {"schema": schema, "access": {"rules": rules}, "replicas": 2, **spec},
    }


def policy(name: str = "clinic", fields: Sequence[Any] = FIELDS, **spec: Any) -> dict[str, Any]:
    given = {key: value for key, value in spec.items() if value is not None}
    return {
        "kind": "DataPolicy",
        "metadata": {"namespace": "clinic", "name": name},
        "spec": {"fields": list(fields), **given},
    }
