"""How messages for people, and times for programs, are written wherever they are told: Events, status, reports."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

MAX_MESSAGE = 1024
"""So many characters has the message of a condition or an Event at the most."""


def listed(items: Iterable[str], most: int, separator: str = ", ") -> str:
    """List the first `most` items, and say how many more there are."""
    items = list(items)
    more = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(items[:most]) + more


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """Put a text on one line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def rfc3339(moment: datetime) -> str:
    """Write a time as Kubernetes does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
