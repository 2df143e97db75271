"""Pods on the loopback address, and ports that are really open or closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modelward.controller.observe import observe


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def pod(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"initContainers": [{"name": "modelward-sidecar"}]},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
        **changes,
    }


async def test_an_open_model_port_is_found(port: int) -> None:
    seen = await observe([pod("a"), pod("away", status={"phase": "Running", "podIP": "127.0.0.2"})], port)
    assert (seen.probed, seen.reachable) == (2, ("a",))


async def test_a_closed_one_is_not(port: int) -> None:
    seen = await observe([pod("a", status={"phase": "Running", "podIP": "127.0.0.2"})], port)
    assert (seen.probed, seen.reachable, seen.unwatched, seen.waiting) == (1, (), (), ())


async def test_pods_that_leave_or_have_no_address_are_not_tried(port: int) -> None:
    leaving = pod("b", metadata={"name": "b", "deletionTimestamp": "now"})
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
