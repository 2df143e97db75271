"""The audit page of many models: how long it takes to make, how large it is, how long a browser takes to open it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelward.api.base import API_VERSION
from modelward.api.validate import canonical, parse
from modelward.rules.check import baseline_policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def models(count: int) -> list[dict[str, Any]]:
    """ModelDeployments as a cluster has them: every tenth breaks a rule, drifts, or is watched for fairness."""
    made = []
    for number in range(count):
        model = _model(number)
        status = model.pop("status")
        made.append({**canonical(parse(model)), "status": status})
    return made


def policies() -> list[dict[str, Any]]:
    """The policy that a fresh install ships, and one of a clinic's."""
    fields = [{"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 5.0}]
    exception = {
        "rules": ["ENC-003"],
        "names": ["model-7"],
        "reason": "an old client",
        "approvedBy": "ciso@clinic.example",
        "expires": "2026-03-20T00:00:00Z",
    }
    spec = {
        "enforcement": "Warn",
        "classification": "SpecialCategory",
        "require": {
            "monitoring": {"detectors": ["Ensemble"]},
            "minimisation": True,
            "lineage": {"annotations": ["dataset"]},
        },
        "fields": fields,
        "exceptions": [exception],
    }
    metadata = {"name": "clinic", "namespace": "clinic"}
    clinic = {"apiVersion": API_VERSION, "kind": "DataPolicy", "metadata": metadata, "spec": spec}
    return [baseline_policy(), canonical(parse(clinic))]


def _at(days: float) -> str:
    return (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _model(number: int) -> dict[str, Any]:
    said = {
        "dataset": f"s3://clinic/data-{number // 4}.csv@sha256:{number // 4:064x}",
        "model": f"oci://registry.example/model-{number}@sha256:{number + 10**6:064x}",
        "training-run": f"https://runs.example/{number}",
        "transformations": json.dumps([{"what": "all features", "how": "z-score", "why": "the model's input"}]),
        "consumer": f"team-{number % 37}",
    }
    spec: dict[str, Any] = {
        "model": {"image": f"registry.example/server@sha256:{number:064x}", "port": 8080},
        "replicas": 2,
        "schema": {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [-1, 3],
                    "columns": ["age", "weight", "height"],
                    "role": "Sensitive",
                }
            ]
        },
        "access": {
            "issuers": [
                {"name": "clinic", "issuer": "https://login.example", "audiences": ["x"], "jwksConfigMapName": "jwks"}
            ],
            "rules": [{"subjects": ["group:doctors"], "operations": ["Infer"], "purposes": ["diagnosis"]}],
        },
        "monitoring": {"detectors": [{"type": "Ensemble"}], "baseline": {"configMapName": "baseline"}},
    }
    if number % 10:
        spec["encryption"] = {"inTransit": {"mode": "TLS", "minVersion": "1.3"}}
    conditions = [
        {
            "type": kind,
            "status": "False" if kind == "Bypassable" or (kind == "Ready" and not number % 10) else "True",
            "reason": "Seen",
            "message": "2 of 2 pods ready",
            "lastTransitionTime": _at(-3),
        }
        for kind in (
            "Ready",
            "PolicyCompliant",
            "Encrypted",
            "AccessControlled",
            "LineageVerified",
            "Monitored",
            "Bypassable",
        )
    ]
    incident = {
        "client": f"user:{number}",
        "issuer": "clinic",
        "detector": "Ensemble",
        "action": "blocked",
        "count": 1 + number % 9,
        "first": _at(-1),
        "last": _at(-(number % 24) / 24),
        "reference": "r-1",
    }
    monitoring: dict[str, Any] = {"anomalies": 0, "incidents": [], "quarantined": []}
    status: dict[str, Any] = {
        "conditions": conditions,
        "observedGeneration": 1,
        "replicas": 2,
        "policies": ["ClusterDataPolicy/baseline", "DataPolicy/clinic/clinic"],
        "certificate": {"source": "issued by modelward's own authority", "expires": _at(1 + number % 6)},
        "monitoring": monitoring,
        "lineage": {
            "consumers": [
                {
                    "client": "serviceaccount:apps/triage",
                    "issuer": "cluster",
                    "purpose": "diagnosis",
                    "first": _at(-9),
                    "last": _at(-1),
                    "requests": 1000 + number,
                }
            ]
        },
    }
    if not number % 10:
        monitoring |= {"anomalies": incident["count"], "incidents": [incident]}
        monitoring["drift"] = [
            {"feature": "age", "test": "KS", "score": 1.7},
            {"feature": "weight", "test": "KS", "score": 1.1},
        ]
        groups = [
            {"name": name, "rows": 900, "selectionRate": rate, "low": rate - 0.03, "high": rate + 0.03, "labelled": 0}
            for name, rate in (("under 40", 0.31), ("40 to 60", 0.35), ("over 60", 0.52))
        ]
        status["fairness"] = {
            "since": _at(-1),
            "rows": 2700,
            "attributes": [{"field": "age", "groups": groups, "demographicParityDifference": 0.21}],
        }
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {
            "name": f"model-{number}",
            "namespace": "clinic",
            "generation": 1,
            "annotations": {f"lineage.modelward.io/{name}": value for name, value in said.items()},
        },
        "spec": spec,
        "status": status,
    }
