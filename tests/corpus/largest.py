"""The largest objects that the schema and etcd allow: what judging costs at the most."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

from modelward.api.monitoring import DetectorType
from modelward.rules.fixtures import merged, strict_policy
from tests.corpus.case import LINEAGE
from tests.corpus.policies import Manifest, good

ETCD_BYTES = 1_500_000
INPUTS, COLUMNS, RULES, SUBJECTS, FIELDS, POLICIES = 128, 1024, 64, 64, 128, 10
FULL_NAME = 128  # characters of an input's, a column's or a field's name


def _name(index: int, length: int = FULL_NAME) -> str:
    """A name that differs from the others at its end alone, so that comparing takes longest."""
    return f"{'n' * (length - 4)}{index:04}"


def _letters(index: int) -> str:
    digits = "abcdefghijklmnopqrstuvwxyz0123456789"
    return f"{digits[index // 36]}{digits[index % 36]}"


def largest_policy(index: int) -> Manifest:
    """A DataPolicy's spec that asks for everything and says how 128 fields are treated."""
    treated = [{"name": _name(number), "role": "Identifier", "treatment": "Drop"} for number in range(FIELDS)]
    purposes = [_name(number, 64) for number in range(32)]
    issuers = [f"https://{'i' * 495}.{number:04}" for number in range(16)]
    detectors = list(get_args(DetectorType))  # a policy may ask for all
    patch: Manifest = {
        "classification": ("SpecialCategory", "Anonymous", "Pseudonymous")[index % 3],
        "fields": treated,
        "require": {
            "access": {"purposes": purposes, "issuers": issuers},
            "monitoring": {"detectors": detectors},
            "fairness": {"protected": [{"field": _name(number)} for number in range(16)]},
            "registries": [_name(number, 120) for number in range(15)] + ["registry.example"],
        },
    }
    spec: Manifest = merged(strict_policy(), patch)
    return spec


def largest_model(fill: Literal["columns", "subjects"]) -> Manifest:
    """A ModelDeployment that breaks no rule of `largest_policy`, with every list at its bound.

    Args:
        fill: what the bytes that etcd allows are spent on: columns in every input, or subjects of full length.
    """
    policy = largest_policy(0)
    columns = COLUMNS if fill == "columns" else 64
    subject = 120 if fill == "columns" else 253
    names = [_letters(number) for number in range(columns)]
    tensor = {"datatype": "FP64", "shape": [-1, columns], "columns": names, "minimum": 0.0, "maximum": 1.0}
    rule: Manifest = {
        "subjects": [f"user:{'u' * (subject - 9)}{number:04}" for number in range(SUBJECTS)],
        "operations": ["Infer", "Metadata", "Explain"],
        "purposes": policy["require"]["access"]["purposes"][16:],
        "rateLimit": {"requests": 600, "seconds": 60},
    }
    issuer: Manifest = {"audiences": [f"a{number}" for number in range(8)], "jwksConfigMapName": "jwks"}
    groups = [f"group {number:02}" for number in range(64)]
    manifest = good()
    annotations = manifest["metadata"]["annotations"]
    digest = annotations[f"{LINEAGE}dataset"].rpartition("@")[2]
    for key in ("dataset", "model"):
        annotations[f"{LINEAGE}{key}"] = f"s3://{'d' * (8192 - 5 - 1 - len(digest))}@{digest}"
    annotations[f"{LINEAGE}training-run"] = f"https://{'r' * (8192 - 8)}"
    annotations[f"{LINEAGE}consumer"] = " " * 8191 + "c"
    step = {"what": "w" * 2700, "how": "h" * 2700, "why": "y" * 2700}
    annotations[f"{LINEAGE}transformations"] = json.dumps([step])
    patch: dict[str, Any] = {
        "schema": {
            "inputs": [{**tensor, "name": _name(number), "role": "Identifier"} for number in range(INPUTS)],
            "outputs": [{"name": _name(number), "datatype": "FP64", "shape": [-1]} for number in range(INPUTS)],
        },
        "access": {
            "rules": [rule] * RULES,
            "issuers": [
                {**issuer, "name": f"i{number}", "issuer": name}
                for number, name in enumerate(policy["require"]["access"]["issuers"])
            ],
        },
        "monitoring": {
            "detectors": [
                {"type": kind, **({"extraCalls": 8} if kind in ("Evasion", "Backdoor") else {})}
                for kind in get_args(DetectorType)
            ],
            "telemetry": {"otlpEndpoint": f"https://{'o' * 1000}", "lineageEndpoint": f"https://{'l' * 1000}"},
        },
        "fairness": {
            "protected": [{**one, "groups": groups} for one in policy["require"]["fairness"]["protected"]],
        },
        "model": {
            "env": [{"name": f"{'V' * 249}{number:04}", "value": "v" * 256} for number in range(100)],
            "volumeClaims": [{"claimName": f"claim-{number}", "mountPath": f"/models/{number}"} for number in range(8)],
        },
        "encryption": {
            "inUse": {"polyModulusDegree": 32768, "coeffModulusBits": [50] * 15 + [55], "scaleBits": 40},
            "atRest": {"storageClassNames": [f"class-{number}" for number in range(32)]},
        },
    }
    largest: Manifest = merged(manifest, {"spec": patch})
    return largest
