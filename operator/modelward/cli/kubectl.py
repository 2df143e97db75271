"""The cluster, asked through `kubectl`, with whatever cluster and credentials it uses."""

from __future__ import annotations

import json
import subprocess
from typing import Any

_SECONDS = 20  # patience with one answer


class KubectlError(Exception):
    """The cluster cannot be asked."""


def kubectl(*arguments: str) -> str:
    """What kubectl prints; raises KubectlError with what it complains of."""
    try:
        done = subprocess.run(
            ("kubectl", *arguments),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise KubectlError(
            "the cluster is asked through kubectl, which is not on the PATH; install it (https://kubernetes.io/docs/tasks/tools/)"
        ) from None
    except subprocess.TimeoutExpired:
        raise KubectlError(f"kubectl has not answered within {_SECONDS} s; is the cluster there?") from None
    if done.returncode:
        raise KubectlError(f"kubectl {arguments[0]}: {done.stderr.strip()[:500] or f'exit code {done.returncode}'}")
    return done.stdout


def items(text: str) -> list[dict[str, Any]]:
    """The objects in a list as kubectl prints it in JSON."""
    found: list[dict[str, Any]] = json.loads(text).get("items", [])
    return found
