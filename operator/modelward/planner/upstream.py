"""What the sidecar forwards to: the model server's port, its protocol, and its name in the protocol's paths."""

from __future__ import annotations

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.workload import ModelContainer


def protocol_of(md: ModelDeployment) -> str:
    """Return the inference protocol that a model speaks: `v1` or `v2`."""
    served = md.spec.model or md.spec.target_ref
    return served.protocol if served else "v2"


def model_name_of(md: ModelDeployment) -> str:
    """Return the model's name in the protocol's paths."""
    target = md.spec.target_ref
    if target:
        return target.model_name or target.name
    return (md.spec.model.name if md.spec.model else None) or md.metadata.name


def ready_path_of(md: ModelDeployment) -> str:
    """Return the path that answers 200 when the model is ready."""
    served, name = md.spec.model or md.spec.target_ref, model_name_of(md)
    own = f"/v2/models/{name}/ready" if protocol_of(md) == "v2" else f"/v1/models/{name}"
    return (served.ready_path if served else None) or own


def grpc_port_of(md: ModelDeployment) -> int | None:
    """Return the port on which the model server speaks gRPC; None: it is not asked for."""
    return md.spec.model.grpc_port if md.spec.model else None


def ports_of(model: ModelContainer) -> list[int]:
    """Return the ports of a model that modelward runs, none of which may be reached past the sidecar."""
    return [model.port, *([model.grpc_port] if model.grpc_port else [])]


def port_of(md: ModelDeployment) -> int | None:
    """Return the port that the manifest says; None where it is for the workload to tell."""
    served = md.spec.model or md.spec.target_ref
    return served.port if served else None
