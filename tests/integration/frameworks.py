"""The kinds of KServe and Seldon as far as the tests need them: their names, and specs of any shape."""

from __future__ import annotations

from typing import Any


def _crd(group: str, version: str, kind: str, plural: str) -> dict[str, Any]:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [served]},
    }


CRDS = (
    _crd("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"),
    _crd("machinelearning.seldon.io", "v1", "SeldonDeployment", "seldondeployments"),
)
