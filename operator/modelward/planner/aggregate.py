"""The ConfigMap `<name>-aggregate`: what the controller gives out of encrypted counters, and what it adds to."""

from __future__ import annotations

from typing import Final

PUBLISHED_KEY: Final = "aggregate-{}.bin"
"""Under which an aggregate lies, by the first 16 digits of the digest of the auditor's keys."""


def aggregate_name(model: str) -> str:
    """Return the name of the ConfigMap with a model's encrypted counters."""
    return f"{model}-aggregate"
