"""Looks at a model's pods: whether they run, carry the genuine sidecar, and can be reached past it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelward.planner.fit_job import is_fit
from modelward.planner.genuine import faults
from modelward.planner.names import KubeObject
from modelward.planner.plan import Settings
from modelward.planner.security_test import is_test
from modelward.planner.sidecar import JOB_LABEL

PROBE_SECONDS = 0.5
# A pod that is deleted runs on for as long as it, or who deletes it, asks: years, if one likes. One that still has
# longer than this is not leaving.
_LONGEST_LEAVE = timedelta(minutes=5)
_MAX_PROBED = 20


@dataclass(frozen=True)
class Pods:
    """What was seen of the pods; see `planner.observation.Observation`."""

    waiting: tuple[str, ...]
    unwatched: tuple[str, ...]
    probed: int
    reachable: tuple[str, ...]


async def observe(pods: Sequence[KubeObject], ports: Sequence[int], settings: Settings, now: datetime) -> Pods:
    """Look at pods, and try the model's ports on each address that a pod has."""
    pods = [pod for pod in pods if not leaving(pod, now)]
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    tried = [pod for pod in running if pod["status"].get("podIP")][:_MAX_PROBED]
    answers = await asyncio.gather(*(_any_answers(pod["status"]["podIP"], ports) for pod in tried))
    return Pods(
        waiting=tuple(reason for pod in pods for reason in waiting_because(pod)),
        unwatched=tuple(_name(pod) for pod in running if unwatched_because(pod, settings)),
        probed=len(tried),
        reachable=tuple(_name(pod) for pod, answer in zip(tried, answers, strict=True) if answer),
    )


async def _any_answers(address: str, ports: Sequence[int]) -> bool:
    return any(await asyncio.gather(*(_answers(address, port) for port in ports)))


async def _answers(address: str, port: int) -> bool:
    """Tell whether something accepts connections there. Nothing is sent."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def unwatched_because(pod: KubeObject, settings: Settings) -> str:
    """Say why a pod is not watched by its genuine sidecar; empty when it is."""
    own = JOB_LABEL in (pod["metadata"].get("labels") or {})
    if own and (is_fit(pod, settings.jobs_image) or is_test(pod, settings.jobs_image)):
        return ""  # nobody calls it but the controller: see `planner.own_job`
    found = faults(pod, settings.sidecar_image, settings.config_key, settings.former_images)
    return found[0].partition(". Fix: ")[0] if found else ""


def leaving(pod: KubeObject, now: datetime) -> bool:
    """Tell whether a pod has been told to end, and soon."""
    ends = pod["metadata"].get("deletionTimestamp")
    return ends is not None and datetime.fromisoformat(ends) - now < _LONGEST_LEAVE


def waiting_because(pod: KubeObject) -> Iterator[str]:
    """Give why a pod does not run, a sentence each."""
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{_name(pod)} is not scheduled: {condition.get('message', '')}"
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason and reason not in ("PodInitializing", "ContainerCreating"):
            yield f"{_name(pod)}: container {container['name']} waits ({reason})"


def _name(pod: KubeObject) -> str:
    return str(pod["metadata"]["name"])
