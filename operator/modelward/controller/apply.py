"""Writes what is planned: only what differs, and never over what belongs to somebody else."""

from __future__ import annotations

from modelward.controller.cluster import Cluster
from modelward.planner.drift import covers, stamped
from modelward.planner.names import KubeObject, ours
from modelward.planner.plan import Plan


class NameTakenError(Exception):
    """An object of the wanted name is there and is not ours."""

    def __init__(self, item: KubeObject) -> None:
        super().__init__(
            f"{item['kind']} {item['metadata']['name']} exists and was not made for this ModelDeployment:"
            " delete it, or name the ModelDeployment otherwise"
        )


async def ensure(cluster: Cluster, wanted: KubeObject) -> bool:
    """Bring one object about; return whether anything was written.

    Raises:
        NameTakenError: there is one of that name which is not ours.
        ApiError: the API server refused.
    """
    wanted = stamped(wanted)
    metadata = wanted["metadata"]
    there = await cluster.get(wanted["kind"], metadata.get("namespace", ""), metadata["name"])
    if there is not None and not ours(there, wanted):
        raise NameTakenError(wanted)
    if there is not None and covers(there, wanted):
        return False
    await cluster.apply(wanted)
    return True


async def carry_out(cluster: Cluster, plan: Plan, namespace: str) -> int:
    """Bring a plan about; return how many objects were written or deleted."""
    written = 0
    for item in plan.objects:
        written += await ensure(cluster, item)
    owner = plan.objects[0]
    for kind, name in plan.absent:
        there = await cluster.get(kind, namespace, name)
        if there is not None and ours(there, owner):
            await cluster.delete(there)
            written += 1
    return written
