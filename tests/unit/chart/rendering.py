"""Where the chart is, and how its rendered objects are looked at."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster import versions

CHART = Path(__file__).parents[3] / "charts" / "modelward"
# For the oldest Kubernetes: an old Helm takes the cluster for its own age where there is none to ask.
TEMPLATE = ("template", "modelward", str(CHART), f"--kube-version={versions.OTHER_KUBERNETES[0]}")

Helm = Callable[..., subprocess.CompletedProcess[str]]
Render = Callable[..., list[dict[str, Any]]]
Objects = list[dict[str, Any]]


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    """Return the objects of some kinds by name."""
    return {item["metadata"]["name"]: item for item in objects if item["kind"] in kinds}


def hook_of(item: dict[str, Any]) -> str:
    """Return the moment that Helm writes an object at; empty for those of the release itself."""
    return str((item["metadata"].get("annotations") or {}).get("helm.sh/hook", ""))
