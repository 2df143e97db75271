"""The Job that fits a model's baseline on a data set, and what goes with it.

Its pod reads personal data, so it is given nothing to carry them out by: no service account's token, nobody who may
call it but the controller, and no way out but to where the data is fetched from, if they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelward import allowlist
from modelward.api.modeldeployment import ModelDeployment
from modelward.errand import DATA_DIR, USER_ERROR, Errand, FitRequest
from modelward.planner.access import Destinations
from modelward.planner.dataset import Dataset
from modelward.planner.names import KubeObject, metadata
from modelward.planner.network_policy import name_resolution
from modelward.planner.own_job import (
    Kind,
    common_arguments,
    job_container,
    job_host_name,
    job_labels,
    job_network_policy,
    job_pod,
    runs,
)
from modelward.planner.secret import ServingCertificate, secret_of

CONTAINER_NAME = "fit"
COMMAND = ("python3", "-m", "modelward.cli.fit_job")
ERRAND_FILE = "errand.json"
DIGEST_ANNOTATION = "modelward.io/fit-request"
_FIT: Kind = "fit"
_ERRAND_DIR = "/etc/modelward/fit"
_DEADLINE_SECONDS = 900
_TTL_SECONDS = 600  # then what failed is tried again, by a new Job of the same name
_RESOURCES = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}}
_SCRATCH = "1Gi"


def fit_name(model: str) -> str:
    """Return the name of the Secret and of the NetworkPolicy of a model's Job: with a dot, as no model's name has."""
    return f"{model}.fit"


def baseline_name(model: str) -> str:
    """Return the name of the Secret with the baseline that was fitted for a model."""
    return f"{model}.baseline"


def job_name(model: str, request: FitRequest) -> str:
    """Return the name of the Job for this very request: another request is another Job."""
    return f"{model}-fit-{request.digest[:8]}"


def host_name(namespace: str, model: str) -> str:
    """Return the name in the certificate of a Job's pod."""
    return job_host_name(_FIT, namespace, model)


def not_allowed(dataset: Dataset, datasets: Destinations) -> str:
    """Say why data may not be fetched from there; nothing where it may."""
    return allowlist.problem(dataset.url, datasets.allow, "the chart's value datasets.allow") if dataset.url else ""


def fit_secret(
    md: ModelDeployment, request: FitRequest, certificate: ServingCertificate, datasets: Destinations
) -> KubeObject:
    """Return the Secret with the Job's errand and the certificate that it answers the controller with."""
    errand = Errand(request, datasets.allow, datasets.authorities) if request.source.url else Errand(request)
    content = msgspec.json.encode(errand, order="deterministic")
    data = {ERRAND_FILE: content, "tls.crt": certificate.chain, "tls.key": certificate.key}
    head = metadata(md, fit_name(md.metadata.name))
    return secret_of({**head, "annotations": {DIGEST_ANNOTATION: request.digest}}, data)


def baseline_secret(md: ModelDeployment, request: FitRequest, key: str, baseline: bytes) -> KubeObject:
    """Return the Secret that keeps what was fitted, under `key`: a baseline holds rows of the data that it is of."""
    head = metadata(md, baseline_name(md.metadata.name))
    return secret_of({**head, "annotations": {DIGEST_ANNOTATION: request.digest}}, {key: baseline})


def fit_network_policy(md: ModelDeployment, request: FitRequest, datasets: Destinations) -> KubeObject:
    """Return the NetworkPolicy of the Job's pod: the controller may call it, and it may call where its data is."""
    egress = [name_resolution(), *(way.rule() for way in datasets.egress)] if request.source.url else []
    return job_network_policy(md, _FIT, fit_name(md.metadata.name), egress)


def fit_job(md: ModelDeployment, request: FitRequest, dataset: Dataset, image: str, config_key: str) -> KubeObject:
    """Return the Job.

    Args:
        md: the ModelDeployment.
        request: what it is to fit.
        dataset: where its data is.
        image: the jobs' image.
        config_key: base64 of the public key that the controller's tokens verify by.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(md, job_name(md.metadata.name, request)),
        "spec": {
            "backoffLimit": 1,
            "activeDeadlineSeconds": _DEADLINE_SECONDS,
            "ttlSecondsAfterFinished": _TTL_SECONDS,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": CONTAINER_NAME, "operator": "In", "values": [USER_ERROR]},
                    }
                ]
            },
            "template": {
                "metadata": {"labels": job_labels(_FIT, md)},
                "spec": _pod(md, dataset, image, config_key),
            },
        },
    }


def is_fit(pod: Mapping[str, Any], image: str) -> bool:
    """Tell whether a pod that says it fits a baseline does that and nothing else: no sidecar stands in front of it."""
    return runs(pod, _FIT, image, COMMAND)


def _pod(md: ModelDeployment, dataset: Dataset, image: str, config_key: str) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [{"name": "errand", "mountPath": _ERRAND_DIR, "readOnly": True}]
    volumes: list[dict[str, Any]] = [
        {"name": "errand", "secret": {"secretName": fit_name(md.metadata.name), "defaultMode": 0o440}},
    ]
    if dataset.claim:
        mounts.append({"name": "data", "mountPath": DATA_DIR, "readOnly": True})
        claim = {"claimName": dataset.claim, "readOnly": True}
        volumes.append({"name": "data", "persistentVolumeClaim": claim})
    args = [f"--errand={_ERRAND_DIR}/{ERRAND_FILE}", *common_arguments(md, _ERRAND_DIR, config_key)]
    return job_pod(job_container(CONTAINER_NAME, image, COMMAND, args, _RESOURCES, mounts), volumes, _SCRATCH)
