"""KServe and Seldon, as far as they bear on whether a workload of theirs can be protected.

Both copy labels of their resource to the pods: KServe those of `spec.predictor.labels` (its raw Deployments take the
predictor's metadata as their template's), Seldon Core 1 those of each `spec.predictors[].labels`.
"""

from __future__ import annotations

from modelward.api.workload import TargetRef
from modelward.planner.names import KubeObject

INFERENCE_SERVICE = "InferenceService"
SELDON_DEPLOYMENT = "SeldonDeployment"

SERVER = "kserve-container"
"""The name that KServe gives the model server's container."""
SERVERS = ("model", "huggingface", "lightgbm", "onnx", "paddle", "pmml", "pytorch", "sklearn", "tensorflow", "triton",
           "xgboost")  # fmt: skip
"""The fields of `spec.predictor` by which KServe is told of a model server; each is a container with more to it."""

_MODE = "serving.kserve.io/deploymentMode"
_RAW = ("RawDeployment", "Standard")  # the second is the newer name of the first
_OWN_PROXIES = ("logger", "batcher")
_PROTOCOLS = {"v2": "v2", "kfserving": "v2", "tensorflow": "v1"}


def kserve_limits(item: KubeObject) -> list[str]:
    """Return why an InferenceService cannot be protected, a sentence each."""
    annotations = item["metadata"].get("annotations") or {}
    mode = annotations.get(_MODE) or (item.get("status") or {}).get("deploymentMode") or ""
    reasons = []
    if mode not in _RAW:
        says = f"its mode is {mode}" if mode else "it does not say its mode"
        reasons.append(
            f"{says}, and in Knative mode a queue-proxy of Knative's leads to the model past any sidecar. "
            f"Fix: give it the annotation {_MODE}: {_RAW[0]}"
        )
    spec = item["spec"]
    reasons += [
        f"spec.{part} calls the predictor without a token. Fix: take it out"
        for part in ("transformer", "explainer")
        if spec.get(part)
    ]
    predictor = spec.get("predictor") or {}
    reasons += [
        f"spec.predictor.{part} puts a proxy of its own before the model. Fix: take it out"
        for part in _OWN_PROXIES
        if predictor.get(part)
    ]
    if predictor.get("workerSpec"):
        reasons.append("spec.predictor.workerSpec spreads the model over pods that talk to each other. Not supported")
    return reasons


def seldon_limits(ref: TargetRef, item: KubeObject) -> list[str]:
    """Return why a SeldonDeployment cannot be protected, a sentence each."""
    protocol = item["spec"].get("protocol") or "seldon"
    if _PROTOCOLS.get(protocol) != ref.protocol:
        return [
            f"its protocol is {protocol}, and spec.targetRef.protocol {ref.protocol}. Fix: let it speak the Open "
            "Inference Protocol (spec.protocol: v2)"
        ]
    annotations = item["spec"].get("annotations") or {}
    if str(annotations.get("seldon.io/engine-separate-pod", "")).lower() == "true":
        return ["its orchestrator calls the model from a pod of its own. Fix: take seldon.io/engine-separate-pod out"]
    return []
