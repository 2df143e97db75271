"""The Deployment: the model server, hardened, behind the sidecar that the webhook adds to its pods."""

from __future__ import annotations

from typing import Any

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.workload import EnvVar, ModelContainer
from modelward.planner.names import KubeObject, labels, metadata
from modelward.planner.quantity import canonical_quantity
from modelward.planner.sidecar import INJECT_ENABLED, INJECT_LABEL

CONTAINER_NAME = "model"
RUNTIME_ANNOTATION = "modelward.io/runtime"
_TMP_VOLUME = "tmp"
_TMP_LIMIT = "1Gi"
_GRACE_SECONDS = 45  # the sidecar drains for 25 s, and ends after the model


def deployment(md: ModelDeployment, model: ModelContainer, runtime: str) -> KubeObject:
    """Return the Deployment of a model.

    Its pods are not restarted when the sidecar's configuration changes: the sidecar reloads it.

    Args:
        md: the ModelDeployment.
        model: its `spec.model`.
        runtime: digest of the sidecar that is injected; pods are replaced when it changes.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(md, md.metadata.name),
        "spec": {
            "replicas": md.spec.replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": labels(md)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": {**labels(md), INJECT_LABEL: INJECT_ENABLED},
                    "annotations": {RUNTIME_ANNOTATION: runtime},
                },
                "spec": pod_spec(md, model),
            },
        },
    }


def pod_spec(md: ModelDeployment, model: ModelContainer) -> dict[str, Any]:
    """Return the spec of a model's pods, before the sidecar is in it."""
    pod: dict[str, Any] = {
        "serviceAccountName": md.metadata.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(md)},
            }
        ],
        "containers": [_container(model)],
        "volumes": [{"name": _TMP_VOLUME, "emptyDir": {"sizeLimit": _TMP_LIMIT}}]
        + [
            {
                "name": f"claim-{index}",
                "persistentVolumeClaim": _present(claimName=claim.claim_name, readOnly=claim.read_only),
            }
            for index, claim in enumerate(model.volume_claims)
        ],
    }
    if model.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in model.image_pull_secrets]
    return pod


def _container(model: ModelContainer) -> dict[str, Any]:
    # No port is declared and no probe set: the model listens on the loopback address, out of the kubelet's reach.
    # The sidecar's readiness asks it for its own.
    return _present(
        name=CONTAINER_NAME,
        image=model.image,
        imagePullPolicy="IfNotPresent",
        command=model.command,
        args=model.args,
        env=[_variable(variable) for variable in model.env],
        resources=_resources(model),
        securityContext={
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
            **({} if model.run_as_user is None else {"runAsUser": model.run_as_user}),
        },
        volumeMounts=[{"name": _TMP_VOLUME, "mountPath": "/tmp"}]  # noqa: S108 - the container's own
        + [
            _present(name=f"claim-{index}", mountPath=claim.mount_path, readOnly=claim.read_only)
            for index, claim in enumerate(model.volume_claims)
        ],
    )


def _variable(variable: EnvVar) -> dict[str, Any]:
    source = variable.value_from
    if source is None:
        return _present(name=variable.name, value=variable.value)
    value_from = source.model_dump(by_alias=True, exclude_none=True)
    return {"name": variable.name, "valueFrom": value_from}


def _resources(model: ModelContainer) -> dict[str, Any]:
    if model.resources is None:
        return {}
    return _present(
        requests={name: canonical_quantity(value) for name, value in model.resources.requests.items()},
        limits={name: canonical_quantity(value) for name, value in model.resources.limits.items()},
    )


def _present(**fields: Any) -> dict[str, Any]:
    """Leave out what the API server leaves out: what is empty, and `false`."""
    return {name: value for name, value in fields.items() if value}
