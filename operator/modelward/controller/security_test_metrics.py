"""What is told to Prometheus of models' last security tests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def security_test_metrics(
    last_tests: Mapping[tuple[str, str], Mapping[str, Any]],
) -> dict[str, tuple[str, dict[str, float]]]:
    """Return the metrics; see `health.Metrics`.

    Args:
        last_tests: `status.lastSecurityTest` of each model, by namespace and name.
    """
    outcome: dict[str, float] = {}
    ended: dict[str, float] = {}
    attacks: dict[str, float] = {}
    for (namespace, name), last in last_tests.items():
        place = f'namespace="{namespace}",model="{name}"'
        for one in ("Passed", "Failed", "Errored"):
            outcome[f'{{{place},outcome="{one}"}}'] = float(last["outcome"] == one)
        ended[f"{{{place}}}"] = datetime.fromisoformat(last["finishedAt"]).timestamp()
        for one in ("withstood", "inconclusive", "skipped"):
            attacks[f'{{{place},outcome="{one}"}}'] = float(last.get(one, 0))
        attacks[f'{{{place},outcome="succeeded"}}'] = float(len(last.get("succeeded", ())))
    return {
        "modelward_security_test": ("Whether a model's last security test ended so (1) or otherwise (0).", outcome),
        "modelward_security_test_finished_seconds": ("When it ended, in Unix time.", ended),
        "modelward_security_test_attacks": ("How many of its attacks ended so.", attacks),
    }
