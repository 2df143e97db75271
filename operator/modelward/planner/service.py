"""The Service: the one address of a model, which leads to its sidecars."""

from __future__ import annotations

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, metadata, selector
from modelward.planner.sidecar import HTTPS_PORT

WITHHELD_LABEL = "modelward.io/withheld"


def service(md: ModelDeployment, *, withheld: bool) -> KubeObject:
    """Return the Service of a model.

    Args:
        md: the ModelDeployment.
        withheld: whether to keep callers away while the model is not to be Ready: no pod has the label that the
            selector then asks for, so the Service has no endpoints.
    """
    chosen = {**selector(md), WITHHELD_LABEL: "true"} if withheld else selector(md)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(md, md.metadata.name),
        "spec": {
            "type": "ClusterIP",
            "selector": chosen,
            "ports": [
                {"name": "https", "appProtocol": "https", "protocol": "TCP", "port": 443, "targetPort": HTTPS_PORT}
            ],
        },
    }
