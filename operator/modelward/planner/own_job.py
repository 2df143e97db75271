"""What modelward's own Jobs have in common: a pod without rights, which nobody calls but the controller.

Its pods are the one kind that needs no sidecar in a protected namespace; who may make them, see `planner.job_policy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from modelward.api.modeldeployment import ModelDeployment
from modelward.errand import PORT
from modelward.planner.names import KubeObject, metadata, namespace_of
from modelward.planner.sidecar import JOB_FOR_LABEL, JOB_LABEL, SYSTEM_NAMESPACE, USER

Kind = Literal["fit", "security-test"]
"""The value of `JOB_LABEL`."""
OF_JOB_LABEL = "batch.kubernetes.io/job-name"
"""The Job controller's own label on pods."""


def job_labels(kind: Kind, md: ModelDeployment) -> dict[str, str]:
    """Labels of such a pod. Not those of a model's pods: those answer callers, and carry a sidecar."""
    return {JOB_LABEL: kind, JOB_FOR_LABEL: md.metadata.name}


def job_host_name(kind: Kind, namespace: str, model: str) -> str:
    """Return the name in the certificate of a Job's pod; no Service can have it."""
    return f"{model}.{namespace}.{kind}.modelward.internal"


def controllers_pods() -> KubeObject:
    """Return the controller's pods, as a NetworkPolicy names them."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM_NAMESPACE}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/component": "controller"}},
    }


def job_network_policy(md: ModelDeployment, kind: Kind, name: str, egress: Sequence[KubeObject]) -> KubeObject:
    """Return the NetworkPolicy of such a Job's pods: the controller may call them, and they may call `egress`."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(md, name),
        "spec": {
            "podSelector": {"matchLabels": job_labels(kind, md)},
            "policyTypes": ["Egress", "Ingress"],
            "ingress": [{"from": [controllers_pods()], "ports": [{"protocol": "TCP", "port": PORT}]}],
            "egress": list(egress),
        },
    }


def job_container(
    name: str, image: str, command: Sequence[str], args: Sequence[str], resources: Any, mounts: Sequence[KubeObject]
) -> KubeObject:
    """Return the one container of such a pod."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "args": list(args),
        "ports": [{"name": "https", "containerPort": PORT, "protocol": "TCP"}],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],  # noqa: S108 - the container's own
    }


def job_pod(container: KubeObject, volumes: Sequence[KubeObject], scratch: str) -> dict[str, Any]:
    """Return the pod's spec: no token, no name of a Service, no right; `scratch` bounds what it may write."""
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": scratch}}, *volumes],
    }


def common_arguments(md: ModelDeployment, folder: str, config_key: str) -> list[str]:
    """Arguments that each of these programs takes: how it is asked, by whom, and for which model it works."""
    return [
        f"--tls={folder}",
        f"--config-key={config_key}",
        f"--model={namespace_of(md)}/{md.metadata.name}",
        f"--port={PORT}",
    ]


def runs(pod: Mapping[str, Any], kind: Kind, image: str, command: Sequence[str]) -> bool:
    """Tell whether a pod that says it is such a Job's runs its program and nothing else."""
    spec = pod["spec"]
    labels = pod["metadata"].get("labels") or {}
    containers = spec.get("containers") or [{}]
    return (
        labels.get(JOB_LABEL) == kind
        and not spec.get("initContainers")
        and not spec.get("ephemeralContainers")
        and not spec.get("hostNetwork")
        and len(containers) == 1
        and containers[0].get("image") == image
        and containers[0].get("command") == list(command)
    )


def job_failure(job: KubeObject, pods: Sequence[KubeObject], container: str) -> str:
    """Say why a Job failed, in its container's own words where it left any; nothing while it has not."""
    failed = next(
        (
            one
            for one in job.get("status", {}).get("conditions", ())
            if one["type"] == "Failed" and one["status"] == "True"
        ),
        None,
    )
    if failed is None:
        return ""
    words = [
        state["message"]
        for pod in sorted(pods, key=lambda one: str(one["metadata"].get("creationTimestamp", "")))
        for each in pod.get("status", {}).get("containerStatuses", ())
        if each["name"] == container and (state := each.get("state", {}).get("terminated", {})).get("message")
    ]
    return str(words[-1] if words else failed.get("message", failed.get("reason", "it failed")))
