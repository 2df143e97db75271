"""The sidecar as it stands in a pod: one container and two volumes, a pure function of three strings.

The controller plans it, the webhook injects it, and the ValidatingAdmissionPolicy compares with it; all of them call
the functions below, so none can drift from the others. Every field that the API server would default is written out:
what comes back from it is then equal to what was sent, and "is this the genuine sidecar" is a comparison.
"""

from __future__ import annotations

from typing import Any

CONTAINER_NAME = "modelward-sidecar"
CONFIG_VOLUME = "modelward-config"
TLS_VOLUME = "modelward-tls"
KEYS_FILE = "pseudonym.keys"  # in the serving Secret
CONFIG_DIR = "/etc/modelward/config"
TLS_DIR = "/etc/modelward/tls"
HTTPS_PORT = 8443
GRPC_PORT = 8444  # listened on where the model has a gRPC port
METRICS_PORT = 9090
USER = 65532  # "nonroot" of distroless images

INJECT_LABEL = "modelward.io/inject"
INJECT_ENABLED = "enabled"
MODEL_LABEL = "modelward.io/model"
PROTECTED_LABEL = "modelward.io/protected"  # on namespaces; "true" puts every pod in scope
PORT_LABEL = "modelward.io/model-port"  # the port whose place the sidecar takes; see `planner.takeover`
JOB_LABEL = "modelward.io/job"  # on the pods of modelward's own Jobs; its value says what they do
JOB_FOR_LABEL = "modelward.io/job-for"  # for which model
RUNTIME_LABEL = "modelward.io/runtime"  # of such pods, which are replaced when the sidecar becomes another
RELEASE_ANNOTATION = "modelward.io/release"  # on ModelDeployments: the client to be let out of quarantine
RELEASE_AT_ANNOTATION = "modelward.io/release-at"  # when that was asked for: asked for again, it is done again
MODEL_ANNOTATION = "modelward.io/model-deployment"  # how a pod made by hand names its ModelDeployment

SYSTEM_NAMESPACE = "modelward-system"
SETTINGS_NAME = "modelward-sidecar"  # ConfigMap in the system namespace, written by the controller
IMAGE_KEY = "image"
FORMER_IMAGES_KEY = "formerImages"  # images that the sidecar had before, separated by spaces
CONFIG_KEY_KEY = "configKey"  # base64 of the Ed25519 public key that signs sidecar configurations

LIMITS_PASSWORD_KEY = "limits-password"  # noqa: S105 - a name: in the Secret with the serving certificate

# Where Kubernetes mounts a service account's token into every container of a pod, the sidecar included.
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path, not a token

_READ_FOR_ALL = 0o644  # what the API server defaults to; the sidecar's user owns neither volume


def config_map_name(model: str) -> str:
    """Return the name of the ConfigMap with the signed configuration of a model's sidecar."""
    return f"{model}-sidecar"


def serving_secret_name(model: str) -> str:
    """Return the name of the Secret with the serving certificate of a model's sidecar."""
    return f"{model}-serving"


def sidecar_container(model: str, image: str, config_key: str) -> dict[str, Any]:
    """Return the native sidecar (an init container that restarts) of a model's pods.

    Args:
        model: name of the ModelDeployment.
        image: image of the sidecar, by digest.
        config_key: base64 of the raw 32-byte Ed25519 public key that its configuration is signed with.
    """
    return {
        "name": CONTAINER_NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": ["modelward-sidecar"],
        "args": [
            f"--config-dir={CONFIG_DIR}",
            f"--tls-dir={TLS_DIR}",
            f"--config-key={config_key}",
            f"--model={model}",
        ],
        "env": [
            _from_pod("MODELWARD_NAMESPACE", "metadata.namespace"),
            _from_pod("MODELWARD_POD", "metadata.name"),
        ],
        "ports": [
            {"name": "https", "containerPort": HTTPS_PORT, "protocol": "TCP"},
            {"name": "modelward-grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"},
        ],
        # Started before any other container; Kubernetes starts the model once /healthz answers.
        "startupProbe": _probe("/healthz", period=1, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": USER,
            "runAsNonRoot": True,
            "runAsUser": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": TLS_VOLUME, "mountPath": TLS_DIR, "readOnly": True},
        ],
    }


def sidecar_volumes(model: str) -> list[dict[str, Any]]:
    """Return the volumes that the sidecar of a model's pods mounts; no other container may."""
    return [
        {"name": CONFIG_VOLUME, "configMap": {"name": config_map_name(model), "defaultMode": _READ_FOR_ALL}},
        {"name": TLS_VOLUME, "secret": {"secretName": serving_secret_name(model), "defaultMode": _READ_FOR_ALL}},
    ]


def _from_pod(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": METRICS_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "successThreshold": 1,
        "failureThreshold": failures,
    }
