"""A small cluster with something to tell in every part of the report; every text of others may be made hostile."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from modelward.api.base import API_VERSION
from modelward.lineage.build import Consumed
from modelward.lineage.graph import Use
from modelward.reporting.document import Incident, Scope
from modelward.reporting.sources import Sources
from modelward.rules.check import baseline_policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = """"><script>fetch('https://evil.example')</script><img src=x onerror=alert(1)>'`\u202e{{7*7}}"""
KINDS = (
    "Ready",
    "PolicyCompliant",
    "Encrypted",
    "AccessControlled",
    "LineageVerified",
    "Monitored",
    "Fair",
    "KAnonymous",
)


def at(days: float) -> str:
    return (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def sources(text: str = "", **changes: Any) -> Sources:
    """Everything that there may be; with a text, it stands wherever others choose the words."""

    def by_others(usual: str) -> str:
        return text or usual

    given: dict[str, Any] = {
        "scope": Scope(source="cluster", name=by_others("clinic-prod"), namespace=None, logs=(by_others("a.log"),)),
        "now": NOW,
        "models": [_wdbc(by_others), _hurried(), _circular()],
        "policies": [
            baseline_policy(),
            _policy(by_others, "clinic", at(5.25), at(-2)),
            _policy(by_others, "unread", by_others("2026-13-99")),
        ],
        "namespaces": {"clinic": _namespace(by_others)},
        "events": [_event(by_others)],
        "logged": [_logged(by_others)],
        "consumed": [
            Consumed("clinic/wdbc", by_others("user:lee"), "clinic", Use(by_others("care"), at(-2), at(-1), 41))
        ],
        "notes": [by_others("Events could not be read")],
        "controller": by_others("Clinic of Example"),
        "contact": by_others("dpo@clinic.example"),
    }
    return Sources(**(given | changes))


def _metadata(name: str, annotations: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "namespace": "clinic", "generation": 2, "annotations": annotations}


def _wdbc(by_others: Any) -> dict[str, Any]:
    step = {
        key: by_others(usual) for key, usual in (("what", "all features"), ("how", "z-score"), ("why", "the input"))
    }
    said = {
        "dataset": f"{by_others('s3://clinic/wdbc.csv')}@sha256:{'a' * 64}",
        "model": f"{by_others('oci://registry.example/wdbc')}@sha256:{'b' * 64}",
        "training-run": by_others("https://runs.example/42"),
        "transformations": json.dumps([step], ensure_ascii=False),
        "consumer": by_others("oncology-triage"),
    }
    annotations = {f"lineage.modelward.io/{name}": value for name, value in said.items()}
    annotations |= {
        f"register.modelward.io/{name}": by_others(usual)
        for name, usual in (("data-subjects", "patients"), ("retention", "10 years"), ("legal-basis", "consent"))
    }
    columns = [by_others("age"), "weight", "height"]
    spec = {
        "model": {"image": f"registry.example/wdbc@sha256:{'c' * 64}", "port": 8080, "env": []},
        "replicas": 2,
        "schema": {
            "inputs": [
                {"name": by_others("x"), "datatype": "FP64", "shape": [-1, 3], "columns": columns, "role": "Sensitive"}
            ],
            "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1, 1]}],
        },
        "encryption": {
            "inTransit": {"mode": "TLS", "minVersion": "1.3"},
            "atRest": {"attestedBy": by_others("the cloud")},
        },
        "access": {
            "issuers": [{"name": by_others("clinic"), "issuer": "https://login.example", "audiences": ["wdbc"]}],
            "rules": [{"subjects": [by_others("group:doctors")], "operations": ["Infer"], "purposes": ["diagnosis"]}],
        },
        "monitoring": {
            "detectors": [{"type": "Ensemble"}, {"type": "Drift"}],
            "onAnomaly": "Block",
            "telemetry": {"otlpEndpoint": by_others("https://collector.example"), "accessLog": "Stdout"},
        },
        "explanations": {
            "method": "LinearSHAP",
            "contact": by_others("x"),
            "contestURL": by_others("https://contest.example"),
        },
        "fairness": {"protected": [{"field": "age"}], "maxDifference": 0.1},
    }
    conditions = [
        {
            "type": kind,
            "status": "False" if kind == "Fair" else "True",
            "reason": by_others("Seen"),
            "message": by_others("as asked"),
            "lastTransitionTime": at(-3),
        }
        for kind in KINDS
    ]
    groups = [
        {
            "name": by_others(name) + suffix,
            "rows": 900,
            "selectionRate": rate,
            "low": rate - 0.03,
            "high": rate + 0.03,
            "truePositiveRate": 0.9,
            "falsePositiveRate": 0.1,
            "labelled": 120,
        }
        for name, suffix, rate in (("under 40", "", 0.31), ("over 60", " ", 0.52))
    ]
    status = {
        "conditions": conditions,
        "observedGeneration": 2,
        "replicas": 2,
        "policies": ["ClusterDataPolicy/baseline", "DataPolicy/clinic/clinic", "DataPolicy/clinic/unread"],
        "certificate": {"source": by_others("issued by modelward's own authority"), "expires": at(5)},
        "monitoring": {
            "anomalies": 12,
            "incidents": [
                {
                    "client": by_others("user:thief"),
                    "issuer": by_others("clinic"),
                    "detector": by_others("Ensemble"),
                    "action": by_others("blocked"),
                    "count": 12,
                    "first": at(-0.5),
                    "last": at(-0.1),
                    "reference": by_others("r-1"),
                }
            ],
            "quarantined": [
                {"client": by_others("user:thief"), "issuer": "clinic", "until": at(1), "reason": "Ensemble"}
            ],
            "drift": [
                {"feature": by_others("age"), "test": by_others("KS"), "score": 6.5},
                {"feature": "", "test": "MMD", "score": 1.2},
            ],
        },
        "fairness": {
            "since": at(-1),
            "rows": 1800,
            "labelled": 240,
            "attributes": [
                {
                    "field": by_others("age"),
                    "groups": groups,
                    "demographicParityDifference": 0.21,
                    "equalizedOddsDifference": None,
                }
            ],
        },
        "reidentification": {
            "since": at(-1),
            "rows": 1800,
            "k": 5,
            "fields": [by_others("age"), "postcode"],
            "combinations": 31,
            "rowsBelowK": 0.034,
            "smallest": 1,
        },
        "lineage": {
            "consumers": [
                {
                    "client": by_others("serviceaccount:apps/triage"),
                    "issuer": by_others("cluster"),
                    "purpose": by_others("diagnosis"),
                    "first": at(-9),
                    "last": at(-1),
                    "requests": 1041,
                }
            ]
        },
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": _metadata("wdbc", annotations),
        "spec": spec,
        "status": status,
    }


def _hurried() -> dict[str, Any]:
    """A model that says nothing and was never looked at."""
    spec = {"model": {"image": "newest", "port": 8080, "env": []}, "replicas": 1}
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": _metadata("hurried", {}), "spec": spec}


def _circular() -> dict[str, Any]:
    """A model that was trained on what it made."""
    said = {"dataset": f"x@sha256:{'d' * 64}", "model": f"y@sha256:{'d' * 64}"}
    annotations = {f"lineage.modelward.io/{name}": value for name, value in said.items()}
    return {**_hurried(), "metadata": _metadata("circular", annotations)}


def _policy(by_others: Any, name: str, *expiries: str) -> dict[str, Any]:
    exceptions = [
        {
            "rules": ["RUN-001"],
            "names": ["hurried"],
            "reason": by_others("an old client"),
            "approvedBy": by_others("ciso@clinic.example"),
            "expires": expires,
        }
        for expires in expiries
    ]
    return {
        "apiVersion": API_VERSION,
        "kind": "DataPolicy",
        "metadata": {"name": name, "namespace": "clinic"},
        "spec": {
            "enforcement": "Warn",
            "classification": "SpecialCategory",
            "require": {"workload": "Baseline", "minimisation": True},
            "fields": [{"name": by_others("age"), "role": "QuasiIdentifier", "treatment": "Generalise", "step": 5.0}],
            "kAnonymity": {"k": 5},
            "exceptions": exceptions,
            "rules": [
                {
                    "id": "CUSTOM-001",
                    "expression": "false",
                    "message": json.dumps(by_others("no")),
                    "fix": by_others("yes"),
                }
            ],
        },
    }


def _namespace(by_others: Any) -> dict[str, Any]:
    annotations = {"register.modelward.io/transfers": by_others("none outside the Union")}
    return {"metadata": {"name": "clinic", "labels": {"tier": "gold"}, "annotations": annotations}}


def _event(by_others: Any) -> dict[str, Any]:
    return {
        "type": "Warning",
        "reason": by_others("SidecarMissing"),
        "message": by_others("a pod runs without its sidecar"),
        "involvedObject": {"kind": "ModelDeployment", "namespace": "clinic", "name": "hurried"},
        "source": {"component": "modelward-controller"},
        "count": 3,
        "firstTimestamp": at(-2),
        "lastTimestamp": at(-0.2),
    }


def _logged(by_others: Any) -> Incident:
    return Incident(
        kind=by_others("AccessDenied"),
        model="clinic/circular",
        who=by_others("user:stranger"),
        message=by_others("forbidden"),
        first=at(-1.2),
        last=at(-1),
        count=4,
        source="log",
    )
