"""Pods on the loopback address, and ports that are really open or closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelward.controller.observe import Pods, leaving, unwatched_because
from modelward.controller.observe import observe as observe_then
from modelward.planner.fit_job import COMMAND
from modelward.planner.injection import inject
from modelward.planner.plan import Settings

SETTINGS = Settings("modelward-sidecar@sha256:" + "a" * 64, "a2V5", ("modelward-sidecar@sha256:" + "0" * 64,))
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


async def observe(pods: list[dict[str, Any]], port: int) -> Pods:
    return await observe_then(pods, [port], SETTINGS, NOW)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def pod(name: str, *, image: str = SETTINGS.sidecar_image, **changes: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"modelward.io/model": "wdbc"}}
    bare = {"metadata": metadata, "spec": {"containers": [{"name": "model", "image": "m:1"}]}}
    injected = inject(bare, image=image, config_key=SETTINGS.config_key)
    return {**injected, "status": {"phase": "Running", "podIP": "127.0.0.1"}, **changes}


async def test_an_open_model_port_is_found(port: int) -> None:
    seen = await observe([pod("a"), pod("away", status={"phase": "Running", "podIP": "127.0.0.2"})], port)
    assert (seen.probed, seen.reachable) == (2, ("a",))


async def test_a_closed_one_is_not(port: int) -> None:
    seen = await observe([pod("a", status={"phase": "Running", "podIP": "127.0.0.2"})], port)
    assert (seen.probed, seen.reachable, seen.unwatched, seen.waiting) == (1, (), (), ())


async def test_pods_that_leave_or_have_no_address_are_not_tried(port: int) -> None:
    leaving = pod("b", metadata={"name": "b", "deletionTimestamp": "2026-11-25T12:00:30Z"})
    seen = await observe(
        [leaving, pod("c", status={"phase": "Pending", "podIP": "127.0.0.1"}), pod("d", status={})], port
    )
    assert (seen.probed, seen.reachable) == (0, ())


async def test_what_is_wrong_with_pods(port: int) -> None:
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node has 8 GPUs"}]}
    pulling = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "modelward-sidecar", "state": {"waiting": {"reason": "PodInitializing"}}}],
        "containerStatuses": [{"name": "model", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
    }
    bare = pod("bare", spec={"containers": []})
    seen = await observe([pod("a", status=unscheduled), pod("b", status=pulling), bare], port + 1)
    assert seen.waiting == ("a is not scheduled: no node has 8 GPUs", "b: container model waits (ImagePullBackOff)")
    assert seen.unwatched == ("bare",)


async def test_a_decoy_watches_nobody(port: int) -> None:
    seen = await observe([pod("a"), pod("decoy", image="evil:1")], port + 1)
    assert seen.unwatched == ("decoy",)
    assert unwatched_because(pod("decoy", image="evil:1"), SETTINGS).endswith("its image differs")


def test_a_pod_keeps_its_older_sidecar_until_it_is_replaced() -> None:
    assert unwatched_because(pod("old", image=SETTINGS.former_images[0]), SETTINGS) == ""


async def test_a_pod_that_takes_years_to_leave_is_not_leaving(port: int) -> None:
    """Whoever deletes a pod says how long it may take, and the pod need not heed the signal before."""
    for ends, left in ((NOW + timedelta(seconds=30), True), (NOW + timedelta(days=400), False)):
        metadata = {"name": "lingers", "deletionTimestamp": ends.isoformat()}
        lingers = pod("lingers", metadata=metadata)
        assert leaving(lingers, NOW) is left
        assert (await observe([lingers], port + 1)).unwatched == (() if left else ("lingers",))


def test_a_pod_that_fits_a_baseline_needs_no_sidecar_and_one_that_says_so_does() -> None:
    settings = replace(SETTINGS, jobs_image="modelward-jobs@sha256:" + "c" * 64)
    container = {"name": "fit", "image": settings.jobs_image, "command": list(COMMAND)}
    metadata = {"name": "wdbc-fit-x", "labels": {"modelward.io/job": "fit", "modelward.io/job-for": "wdbc"}}
    fits = {"metadata": metadata, "spec": {"containers": [container]}}
    assert unwatched_because(fits, settings) == ""
    other = {**container, "image": "somebody-elses:1"}
    assert unwatched_because({**fits, "spec": {"containers": [other]}}, settings)
    assert unwatched_because({**fits, "spec": {"containers": [container, other]}}, settings)
