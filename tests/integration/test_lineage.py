"""`modelward lineage` of a real API server: data that only a statement names, a model, and who got its answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.apiserver import ADMIN_TOKEN
from tests.integration.test_controller import PLACE, SYSTEM, Controller, apply, cluster, controller, place
from tests.integration.test_signed_lineage import prepare
from tests.unit.lineage.signers import DATASET, MODEL, RAW, about, signed

pytestmark = pytest.mark.timeout(300)
__all__ = ["cluster", "controller", "place"]

BUNDLES = {"model.json": signed(about(MODEL, "wdbc")), "data.json": signed(about(DATASET, "wdbc.csv", sources=[RAW]))}
CONSUMER = {
    "client": "user:dr-lee",
    "issuer": "clinic",
    "purpose": "diagnosis",
    "first": "2026-11-01T08:00:00Z",
    "last": "2026-11-02T08:00:00Z",
    "requests": 17,
}


def lineage(controller: Controller, *arguments: str, token: str = ADMIN_TOKEN) -> subprocess.CompletedProcess[str]:
    server = controller.server
    path = os.pathsep.join([str(server.bin_dir), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "modelward.cli.main", "lineage", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig_for(token)), "PATH": path, "HOME": str(server.folder)},
    )


async def test_the_questions_of_a_breach(controller: Controller) -> None:
    prepare(controller, BUNDLES)
    await controller.reconcile("wdbc")
    patch = json.dumps({"status": {"lineage": {"consumers": [CONSUMER]}}})
    flags = ("--subresource=status", "--type=merge", "--patch", patch)
    patched = controller.server.kubectl("patch", "modeldeployment", "wdbc", "-n", PLACE, *flags)
    assert patched.ok, patched.stderr

    told = lineage(controller, "md/wdbc", "-n", PLACE)
    assert told.returncode == 0, told.stderr
    lines = [line.strip() for line in told.stdout.splitlines()]
    assert f"dataset  s3://clinic/wdbc.csv  sha256:{DATASET}  signed by key:ml" in lines
    assert f"dataset  (no name)  sha256:{RAW}" in lines
    assert "all features: z-score (why: input contract)" in lines
    assert "user:dr-lee (clinic): diagnosis, 17 requests, 2026-11-01T08:00:00Z to 2026-11-02T08:00:00Z" in lines
    assert "triage: declared by the model's owner" in lines

    reached = lineage(controller, "--digest", f"sha256:{RAW}", "-o", "json")
    assert reached.returncode == 0, reached.stderr
    found: dict[str, Any] = json.loads(reached.stdout)
    names = {one["names"][0] for one in found["nodes"] if one["names"]}
    assert {f"{PLACE}/wdbc", "user:dr-lee", "triage", "s3://clinic/wdbc.csv"} <= names
    assert found["findings"] == found["notes"] == []

    unknown = lineage(controller, "md/nobody", "-n", PLACE)
    assert (unknown.returncode, f"models that are known: {PLACE}/wdbc" in unknown.stderr) == (2, True)


READS = [
    {"apiGroups": ["modelward.io"], "resources": ["modeldeployments"], "verbs": ["get", "list"]},
    {"apiGroups": ["modelward.io"], "resources": ["datapolicies", "clusterdatapolicies"], "verbs": ["get", "list"]},
]


def one_object(resource: str, name: str, namespace: str) -> list[dict[str, Any]]:
    """The right of bob to get one object, and nothing else."""
    role = f"bob-{name}"
    rule = {"apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": ["get"]}
    metadata = {"name": role, "namespace": namespace}
    kind = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": kind, "kind": "Role", "metadata": metadata, "rules": [rule]},
        {
            "apiVersion": kind,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
        },
    ]


async def test_statements_in_a_secret_are_read_with_the_right_to_that_one_alone(controller: Controller) -> None:
    server, kind = controller.server, "rbac.authorization.k8s.io/v1"
    held = {key: content.decode() for key, content in BUNDLES.items()}
    kept = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept", "namespace": PLACE}, "stringData": held}
    reader = {"apiVersion": kind, "kind": "ClusterRole", "metadata": {"name": "bob-reads"}, "rules": READS}
    bound = {
        "apiVersion": kind,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "bob-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bob-reads"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    }
    rights = [reader, bound, *one_object("configmaps", "signers", SYSTEM)]
    apply(server, kept, *rights)
    prepare(controller, {}, statements="secret/kept")
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("True", "Signed")

    without = lineage(controller, "md/wdbc", "-n", PLACE, token="bob-token")
    assert without.returncode == 0, without.stderr
    assert "signed by key:ml" in without.stdout, "the controller says so"
    assert RAW not in without.stdout
    assert f"Secret kept of {PLACE}, which is read with --secrets alone" in without.stderr

    refused = lineage(controller, "md/wdbc", "-n", PLACE, "--secrets", token="bob-token")
    assert f"Secret kept of {PLACE} could not be read: " in refused.stderr
    assert RAW not in refused.stdout

    right = one_object("secrets", "kept", PLACE)
    apply(server, *right)
    read = lineage(controller, "md/wdbc", "-n", PLACE, "--secrets", token="bob-token")
    assert (read.returncode, read.stderr) == (0, "")
    assert f"dataset  (no name)  sha256:{RAW}" in [line.strip() for line in read.stdout.splitlines()]
    server.delete(*rights, *right, kept)
