"""The PodDisruptionBudget: node maintenance takes one pod of a model at a time."""

from __future__ import annotations

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, labels, metadata


def disruption_budget(md: ModelDeployment) -> KubeObject | None:
    """Return the PodDisruptionBudget of a model, or None for a single pod, which it would pin to its node for ever."""
    if md.spec.replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(md, md.metadata.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": labels(md)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",  # a broken model must not hold up a node's drain
        },
    }
