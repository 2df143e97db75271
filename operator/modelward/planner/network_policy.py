"""The NetworkPolicy: in through the sidecar only, out to name resolution and to what access control needs only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.names import KubeObject, metadata, selector
from modelward.planner.own_job import controllers_pods, job_labels
from modelward.planner.sidecar import GRPC_PORT, HTTPS_PORT, METRICS_PORT
from modelward.planner.upstream import grpc_port_of

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_NODE_LOCAL_DNS = "169.254.20.10/32"  # the address that Kubernetes' own node-local cache listens on


def network_policy(
    md: ModelDeployment,
    monitoring_namespaces: Sequence[str],
    access: Sequence[KubeObject] = (),
    *,
    withheld: bool = False,
) -> KubeObject:
    """Return the NetworkPolicy of a model's pods.

    Callers reach the sidecar from anywhere: it authenticates them. Metrics are for the monitoring's namespaces. The
    model's own port is for nobody. What the model needs at run time comes in its image or in its volumes: a model that
    could call out could carry out what it sees. A workload that runs already may need to: it says so by `egress`.

    Args:
        md: the ModelDeployment.
        monitoring_namespaces: from where metrics may be read.
        access: ways out that the sidecar needs for access control, see `access.egress_rules`.
        withheld: whether callers are kept away for now: then the controller and the model's security test get in alone.
    """
    callers = [HTTPS_PORT, *([GRPC_PORT] if grpc_port_of(md) else [])]
    ingress: list[dict[str, Any]] = [{"ports": [{"protocol": "TCP", "port": port} for port in callers]}]
    if withheld:
        ingress[0]["from"] = [controllers_pods(), {"podSelector": {"matchLabels": job_labels("security-test", md)}}]
    if monitoring_namespaces:
        chosen = {"key": _NAMESPACE_NAME, "operator": "In", "values": sorted(monitoring_namespaces)}
        monitoring = {"namespaceSelector": {"matchExpressions": [chosen]}}
        ingress.append({"from": [monitoring], "ports": [{"protocol": "TCP", "port": METRICS_PORT}]})
    spec: KubeObject = {"podSelector": {"matchLabels": selector(md)}, "policyTypes": ["Ingress"], "ingress": ingress}
    target = md.spec.target_ref
    if target is None or target.egress == "Closed":
        spec |= {"policyTypes": ["Egress", "Ingress"], "egress": [name_resolution(), *access]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(md, md.metadata.name),
        "spec": spec,
    }


def name_resolution() -> KubeObject:
    """Return the way out to the cluster's name servers, as a NetworkPolicy has it."""
    return {
        "to": [
            {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: "kube-system"}}},
            {"ipBlock": {"cidr": _NODE_LOCAL_DNS}},
        ],
        "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
    }
