"""The Service: the one address of a model, which leads to its sidecars."""

from __future__ import annotations

from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, metadata, selector
from modelward.planner.sidecar import GRPC_PORT, HTTPS_PORT
from modelward.planner.upstream import grpc_port_of

WITHHELD_LABEL = "modelward.io/withheld"


def service(md: ModelDeployment, *, withheld: bool) -> KubeObject:
    """Return the Service of a model.

    Args:
        md: the ModelDeployment.
        withheld: whether to keep callers away while the model is not to be Ready: no pod has the label that the
            selector then asks for, so the Service has no endpoints.
    """
    grpc = grpc_port_of(md)
    chosen = {**selector(md), WITHHELD_LABEL: "true"} if withheld else selector(md)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(md, md.metadata.name),
        "spec": {
            "type": "ClusterIP",
            "selector": chosen,
            "ports": [_port("https", 443, HTTPS_PORT), *([_port("grpc", GRPC_PORT, GRPC_PORT)] if grpc else [])],
        },
    }


def _port(name: str, port: int, target: int) -> dict[str, Any]:
    # TLS is the sidecar's: "https" tells meshes and gateways that they need not look inside, of gRPC as well.
    return {"name": name, "appProtocol": "https", "protocol": "TCP", "port": port, "targetPort": target}
