"""Events (core/v1) of refusals and warnings: what they say, and a recorder that never makes an answer wait.

One Event for each object and reason, whose count rises: a client that tries again and again makes no flood. Replicas
and restarts find the same Event by its name.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from modelward.admission.client import ApiError, Client, Object
from modelward.admission.metrics import Metrics
from modelward.admission.review import Decision, Request
from modelward.api.base import API_VERSION
from modelward.rules.judge import Violation

SOURCE = "modelward-admission"
VIOLATION, WARNING = "PolicyViolation", "PolicyWarning"
MAX_MESSAGE = 1024  # bytes that Kubernetes takes
MAX_QUEUE = 512
_SECONDS_BETWEEN = 0.05  # at most 20 Events a second: the API server has better things to do

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class About:
    """The object that an Event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True)
class Event:
    """Something to tell about an object."""

    about: About
    reason: str
    message: str
    at: datetime
    count: int = 1

    @property
    def key(self) -> tuple[About, str]:
        """What makes two Events one."""
        return replace(self.about, uid=""), self.reason


def events_of(request: Request, decision: Decision, at: datetime) -> list[Event]:
    """Return what is to be told of a decision; nothing of a dry run.

    A refusal is told of the object, of each policy that refused it, and of the namespace; a warning of the object.
    """
    if request.dry_run:
        return []
    subject = _subject(request)
    if decision.allowed:
        warnings = decision.verdict.warnings
        return [Event(subject, WARNING, _lines(warnings), at)] if warnings else []
    violations = decision.verdict.violations
    told = [Event(subject, VIOLATION, _lines(violations) if violations else decision.message, at)]
    for policy in dict.fromkeys(violation.policy for violation in violations):
        rules = ", ".join(violation.rule for violation in violations if violation.policy == policy)
        told.append(Event(_policy(policy), VIOLATION, f"refused {request.who}: {rules}", at))
    if request.namespace:
        asked_by = ", ".join(dict.fromkeys(violation.policy for violation in violations))
        message = f"refused {request.who}" + (f", as asked by {asked_by}" if asked_by else "")
        told.append(Event(About("v1", "Namespace", request.namespace), VIOLATION, message, at))
    return told


def _subject(request: Request) -> About:
    kind = request.kind
    metadata = (request.old_object or {}).get("metadata")
    uid = metadata.get("uid") if isinstance(metadata, dict) else None  # a new object has none yet
    version = f"{kind.group}/{kind.version}" if kind.group else kind.version
    return About(version, kind.kind, request.shown_name, request.namespace, uid if isinstance(uid, str) else "")


def _policy(name: str) -> About:
    kind, *path = name.split("/")
    return About(API_VERSION, kind, path[-1], path[0] if len(path) > 1 else "")


def _lines(violations: tuple[Violation, ...]) -> str:
    return "; ".join(violation.line for violation in violations)


def manifest(event: Event) -> Object:
    """Write an Event as the API server takes it."""
    about = event.about
    # Events of what has no namespace live in `default`; the API server takes them nowhere else.
    namespace = about.namespace or "default"
    digest = hashlib.sha256("\0".join((*_identity(about), event.reason)).encode()).hexdigest()[:32]
    at = event.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    involved = {"apiVersion": about.api_version, "kind": about.kind, "name": about.name}
    involved |= {key: value for key, value in (("namespace", about.namespace), ("uid", about.uid)) if value}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{SOURCE}.{digest}", "namespace": namespace},
        "involvedObject": involved,
        "type": "Warning",
        "reason": event.reason,
        "message": _bounded(event.message),
        "count": event.count,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "source": {"component": SOURCE},
        "reportingComponent": SOURCE,
    }


def _identity(about: About) -> tuple[str, ...]:
    return about.api_version, about.kind, about.namespace, about.name


def _bounded(message: str) -> str:
    raw = " ".join(message.split()).encode()
    return raw.decode() if len(raw) <= MAX_MESSAGE else raw[: MAX_MESSAGE - 3].decode(errors="ignore") + "..."


class Recorder:
    """Writes Events in the background; when there are too many, the newest kinds are dropped and counted."""

    def __init__(self, client: Client, metrics: Metrics, seconds_between: float = _SECONDS_BETWEEN) -> None:
        self._client = client
        self._metrics = metrics
        self._seconds_between = seconds_between
        self._queue: OrderedDict[tuple[About, str], Event] = OrderedDict()
        self._filled = asyncio.Event()

    def record(self, events: list[Event]) -> None:
        """Take Events to be written; returns at once."""
        # Those of namespaces and policies come last in the list, and first here: each tells of a whole flood.
        for event in reversed(events):
            waiting = self._queue.get(event.key)
            if waiting is not None:
                self._queue[event.key] = replace(event, count=waiting.count + event.count)
            elif len(self._queue) < MAX_QUEUE:
                self._queue[event.key] = event
            else:
                self._metrics.events["dropped"] += 1
        if self._queue:
            self._filled.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._filled.wait()
            await self._write_next()
            await asyncio.sleep(self._seconds_between)

    async def drain(self, seconds: float) -> None:
        """Write what is left, for this long at most; `run` must have ended."""
        try:
            async with asyncio.timeout(seconds):
                while self._queue:
                    await self._write_next()
        except TimeoutError:
            self._metrics.events["dropped"] += len(self._queue)

    async def _write_next(self) -> None:
        _, event = self._queue.popitem(last=False)
        if not self._queue:
            self._filled.clear()
        try:
            await self._write(manifest(event))
        except (ApiError, OSError) as error:
            self._metrics.events["failed"] += 1
            log.warning("Event %s of %s not written: %s", event.reason, event.about.kind, error)
        else:
            self._metrics.events["written"] += 1

    async def _write(self, item: Object) -> None:
        collection = f"/api/v1/namespaces/{item['metadata']['namespace']}/events"
        try:
            await self._client.create(collection, item)
        except ApiError as error:
            if error.status != 409:
                raise
            await self._repeat(f"{collection}/{item['metadata']['name']}", item)

    async def _repeat(self, path: str, item: Object) -> None:
        # The first patch brings back the count, without the right to read Events; the second raises it, unless
        # another replica was faster.
        latest: dict[str, Any] = {"lastTimestamp": item["lastTimestamp"], "message": item["message"]}
        for _ in range(3):
            there = await self._client.merge(path, latest)
            version = there["metadata"]["resourceVersion"]
            count = int(there.get("count") or 0) + item["count"]
            try:
                await self._client.merge(path, {"metadata": {"resourceVersion": version}, "count": count})
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                return
