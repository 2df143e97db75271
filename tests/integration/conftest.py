"""The API server of the integration tests, with the CRDs in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelward.api.crd import KINDS, crd
from tests.integration.apiserver import ApiServer, started

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bin_dir() -> Path:
    """The folder with etcd, kube-apiserver and kubectl; built on first use, which takes minutes."""
    given = os.environ.get("MODELWARD_TEST_BIN")
    if given:
        return Path(given)
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "tools"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, "the tools (etcd, kube-apiserver, kubectl) could not be built: see above"
    return Path(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def apiserver(bin_dir: Path) -> Iterator[ApiServer]:
    """A real API server that knows modelward's resources.

    One a module: policies and webhooks that a module leaves behind would judge what the next one makes.
    """
    server = started(bin_dir)
    try:
        result = server.apply(*(crd(kind) for kind in KINDS))
        assert result.ok, result.stderr
        waited = server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        assert waited.ok, waited.stderr
        deadline = time.monotonic() + 30
        while not (listed := server.kubectl("explain", "modeldeployments.spec.model")).ok:  # discovery lags
            assert time.monotonic() < deadline, listed.stderr
            time.sleep(0.2)
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
