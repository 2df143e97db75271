"""What a report is made from, as it comes from the cluster or from files, and the reading of its times."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from modelward.api.printable import printable
from modelward.lineage.build import Consumed
from modelward.reporting.document import Incident, Scope

Object = Mapping[str, Any]
MAX_TEXT = 1024


@dataclass(frozen=True)
class Sources:
    """Everything that is known.

    Attributes:
        scope: what is covered.
        now: the time.
        models: ModelDeployments, as the API server stores them.
        policies: DataPolicies and ClusterDataPolicies, likewise.
        namespaces: by name; None where they may not be read.
        events: of core/v1.
        logged: incidents that access logs tell of.
        consumed: answers that access logs tell of.
        notes: what could not be read or trusted, a sentence each.
        errors: what had to be readable and is not, likewise.
        dependencies: the digests that something was made from, by its own digest, as signed statements tell.
        controller: who is responsible, where no annotation says it.
        contact: how to reach them, likewise.
    """

    scope: Scope
    now: datetime
    models: Sequence[Object]
    policies: Sequence[Object] = ()
    namespaces: Mapping[str, Object] | None = None
    events: Sequence[Object] = ()
    logged: Sequence[Incident] = ()
    consumed: Sequence[Consumed] = ()
    notes: Sequence[str] = ()
    errors: Sequence[str] = ()
    controller: str | None = None
    contact: str | None = None
    dependencies: Mapping[str, Collection[str]] = field(default_factory=dict)


def moment(text: Any) -> datetime | None:
    """Return the time that a text says (RFC 3339); None where it says none."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def written(when: datetime) -> str:
    """Write a time (RFC 3339, UTC, seconds)."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def days_until(text: Any, now: datetime) -> float | None:
    """Return the days from now to a time, to a tenth; None where it is none."""
    when = moment(text)
    return None if when is None else round((when - now).total_seconds() / 86400, 1)


def said(text: Any) -> str:
    """Return a text of others as it may be told: printable, and bounded."""
    return printable(str(text))[:MAX_TEXT]
