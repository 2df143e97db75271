"""The whole way on the kind cluster: `make demo` checks each step, and ends with 0 when all are as told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_demo_is_as_told() -> None:
    done = subprocess.run([sys.executable, "-m", "demo"], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, "the demo says above which step is not as told, and what the cluster looks like"
