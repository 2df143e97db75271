"""What becomes of a security test's report: the ConfigMap that keeps it, and `status.lastSecurityTest`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.attack.report import SecurityTestReport, plain
from modelward.planner.names import KubeObject, metadata
from modelward.planner.security_test import REQUEST_ANNOTATION, security_test_name
from modelward.securitytest import Request
from modelward.wording import one_line, rfc3339

REPORT_KEY = "report.json"
_STANDS = ("outcome", "withstood", "succeeded", "message")


def report_map(md: ModelDeployment, request: Request, report: SecurityTestReport) -> KubeObject:
    """Return the ConfigMap with the whole report of the last test."""
    head = metadata(md, security_test_name(md.metadata.name))
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**head, "annotations": {REQUEST_ANNOTATION: request.to_bytes().decode()}},
        "data": {REPORT_KEY: msgspec.json.encode(plain(report)).decode()},
    }


def security_test_status(
    request: Request, report: SecurityTestReport, image: str, finished: datetime
) -> dict[str, Any]:
    """Return `status.lastSecurityTest` of a run that has a report."""
    succeeded = [attack for attack in report.attacks if attack.outcome == "Succeeded"]
    succeeded.sort(key=lambda attack: not attack.grave)
    first = succeeded[0].fix if succeeded else ""
    told = {
        **_status(request, report.outcome, image, finished),
        "requests": report.requests,
        "withstood": report.counted("Withstood"),
        "inconclusive": report.counted("Inconclusive"),
        "skipped": report.counted("Skipped"),
        "succeeded": [attack.id for attack in succeeded[:32]],
        "message": one_line(report.note if report.outcome == "Errored" else first),
    }
    return {key: value for key, value in told.items() if value not in (0, "", [])}


def errored_status(
    request: Request, why: str, image: str, finished: datetime, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the same of a run that has none; `before` is the last one."""
    told = {**_status(request, "Errored", image, finished), "message": one_line(why)}
    return {key: value for key, value in following(told, before).items() if value != ""}


def following(told: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Count an Errored run with those right before it, of the same subject, and keep the result that stands.

    It came to nothing and says nothing: neither does it take a pass away, nor does a failure end by it.
    """
    if told["outcome"] != "Errored":
        return told
    if before is None or before.get("subject") != told["subject"]:
        return {**told, "attempts": 1}
    counted = {**told, "attempts": int(before.get("attempts", 0)) + 1}  # which only Errored runs have
    stands = before.get("stands") if before["outcome"] == "Errored" else before
    if not stands or before["suite"] != told["suite"]:
        return counted
    kept = {key: stands[key] for key in _STANDS if key in stands}
    # By a clock that was ahead once, a pass would be of the future, and never too old.
    ended = min((stands["finishedAt"], told["finishedAt"]), key=datetime.fromisoformat)
    return {**counted, "stands": {**kept, "finishedAt": ended}}


def _status(request: Request, outcome: str, image: str, finished: datetime) -> dict[str, Any]:
    return {
        "suite": request.suite,
        "finishedAt": rfc3339(finished),
        "outcome": outcome,
        "run": request.digest,
        "subject": request.subject,
        "tools": request.tools,
        "image": image[:512],
    }
