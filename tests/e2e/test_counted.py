"""What is counted of requests, on the kind cluster: groups, combinations, and what only an auditor reads."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from demo.kubectl import Cluster, NotAsToldError, Output, wait_for
from demo.refusals import MODELWARD
from demo.serving import BUILD, condition, wait_ready
from tests.corpus import Manifest
from tests.e2e.conftest import Installed
from tests.e2e.test_detection import DOCTOR, replicas
from tests.e2e.test_life import MODEL, in_namespace

RADIUS = 0  # of the 30 columns: what malignant cells have more of than others
EDGE = 14.0
TIMES = 5  # 1,130 rows over two replicas: fewer than 1,000 tell nothing of combinations
APART = 60  # noise has a standard deviation of a few, and counts are rounded to 5


def counted(modelward: Installed, namespace: str, digest: str, key: Output) -> list[Manifest]:
    """The example's model, whose groups are large and small cells, and a policy that has them counted three ways."""
    model = in_namespace(modelward.example("model.yaml"), namespace)
    del model["spec"]["monitoring"], model["spec"]["explanations"]
    model["spec"]["fairness"] = {
        "protected": [{"field": "mean_radius", "edges": [EDGE], "groups": ["small", "large"]}],
        "favourable": {"output": "predict", "equals": "1"},
        "minimumGroupSize": 20,
        "maxDifference": 0.2,
    }
    policy = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "DataPolicy",
        "metadata": {"name": "counts", "namespace": namespace},
        "spec": {
            "kAnonymity": {"k": 3},
            "fields": [{"name": "mean_area", "role": "QuasiIdentifier", "treatment": "Bucket", "edges": [0, 600]}],
            "audit": {
                "publicKeyConfigMapName": "audit-key",
                "keysDigest": digest,
                "everySeconds": 10,
                "periodSeconds": 60,
                "minimumWindows": 2,
                "only": False,  # the status is read as well
            },
        },
    }
    return [json.loads(key.stdout), policy, in_namespace(modelward.example("jwks.yaml"), namespace), model]


def test_counted_and_by_whom(modelward: Installed, namespace: str, tmp_path: Path) -> None:
    cluster, keys = modelward.cluster, tmp_path / "dpo"
    made = cluster.run(MODELWARD, "audit", "keygen", "--out", keys).expect_ok()
    digest = re.findall(r"sha256:[0-9a-f]{64}", made.text)[0]
    options = (f"--from-file=keys.bin={keys}/public/keys.bin", "--dry-run=client", "-o", "json")
    key = cluster.kubectl("create", "configmap", "audit-key", "-n", namespace, *options).expect_ok()
    modelward.apply(*counted(modelward, namespace, digest, key))
    wait_ready(cluster, namespace, MODEL)

    rows = np.loadtxt(cluster.folder / BUILD / "holdout.csv", delimiter=",", skiprows=1)[:, :30]
    _ask(cluster, namespace, rows)
    resource = wait_for("groups and combinations in the status", lambda: _told(cluster, namespace), timeout=300)
    assert condition(resource, "Fair")["reason"] == "DifferenceTooLarge"
    groups = {group["name"]: group for group in resource["status"]["fairness"]["attributes"][0]["groups"]}
    assert groups["small"]["selectionRate"] > groups["large"]["selectionRate"] + 0.2
    assert resource["status"]["reidentification"]["combinations"] == 1, "two are told as a few"
    assert "a few combinations" in condition(resource, "KAnonymous")["message"]

    place = (f"md/{MODEL}", "-n", namespace)
    opened = wait_for("an aggregate that the auditor opens", lambda: _opened(cluster, keys, *place), timeout=300)
    counts = {(one["of"], one["cell"]): one["rows"] or 0 for one in opened["counts"]}
    small = sum(count for (_, cell), count in counts.items() if cell.startswith("small"))
    assert abs(small - 2 * TIMES * int((rows[:, RADIUS] < EDGE).sum())) < APART, counts


def _ask(cluster: Cluster, namespace: str, rows: np.ndarray) -> None:
    """Ask both replicas about all rows, often enough that there is something to tell."""
    tensor = {"name": "features", "datatype": "FP64", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    with replicas(cluster, namespace) as both:
        for pod in both * TIMES:
            status, content = pod.send(DOCTOR, body)
            assert status == 200, content


def _told(cluster: Cluster, namespace: str) -> dict[str, Any] | None:
    resource = cluster.get("modeldeployment", MODEL, "-n", namespace)
    status = resource.get("status", {})
    found = [condition(resource, kind) for kind in ("Fair", "KAnonymous")]
    if [one.get("status") for one in found] != ["False", "True"]:
        raise NotAsToldError(json.dumps([found, status.get("fairness"), status.get("reidentification")]))
    return resource


def _opened(cluster: Cluster, keys: Path, *place: str) -> dict[str, Any] | None:
    time.sleep(5)
    done = cluster.run(MODELWARD, "audit", "open", "--keys", keys, "--from-cluster", *place, "-o", "json")
    if not done.ok:
        raise NotAsToldError(done.text)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
