"""The ServiceAccount: an identity without any right, so that no other workload's is used."""

from __future__ import annotations

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, metadata


def service_account(md: ModelDeployment) -> KubeObject:
    """Return the ServiceAccount of a model's pods."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(md, md.metadata.name),
        "automountServiceAccountToken": False,
    }
