"""Manifests with the verdict that each must get, from every evaluator alike.

A case is the good manifest with one thing changed, judged by one policy; `breaks` is exactly what is found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
DIGEST = "a" * 64
LINEAGE = "lineage.modelward.io/"


def good() -> Manifest:
    """A ModelDeployment that the strictest policy below lets in."""
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": "wdbc",
            "labels": {"team": "oncology"},
            "annotations": {
                f"{LINEAGE}dataset": f"s3://clinic/wdbc.csv@sha256:{DIGEST}",
                f"{LINEAGE}model": f"oci://registry/wdbc@sha256:{DIGEST}",
                f"{LINEAGE}training-run": "https://mlflow.example/runs/42",
                f"{LINEAGE}transformations": '[{"what":"all features","how":"z-score","why":"input contract"}]',
                f"{LINEAGE}consumer": "oncology-triage",
            },
        },
        "spec": {
            "model": {
                "image": f"registry.example/wdbc@sha256:{DIGEST}",
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
            },
            "schema": {
                "inputs": [
                    {"name": "features", "datatype": "FP64", "shape": [-1, 2], "columns": ["radius", "texture"]},
                    {"name": "patient", "datatype": "BYTES", "shape": [-1], "role": "Identifier"},
                ]
            },
            "encryption": {
                "inTransit": {"mode": "MutualTLS", "minVersion": "1.3"},
                "atRest": {"storageClassNames": ["encrypted"], "attestedBy": "platform team"},
                "inUse": {"scheme": "CKKS"},
            },
            "access": {
                "issuers": [
                    {
                        "name": "clinic",
                        "issuer": "https://id.clinic.example",
                        "audiences": ["wdbc"],
                        "jwksConfigMapName": "clinic-jwks",
                    }
                ],
                "rules": [
                    {"subjects": ["user:dr-lee", "group:oncologists"], "purposes": ["diagnosis"]},
                    {"subjects": ["serviceaccount:clinic/triage", "san:triage.clinic.svc"], "purposes": ["diagnosis"]},
                ],
            },
            "monitoring": {
                "baseline": {"configMapName": "wdbc-baseline"},
                "detectors": [{"type": "Mahalanobis"}, {"type": "Drift"}],
            },
            "explanations": {"contact": "dpo@clinic.example", "contestURL": "https://clinic.example/contest"},
            "fairness": {"protected": [{"field": "age", "groups": ["old", "young"]}]},
            "securityTest": {"suite": "baseline"},
        },
    }


BASELINE: Manifest = {
    "encryption": {"inTransit": "TLS"},
    "access": {},
    "lineage": {"annotations": ["dataset", "model", "transformations", "consumer"]},
    "workload": "Baseline",
}
STRICT: Manifest = {
    "encryption": {
        "inTransit": "MutualTLS",
        "minVersion": "1.3",
        "atRest": True,
        "inUse": {"schemes": ["CKKS"], "minSecurityBits": 128},
    },
    "access": {"issuers": ["https://id.clinic.example"], "purposes": ["diagnosis", "audit"]},
    "lineage": {"annotations": ["dataset", "model", "training-run", "transformations", "consumer"], "digests": True},
    "monitoring": {"detectors": ["Mahalanobis"], "onAnomaly": "Block"},
    "explanations": True,
    "fairness": {"protected": [{"field": "age"}]},
    "securityTest": {},
    "minimisation": True,
    "workload": "Restricted",
}


def policy(spec: Manifest, name: str = "policy", namespace: str = "clinic") -> Manifest:
    """A DataPolicy with this spec."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "modelward.io/v1alpha1", "kind": "DataPolicy", "metadata": metadata, "spec": spec}


# A policy a namespace; the namespaces of the integration tests carry these names.
POLICIES: dict[str, Manifest] = {
    "baseline": {"require": BASELINE},
    "strict": {
        "require": STRICT,
        "fields": [{"name": "patient", "role": "Identifier", "treatment": "Drop"}],
    },
    "anonymous": {"require": {"access": {"allowAnonymous": True}}},
    "selective": {"require": BASELINE, "selector": {"matchLabels": {"team": "cardiology"}}},
    "nothing": {},
    "excused": {
        "require": BASELINE,
        "exceptions": [
            {
                "rules": ["ENC-001"],
                "names": ["wdbc"],
                "reason": "legacy",
                "approvedBy": "ciso",
                "expires": "2099-01-01T00:00:00Z",
            },
            {
                "rules": ["ACC-001", "ACC-004"],
                "names": ["wdbc"],
                "reason": "legacy",
                "approvedBy": "ciso",
                "expires": "2020-01-01T00:00:00Z",
            },
            {"rules": [], "names": ["wdbc"], "reason": "empty", "approvedBy": "x", "expires": "2099-01-01T00:00:00Z"},
            {"rules": ["RUN-001"], "names": [], "reason": "x", "approvedBy": "x", "expires": "2099-01-01T00:00:00Z"},
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
            {
                "id": "CUSTOM-002",
                "expression": "object.spec.replicas > 0",
                "message": "'no replicas'",
            },
        ]
    },
}


@dataclass(frozen=True)
class Case:
    """A change to the good manifest and exactly the rules that it breaks under a policy."""

    name: str
    policy: str
    change: Callable[[Manifest], Any]
    breaks: frozenset[str]

    @property
    def manifest(self) -> Manifest:
        manifest = copy.deepcopy(good())
        self.change(manifest)
        return manifest


CASES: list[Case] = []


def _case(policies: str, name: str, change: Callable[[Manifest], Any], *breaks: str) -> None:
    CASES.extend(Case(f"{policy}: {name}", policy, change, frozenset(breaks)) for policy in policies.split())


def _set(path: str, value: Any) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        *parents, last = path.split("/")
        node: Any = manifest
        for step in parents:
            node = node[int(step)] if isinstance(node, list) else node[step]
        node[int(last) if isinstance(node, list) else last] = value

    return change


def _drop(path: str) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        *parents, last = path.split("/")
        node: Any = manifest
        for step in parents:
            node = node[int(step)] if isinstance(node, list) else node[step]
        del node[last]

    return change


def _annotation(key: str, value: str | None) -> Callable[[Manifest], None]:
    def change(manifest: Manifest) -> None:
        annotations = manifest["metadata"]["annotations"]
        if value is None:
            del annotations[LINEAGE + key]
        else:
            annotations[LINEAGE + key] = value

    return change


def _nothing(_: Manifest) -> None:
    return None


def _bare(manifest: Manifest) -> None:
    manifest["metadata"] = {"name": manifest["metadata"]["name"]}
    manifest["spec"] = {"model": {"image": "wdbc:latest"}}


_BARE_BASELINE = ("ENC-001", "ACC-001", "ACC-004", "LIN-001", "LIN-002", "LIN-003", "LIN-004", "RUN-001")
_case("baseline strict anonymous selective nothing excused custom", "good", _nothing)
_case("baseline", "bare", _bare, *_BARE_BASELINE)
_case(
    "strict",
    "bare",
    _bare,
    *_BARE_BASELINE,
    *("ENC-004", "HEC-001", "LIN-005", "LIN-006", "MIN-001", "MON-001", "MON-002"),
    *("EXP-001", "FAI-001", "TST-001", "RUN-002"),
)
_case("nothing selective", "bare", _bare)
_case("excused", "bare", _bare, *(set(_BARE_BASELINE) - {"ENC-001"}))
_case("excused", "another name", lambda m: (_bare(m), _set("metadata/name", "other")(m)), *_BARE_BASELINE)
_case("anonymous", "bare", _bare, "ACC-001", "ACC-004")

_case("baseline", "no encryption", _drop("spec/encryption"), "ENC-001")
_case("strict", "no encryption", _drop("spec/encryption"), "ENC-001", "ENC-004", "HEC-001")
_case("baseline", "encryption at rest alone", _drop("spec/encryption/inTransit"), "ENC-001")
_case("baseline", "TLS", _set("spec/encryption/inTransit/mode", "TLS"))
_case("strict", "TLS", _set("spec/encryption/inTransit/mode", "TLS"), "ENC-002")
_case("baseline", "TLS 1.2", _set("spec/encryption/inTransit/minVersion", "1.2"))
_case("strict", "TLS 1.2", _set("spec/encryption/inTransit/minVersion", "1.2"), "ENC-003")
_case("strict", "in transit by defaults", _set("spec/encryption/inTransit", {}), "ENC-002")
_case("strict", "not attested", _drop("spec/encryption/atRest/attestedBy"), "ENC-004")
_case("strict", "no storage class", _set("spec/encryption/atRest/storageClassNames", []), "ENC-004")
_case("strict", "nothing in use", _drop("spec/encryption/inUse"), "HEC-001")
_case("strict", "another scheme", _set("spec/encryption/inUse/scheme", "BFV"), "HEC-001")

_case("baseline", "no access", _drop("spec/access"), "ACC-001")
_case("strict", "no rules", _set("spec/access/rules", []), "ACC-001")
_case("baseline anonymous", "no subjects", _set("spec/access/rules/0/subjects", []), "ACC-002")
_case("baseline", "a bare name", _set("spec/access/rules/0/subjects", ["bob"]), "ACC-002")
_case("baseline", "anybody", _set("spec/access/rules/0/subjects", ["*"]), "ACC-003")
_case("anonymous", "anybody", _set("spec/access/rules/0/subjects", ["*"]))
_case("baseline", "any user", _set("spec/access/rules/0/subjects", ["user:*"]), "ACC-003")
_case("baseline", "a pattern", _set("spec/access/rules/0/subjects", ["group:team-*"]), "ACC-003")
_case("baseline", "anonymous", _set("spec/access/rules/1/subjects", ["user:system:anonymous"]), "ACC-003")
_case("baseline", "unauthenticated", _set("spec/access/rules/1/subjects", ["group:system:unauthenticated"]), "ACC-003")
_case("baseline", "a later subject", lambda m: m["spec"]["access"]["rules"][1]["subjects"].append("*"), "ACC-003")
_case("baseline", "no issuer, client certificates", _set("spec/access/issuers", []))


def _no_identity(manifest: Manifest) -> None:
    manifest["spec"]["access"]["issuers"] = []
    manifest["spec"]["encryption"]["inTransit"]["mode"] = "TLS"


_case("baseline", "nobody vouches", _no_identity, "ACC-004")
_case("strict", "an issuer not trusted", _set("spec/access/issuers/0/issuer", "https://evil.example"), "ACC-005")
_case("baseline", "an issuer of one's own", _set("spec/access/issuers/0/issuer", "https://evil.example"))
_case("strict", "no purposes", _set("spec/access/rules/0/purposes", []), "ACC-006")
_case("strict", "another purpose", _set("spec/access/rules/1/purposes", ["marketing"]), "ACC-006")
_case("strict", "another allowed purpose", _set("spec/access/rules/1/purposes", ["audit", "diagnosis"]))

for _number, _key in enumerate(("dataset", "model", "transformations", "consumer"), start=1):
    _also = ("LIN-006",) if _number < 3 else ()
    _case("baseline", f"no {_key}", _annotation(_key, None), f"LIN-00{_number}")
    _case("strict", f"no {_key}", _annotation(_key, None), f"LIN-00{_number}", *_also)
    _case("baseline", f"empty {_key}", _annotation(_key, ""), f"LIN-00{_number}")
    _case("baseline", f"blank {_key}", _annotation(_key, " \t\n "), f"LIN-00{_number}")
_case("baseline", "no transformation", _annotation("transformations", "[]"), "LIN-003")
_case("baseline", "no transformation, spaced", _annotation("transformations", " [ ] "), "LIN-003")
_case("baseline", "no training run", _annotation("training-run", None))
_case("strict", "no training run", _annotation("training-run", None), "LIN-005")
_case("strict", "a data set without digest", _annotation("dataset", "s3://clinic/wdbc.csv"), "LIN-006")
_case("strict", "a short digest", _annotation("model", "oci://x@sha256:abc"), "LIN-006")
_case("baseline", "a data set without digest", _annotation("dataset", "s3://clinic/wdbc.csv"))
_case("baseline", "a long annotation", _annotation("consumer", "x" * 8193), "LIN-007")
_case("baseline", "an annotation at the bound", _annotation("consumer", "x" * 8192))
_case("baseline", "no annotations", _drop("metadata/annotations"), "LIN-001", "LIN-002", "LIN-003", "LIN-004")
_case("baseline", "unicode in an annotation", _annotation("consumer", "ónkológia 🏥"))

_case("strict", "no schema", _drop("spec/schema"), "MIN-001")
_case("strict", "no inputs", _set("spec/schema/inputs", []), "MIN-001")
_case("strict", "an identifier untreated", _set("spec/schema/inputs/0/role", "Identifier"), "MIN-002")
_case("strict", "no monitoring", _drop("spec/monitoring"), "MON-001", "MON-002")
_case("strict", "another detector", _set("spec/monitoring/detectors", [{"type": "Drift"}]), "MON-001")
_case("strict", "flag only", _set("spec/monitoring/onAnomaly", "Flag"), "MON-002")
_case("strict", "no baseline", _drop("spec/monitoring/baseline"), "MON-003")
_case("baseline", "no baseline", _drop("spec/monitoring/baseline"))
_case("strict", "no contact", _drop("spec/explanations/contact"), "EXP-001")
_case("strict", "no contest", _drop("spec/explanations/contestURL"), "EXP-001")
_case("strict", "no explanations", _drop("spec/explanations"), "EXP-001")
_case("strict", "another attribute", _set("spec/fairness/protected/0/field", "sex"), "FAI-001")
_case("strict", "no fairness", _drop("spec/fairness"), "FAI-001")
_case("strict", "no security test", _drop("spec/securityTest"), "TST-001")
_case("baseline strict", "an image by tag", _set("spec/model/image", "wdbc:1.0"), "RUN-001")
_case("baseline", "an image without tag", _set("spec/model/image", "wdbc"), "RUN-001")
_case("baseline", "an image with a short digest", _set("spec/model/image", "wdbc@sha256:abc"), "RUN-001")
_case("baseline", "an image by another digest", _set("spec/model/image", f"wdbc@sha512:{DIGEST}"), "RUN-001")
_case("strict", "no resources", _drop("spec/model/resources"), "RUN-002")
_case("strict", "no memory limit", _set("spec/model/resources/limits", {"cpu": 1}), "RUN-002")
_case("baseline", "no resources", _drop("spec/model/resources"))


def _target(manifest: Manifest) -> None:
    del manifest["spec"]["model"]
    manifest["spec"]["targetRef"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "old"}


_case("baseline strict", "a workload that runs", _target)
_case(
    "selective",
    "bare and selected",
    lambda m: (_bare(m), m["metadata"].update(labels={"team": "cardiology"})),
    *_BARE_BASELINE,
)
_case("custom", "another name", _set("metadata/name", "other"), "CUSTOM-001")
_case("custom", "no replicas", _set("spec/replicas", 0), "CUSTOM-002")
_case(
    "custom", "both", lambda m: (_set("metadata/name", "o")(m), _set("spec/replicas", 0)(m)), "CUSTOM-001", "CUSTOM-002"
)
