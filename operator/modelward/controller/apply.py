"""Writes what is planned: only what differs, and never over what belongs to somebody else."""

from __future__ import annotations

from modelward.controller.cluster import Cluster
from modelward.planner.drift import covers, stamped
from modelward.planner.names import MANAGED_BY_LABEL, MANAGER, KubeObject
from modelward.planner.plan import Plan
from modelward.planner.sidecar import MODEL_LABEL


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


def controls(uid: str | None, item: KubeObject) -> bool:
    """Tell whether the owner with this uid controls an object."""
    owners = item["metadata"].get("ownerReferences", ())
    return any(owner["uid"] == uid and owner.get("controller") for owner in owners)


def ours(there: KubeObject, wanted: KubeObject) -> bool:
    """Tell whether an object is ours: it says so, and no other owner controls it (an orphan is taken up again)."""
    labels, wanted_labels = there["metadata"].get("labels", {}), wanted["metadata"].get("labels", {})
    if labels.get(MANAGED_BY_LABEL) != MANAGER or labels.get(MODEL_LABEL) != wanted_labels.get(MODEL_LABEL):
        return False
    owners = {owner["uid"] for owner in wanted["metadata"].get("ownerReferences", ())}
    return all(
        owner["uid"] in owners or not owner.get("controller") for owner in there["metadata"].get("ownerReferences", ())
    )
