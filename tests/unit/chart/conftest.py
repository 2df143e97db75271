"""The chart, rendered by the real Helm."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.go_builds import PROGRAMS
from tests.unit.chart.rendering import TEMPLATE, Helm, Render


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Run Helm with the arguments given."""
    given = os.environ.get("MODELWARD_TEST_BIN")
    program = Path(given) / "helm" if given else PROGRAMS["helm"].path
    if not program.exists():
        pytest.fail(f"Helm is not built yet ({program} is not there): run `python3 -m tests.cluster tools`")

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *args], capture_output=True, text=True, timeout=30, check=False)

    return run


def _render(helm: Helm, *settings: str) -> list[dict[str, Any]]:
    options = [option for setting in settings for option in ("--set", setting)]
    done = helm(*TEMPLATE, "--namespace", "modelward-system", *options)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(done.stdout) if item]


@pytest.fixture(scope="session")
def render(helm: Helm) -> Render:
    """Render the templates with `--set` settings; returns the objects."""
    return partial(_render, helm)


@pytest.fixture(scope="session")
def objects(render: Render) -> list[dict[str, Any]]:
    """The objects that the default values give."""
    return render()
