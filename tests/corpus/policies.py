"""The policies of the corpus, each in a namespace of its own."""

from __future__ import annotations

from typing import Any

from modelward.rules.catalogue import catalogue
from modelward.rules.fixtures import good_model, merged, policy_of, strict_policy

Manifest = dict[str, Any]


def good() -> Manifest:
    """A ModelDeployment that the strictest policy below lets in."""
    return good_model()


def policy(spec: Manifest, name: str = "policy", namespace: str = "clinic") -> Manifest:
    """A DataPolicy with this spec."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "modelward.io/v1alpha1", "kind": "DataPolicy", "metadata": metadata, "spec": spec}


BASELINE: Manifest = {
    "encryption": {"inTransit": "TLS"},
    "access": {},
    "lineage": {"annotations": ["dataset", "model", "transformations", "consumer"]},
    "workload": "Baseline",
}


def _exception(rules: list[str], names: list[str], expires: str = "2099-01-01T00:00:00Z") -> Manifest:
    return {"rules": rules, "names": names, "reason": "legacy", "approvedBy": "ciso", "expires": expires}


def _strict(patch: Manifest) -> Manifest:
    changed: Manifest = merged(strict_policy(), patch)
    return changed


POLICIES: dict[str, Manifest] = {
    "baseline": {"require": BASELINE},
    "strict": strict_policy(),
    "anonymous": {"require": {"access": {"allowAnonymous": True}}},
    "selective": {"require": BASELINE, "selector": {"matchLabels": {"team": "cardiology"}}},
    "nothing": {},
    "keys": {"require": {"access": {"jwksURIs": ["https://id.clinic.example/", "https://exact.example/jwks"]}}},
    "secure192": {"require": {"encryption": {"inUse": {"schemes": ["CKKS", "BFV"], "minSecurityBits": 192}}}},
    "secure256": {"require": {"encryption": {"inUse": {"schemes": ["CKKS", "BFV"], "minSecurityBits": 256}}}},
    "personal": {"classification": "Personal", "fields": [{"name": "age", "role": "QuasiIdentifier"}]},
    "anonymised": _strict({"classification": "Anonymous"}),
    "pseudonymous": _strict(
        {
            "classification": "Pseudonymous",
            "fields": [
                {"name": "patient", "role": "Identifier", "treatment": "Pseudonymise"},
                {"name": "phone", "role": "Identifier", "treatment": "Mask", "keepLast": 4},
                {"name": "account", "role": "Identifier", "treatment": "Tokenise"},
                {"name": "visit", "role": "QuasiIdentifier", "treatment": "DateShift", "maxDays": 30},
                {"name": "kept", "role": "QuasiIdentifier", "treatment": "Keep"},
            ],
        }
    ),
    "excused": {
        "require": BASELINE,
        "exceptions": [
            _exception(["ENC-001"], ["wdbc"]),
            _exception(["ACC-001", "ACC-004"], ["wdbc"], "2020-01-01T00:00:00Z"),
            _exception([], ["wdbc"]),
            _exception(["RUN-001"], []),
        ],
    },
    "custom": {
        "rules": [
            {
                "id": "CUSTOM-001",
                "expression": "object.metadata.name.startsWith('wd')",
                "message": "'the name is ' + object.metadata.name",
                "fix": "Begin the name with wd.",
            },
            {"id": "CUSTOM-002", "expression": "object.spec.replicas > 0", "message": "'no replicas'"},
        ]
    },
}
POLICIES.update(
    {f"fixtures-{rule.id.lower()}": policy_of(rule) for rule in catalogue() if rule.fixtures.policy},
)
