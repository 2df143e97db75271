"""The policies that hold with every modelward pod dead, in force on a real API server, and people to try them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from modelward.planner.injection import inject
from modelward.planner.pod_policy import identity_policies, pod_policies
from tests.integration.apiserver import ApiServer, Result

IMAGE = "modelward-sidecar@sha256:" + "a" * 64
KEY = "a2V5"
NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}
MANAGED = {"app.kubernetes.io/managed-by": "modelward", "modelward.io/model": "wdbc"}
ALICE = "alice-token"
CONTROLLER = "controller-token"
EVERYTHING = ["get", "list", "create", "update", "patch", "delete", "deletecollection"]
ENGINEER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "engineer-and-more"},
    "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": EVERYTHING}],
}


def bound(role: str, user: str) -> dict[str, Any]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{role}-{user.replace(':', '-')}"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def bare_pod(name: str, space: str = "clinic", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "labels": dict(NAMED if labels is None else labels)},
        "spec": {"containers": [{"name": "model", "image": "model:1"}], **spec},
    }


def genuine(name: str, space: str = "clinic", **spec: Any) -> dict[str, Any]:
    return inject(bare_pod(name, space, **spec), image=IMAGE, config_key=KEY)


@contextmanager
def in_force(apiserver: ApiServer, *others: dict[str, Any]) -> Iterator[ApiServer]:
    """Put the policies, and others, into force while the context lasts; `ward` is protected, `clinic` is not."""
    policies = [*pod_policies(), *identity_policies(IMAGE, KEY), *others]
    result = apiserver.apply(
        namespace("modelward-system"),
        namespace("clinic"),
        namespace("ward", **{"modelward.io/protected": "true"}),
        ENGINEER,
        bound("engineer-and-more", "alice"),
        bound("cluster-admin", "system:serviceaccount:modelward-system:modelward-controller"),
    )
    assert result.ok, result.stderr
    result = apiserver.apply(*policies)
    assert result.ok, result.stderr
    deadline = time.monotonic() + 30
    decoy = inject(bare_pod("probe"), image="evil:1", config_key=KEY)
    for probe in (bare_pod("probe"), decoy):
        while apiserver.kubectl("create", "--dry-run=server", "-f", "-", input=yaml.safe_dump(probe)).ok:
            assert time.monotonic() < deadline, "the policies did not come into force"
            time.sleep(0.2)
    try:
        yield apiserver
    finally:
        apiserver.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(policies))
        for space in ("clinic", "ward"):
            apiserver.kubectl("-n", space, "delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false")


def create(cluster: ApiServer, manifest: dict[str, Any], token: str = ALICE) -> Result:
    return cluster.kubectl("create", "-f", "-", input=yaml.safe_dump(manifest), token=token)


def patch(cluster: ApiServer, what: str, change: Any, *flags: str, space: str = "clinic", token: str = ALICE) -> Result:
    return cluster.kubectl("-n", space, "patch", what, "--type=merge", "-p", json.dumps(change), *flags, token=token)


def refused(result: Result, text: str) -> None:
    assert not result.ok, result.stdout
    assert "ValidatingAdmissionPolicy" in result.stderr, result.stderr
    assert text in result.stderr


def managed(kind: str, name: str = "wdbc") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "clinic", "labels": dict(MANAGED)}
    selector = {"matchLabels": {"modelward.io/model": "wdbc"}}
    template = {"metadata": {"labels": NAMED}, "spec": {"containers": [{"name": "model", "image": "model:1"}]}}
    return {
        "Service": {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 443}]}},
        "Secret": {"apiVersion": "v1", "kind": "Secret", "metadata": metadata},
        "ServiceAccount": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        "ConfigMap": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata},
        "Deployment": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": selector, "template": template},
        },
        "NetworkPolicy": {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": metadata,
            "spec": {"podSelector": selector},
        },
        "PodDisruptionBudget": {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {"selector": selector},
        },
    }[kind]
