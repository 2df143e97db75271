"""The treatment of each field of a model: what its policies ask, brought together, and what of it cannot be done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.references import HIERARCHY_KEY
from modelward.planner.names import KubeObject
from modelward.planner.references import References
from modelward.planner.sidecar import SYSTEM_NAMESPACE
from modelward.privacy.effective import NEED_KEYS, Choice, Mistake, choices, mistakes
from modelward.privacy.hierarchy import HierarchyError


def fields(md: ModelDeployment, policies: Sequence[KubeObject], references: References) -> dict[str, Any]:
    """Return the treatment of each field that is not kept as it is, as the sidecar reads it.

    Raises:
        HierarchyError: a hierarchy is not there or cannot be used.
    """
    found = chosen(md, policies, references)
    return {name: msgspec.to_builtins(choice.treatment) for name, choice in sorted(found.items())}


def chosen(md: ModelDeployment, policies: Sequence[KubeObject], references: References) -> dict[str, Choice]:
    """Return whose treatment of each field holds.

    Raises:
        HierarchyError: a hierarchy is not there or cannot be used.
    """

    def hierarchy(name: str) -> str:
        text = references.hierarchy(name)
        if text is None:
            raise HierarchyError(
                f"no ConfigMap {name} with {HIERARCHY_KEY} in {SYSTEM_NAMESPACE}, where hierarchies are kept"
            )
        return text

    return choices(policies, inputs_of(md), hierarchy)


def treats_otherwise(
    running: KubeObject | None, md: ModelDeployment, policies: Sequence[KubeObject], references: References
) -> bool:
    """Tell whether what runs treats fields otherwise than its policies ask by now.

    Args:
        running: the ConfigMap that the sidecar reads, as it is in the cluster; None: there is none, and nothing runs.
        md: the ModelDeployment.
        policies: those that govern it.
        references: what they name. Where a hierarchy is not to be had, nobody can tell, and what runs holds its own.
    """
    if running is None:
        return False
    try:
        wanted = fields(md, policies, references)
        document = json.loads(running["data"]["config.json"])
        return bool(wanted != document.get("fields", {}))
    except HierarchyError:
        return False
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
    ):  # somebody made it something else: it is written anew later
        return True


def needs_keys(treated: dict[str, Any]) -> bool:
    """Tell whether any of these treatments is made with a key."""
    return any(one["treatment"] in NEED_KEYS for one in treated.values())


def impossible(md: ModelDeployment, policies: Sequence[KubeObject]) -> list[Mistake]:
    """Return what the policies ask of this model's fields and that cannot be done, with the fix."""
    return mistakes(policies, inputs_of(md), _tensors(md, "outputs"))


def inputs_of(md: ModelDeployment) -> list[dict[str, Any]]:
    """Return the declared inputs as they are stored."""
    return _tensors(md, "inputs")


def _tensors(md: ModelDeployment, part: str) -> list[dict[str, Any]]:
    tensors = getattr(md.spec.schema_, part) if md.spec.schema_ else ()
    return [tensor.model_dump(mode="json", by_alias=True, exclude_none=True) for tensor in tensors]
