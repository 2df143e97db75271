"""`modelward report` of a real API server: what the controller and its Events told, and lineage that was signed for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_controller import PLACE, Controller, cluster, controller, place
from tests.integration.test_lineage import BUNDLES
from tests.integration.test_signed_lineage import prepare
from tests.unit.lineage.signers import DATASET, MODEL, RAW

pytestmark = pytest.mark.timeout(300)
__all__ = ["cluster", "controller", "place"]


def report(controller: Controller, *arguments: str) -> subprocess.CompletedProcess[str]:
    server = controller.server
    path = os.pathsep.join([str(server.bin_dir), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "modelward.cli.main", "report", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig), "PATH": path, "HOME": str(server.folder)},
    )


def event(component: str, message: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": component, "namespace": PLACE},
        "involvedObject": {"kind": "ModelDeployment", "namespace": PLACE, "name": "wdbc"},
        "type": "Warning",
        "reason": "SidecarMissing",
        "message": message,
        "source": {"component": component},
        "firstTimestamp": "2026-11-01T08:00:00Z",
        "lastTimestamp": "2026-11-01T09:00:00Z",
        "count": 2,
    }


async def test_what_the_cluster_told(controller: Controller, tmp_path: Path) -> None:
    prepare(controller, BUNDLES)
    await controller.reconcile("wdbc")
    server = controller.server
    assert server.apply(event("modelward-controller", "a pod runs without it"), event("kubelet", "not ours")).ok
    annotated = server.kubectl("annotate", "namespace", PLACE, "register.modelward.io/retention=10 years")
    assert annotated.ok, annotated.stderr

    done = report(controller, "-n", PLACE, "-o", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["notes"] == []
    (model,) = [one for one in told["models"] if one["name"] == "wdbc"]
    assert model["register"]["retention"] == "10 years"
    assert {one["type"]: one["status"] for one in model["conditions"]}["Encrypted"] == "True"
    assert [(one["kind"], one["message"], one["count"]) for one in told["incidents"] if one["source"] == "event"] == [
        ("SidecarMissing", "a pod runs without it", 2)
    ]
    assert 6 < next(one["days"] for one in told["certificates"] if one["model"] == f"{PLACE}/wdbc") < 8
    edges = {(one["source"], one["target"]) for one in told["lineage"]["edges"]}
    assert {(f"sha256:{RAW}", f"sha256:{DATASET}"), (f"sha256:{MODEL}", f"model:{PLACE}/wdbc")} <= edges

    page = tmp_path / "report.html"
    assert report(controller, "--out", str(page)).returncode == 0
    assert f"{PLACE}/wdbc" in page.read_text(encoding="utf-8")
