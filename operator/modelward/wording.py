"""How messages for people, and times for programs, are written wherever they are told: Events, status, reports."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

MAX_MESSAGE = 1024
"""So many characters has the message of a condition or an Event at the most."""


def names(items: Iterable[str], most: int = 5) -> str:
    """List the first `most` names, and say how many more there are."""
    every = list(items)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def sentences(items: Iterable[str], most: int = 5) -> str:
    """List the first `most` sentences, which may have commas, and say how many more there are."""
    every = list(items)
    more = f"; and {len(every) - most} more" if len(every) > most else ""
    return "; ".join(every[:most]) + more


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """Put a text on one line of bounded length."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def rfc3339(moment: datetime) -> str:
    """Write a time as Kubernetes does."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
