from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

from modelward.controller import queue as module
from modelward.controller.queue import WorkQueue


async def worked(queue: WorkQueue[str], until: Callable[[], bool]) -> None:
    tasks = [asyncio.ensure_future(worker) for worker in queue.work()]
    async with asyncio.timeout(60):
        while not until():  # noqa: ASYNC110 - tests wait for what they do not control
            await asyncio.sleep(0.005)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_is_asked_for_often_is_done_once() -> None:
    done: list[str] = []

    async def process(key: str) -> None:
        done.append(key)

    queue = WorkQueue(process)
    for key in "abaab":
        queue.add(key)
    queue.add("c", delay=0.02)
    queue.add("c", delay=5)
    queue.add("d", delay=5)
    queue.add("d", delay=0.02)
    await worked(queue, lambda: len(done) >= 4)
    assert sorted(done) == ["a", "b", "c", "d"]


async def test_a_key_is_never_processed_twice_at_a_time_and_what_came_meanwhile_is_not_forgotten() -> None:
    active, most, runs = 0, 0, 0

    async def process(key: str) -> None:
        nonlocal active, most, runs
        active += 1
        most = max(most, active)
        runs += 1
        if runs == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0.02)
        active -= 1

    queue = WorkQueue(process)
    queue.add("a")
    await worked(queue, lambda: runs >= 2 and active == 0)
    await asyncio.sleep(0.05)
    assert (most, runs) == (1, 2)


async def test_failures_are_tried_again_ever_later_and_stop_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.01)
    times: list[float] = []
    done: list[str] = []

    async def process(key: str) -> None:
        if key == "bad":
            times.append(asyncio.get_running_loop().time())
            if len(times) < 5:
                raise RuntimeError("not yet")
        done.append(key)

    queue = WorkQueue(process)
    queue.add("bad")
    queue.add("good")
    await worked(queue, lambda: len(done) == 2)
    assert done == ["good", "bad"]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert all(gap >= 0.009 * 2**index for index, gap in enumerate(gaps))


async def test_many_failures_do_not_make_the_delay_overflow() -> None:
    async def process(_: str) -> None:
        return None

    queue: WorkQueue[str] = WorkQueue(process)
    queue._failures["a"] = 100_000
    queue._retry("a", RuntimeError("still"))
    timer = queue._timers["a"]
    assert timer.when() - asyncio.get_running_loop().time() <= module._LAST_RETRY_SECONDS
    timer.cancel()
