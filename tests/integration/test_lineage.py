"""`modelward lineage` of a real API server: data that only a statement names, a model, and who got its answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.test_controller import PLACE, Controller, cluster, controller, place
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


def lineage(controller: Controller, *arguments: str) -> subprocess.CompletedProcess[str]:
    server = controller.server
    path = os.pathsep.join([str(server.bin_dir), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "modelward.cli.main", "lineage", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": str(server.kubeconfig), "PATH": path, "HOME": str(server.folder)},
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
