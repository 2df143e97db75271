"""How many security tests run at a time, of all models that are looked at side by side."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

from modelward.api.modeldeployment import ModelDeployment
from modelward.controller.certificates import new_authority
from modelward.controller.security_tests import AT_ONCE, OF_NAMESPACE, Loaded, SecurityTests
from modelward.planner.tested import AskedTest, LastTest
from tests.unit.planner.test_sidecar_config import parsed, supported

NOW = datetime(2026, 6, 10, 12, tzinfo=UTC)
DUE = LastTest(AskedTest("baseline", gates=True), "a" * 64)


class Cluster:
    """As much of a cluster as is asked here: what is made, each answer after others had their turn."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    async def get(self, kind: str, namespace: str, name: str) -> Any:
        await asyncio.sleep(0)

    async def apply(self, wanted: Any) -> None:
        await asyncio.sleep(0)
        self.made.append(wanted)

    async def find(self, kind: str, labels: Any = None) -> list[Any]:
        found = [one for one in self.made if one["kind"] == kind]
        await asyncio.sleep(0)
        return found

    def jobs(self) -> Counter[str]:
        return Counter(one["metadata"]["namespace"] for one in self.made if one["kind"] == "Job")


class Sidecars:
    def __init__(self) -> None:
        self.asked = 0

    async def loaded(self, raw: Any) -> list[Loaded]:
        self.asked += 1
        return [Loaded("10.0.0.1", "c")]

    async def authorities(self, raw: Any) -> bytes:
        return b""


def model(namespace: str, name: str) -> ModelDeployment:
    manifest = supported()
    manifest["metadata"] |= {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}"}
    return parsed(manifest)


async def test_models_side_by_side_begin_no_more_tests_than_may_run_and_a_namespace_leaves_one_to_others() -> None:
    cluster, sidecars = Cluster(), Sidecars()
    settings = SimpleNamespace(sidecar_image="s", jobs_image="j", config_key="k")
    installed = SimpleNamespace(authority=new_authority(NOW), settings=settings)
    tests = SecurityTests(cast("Any", cluster), lambda: cast("Any", installed), sidecars, lambda: NOW)

    async def begin(namespace: str, count: int) -> list[str]:
        models = [model(namespace, f"m{number}") for number in range(count)]
        told = await asyncio.gather(*(tests.begin(md, {}, [], DUE, "c") for md in models))
        return [one.now for one in told]

    told = await begin("greedy", 12)
    assert cluster.jobs() == {"greedy": OF_NAMESPACE}
    assert sum("one of 3 others of this namespace has ended" in one for one in told) == 12 - OF_NAMESPACE
    told = await begin("modest", 5)
    assert cluster.jobs() == {"greedy": OF_NAMESPACE, "modest": AT_ONCE - OF_NAMESPACE}
    assert sum("waits until one of 4 others has ended" in one for one in told) == 4
    asked = sidecars.asked
    await begin("late", 5)
    assert sidecars.asked == asked, "who has to wait asks no sidecar"
