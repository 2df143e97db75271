"""The API server of the integration tests, with the CRDs in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
        server.install_crds()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)
