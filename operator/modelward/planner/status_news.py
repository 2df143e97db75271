"""What of a ModelDeployment's new status is worth an Event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple


class News(NamedTuple):
    """Something worth an Event.

    Attributes:
        kind: the Event's type.
        reason: a word for programs.
        message: a sentence for people.
        topic: where given, all of one topic are one Event, whose count rises: their messages differ in figures alone.
        heard: it is what sidecars say, which may lie.
    """

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    topic: str = ""
    heard: bool = False


def status_news(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[News]:
    """Return what is news: conditions whose reason became another since, and other rules that are broken.

    Args:
        before: the status as it was; empty: there was none.
        after: the status as it is now.
    """
    old = {item["type"]: item for item in before.get("conditions", ())}
    told = (_of(item) for item in after["conditions"] if _changed(old.get(item["type"], {}), item))
    tested = _tested(before.get("lastSecurityTest") or {}, after.get("lastSecurityTest") or {})
    return [news for news in (*told, tested) if news is not None]


def _tested(before: Mapping[str, Any], after: Mapping[str, Any]) -> News | None:
    """What came of a security test: an Event for each run, or none."""
    run = after.get("run", "")
    if not run or run == before.get("run"):
        return None
    suite, why = after["suite"], after.get("message", "")
    if after["outcome"] == "Passed":
        return News(
            "Normal", "SecurityTestPassed", f"suite {suite}: {after.get('withstood', 0)} attacks withstood", run
        )
    if after["outcome"] == "Errored":
        return News("Warning", "SecurityTestErrored", f"suite {suite}: {why or 'it could not be run to its end'}", run)
    named = ", ".join(after.get("succeeded", ()))
    fix = f". Fix: {why}" if why else ""
    return News("Warning", "SecurityTestFailed", f"suite {suite}: attacks that succeeded: {named}{fix}", run)


def _changed(before: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    if before.get("reason") != condition["reason"]:
        return True
    return _broken(condition) and before.get("message") != condition["message"]


def _broken(condition: Mapping[str, Any]) -> bool:
    return (condition["type"], condition["status"]) == ("PolicyCompliant", "False")


def _of(condition: Mapping[str, Any]) -> News | None:
    kind, reason, message = condition["type"], condition["reason"], condition["message"]
    if kind == "Fair" and reason == "DifferenceTooLarge":
        return News("Warning", "UnfairOutcome", message, "UnfairOutcome", heard=True)
    if kind == "KAnonymous" and reason == "ReidentificationRisk":
        return News("Warning", reason, message, reason, heard=True)
    unwatched = kind == "Monitored" and reason in ("BaselineStale", "Drifted", "RateOff")
    stalled = kind == "Stalled" and reason != "PolicyViolation"  # of which PolicyCompliant tells
    if _broken(condition) or unwatched or stalled:
        return News("Warning", reason, message, heard=unwatched)
    if kind == "Ready" and condition["status"] == "True":
        return News("Normal", "Ready", message)
    # Of SidecarMissing tells who finds the pods.
    if kind == "Ready" and reason in ("Bypassable", "LineageNotVerified", "RequirementNotMet"):
        return News("Warning", reason, message)
    return None
