"""The policy that stands in for the controller's until it has started, and what takes it away again."""

from __future__ import annotations

from typing import Any

import pytest

from modelward.planner.names import MANAGED_BY_LABEL, MANAGER
from modelward.planner.pod_policy import IDENTITY, identity_policies
from tests.unit.chart.rendering import Objects, hook_of

HOOKS = ("pre-install", "post-delete")


@pytest.fixture(scope="module")
def written() -> dict[tuple[str, str], Any]:
    """What the controller writes, by kind and name."""
    return {(item["kind"], item["metadata"]["name"]): item for item in identity_policies("image", "a2V5")}


def _of(objects: Objects, hook: str) -> dict[tuple[str, str], Any]:
    return {(item["kind"], item["metadata"]["name"]): item for item in objects if hook_of(item) == hook}


@pytest.mark.parametrize("hook", HOOKS)
def test_it_covers_what_the_controllers_covers(objects: Objects, written: dict[tuple[str, str], Any], hook: str):
    stand_ins = _of(objects, hook)
    assert stand_ins.keys() == written.keys()
    for key, item in stand_ins.items():
        theirs = written[key]["spec"]
        for part in ("failurePolicy", "matchConstraints", "policyName", "validationActions", "matchResources"):
            assert item["spec"].get(part) == theirs.get(part), (key, part)
        # What the controller does not write it would not take away, and what it writes it must be allowed to.
        assert item["spec"].keys() <= theirs.keys()
        assert item["metadata"]["labels"] == {**written[key]["metadata"]["labels"], MANAGED_BY_LABEL: MANAGER}


def test_nobody_gets_in_before_the_controller_and_nobody_is_kept_out_afterwards(objects: Objects):
    for hook, expression in zip(HOOKS, ("false", "true"), strict=True):
        (validation,) = _of(objects, hook)["ValidatingAdmissionPolicy", IDENTITY]["spec"]["validations"]
        assert validation["expression"] == expression
        assert "has not started yet" in validation["message"]


def test_no_release_has_it_and_what_takes_it_away_goes_too(objects: Objects):
    assert not [item for item in objects if not hook_of(item) and item["metadata"]["name"].startswith(IDENTITY)]
    policies = {hook: {_deleted(item) for item in _of(objects, hook).values()} for hook in HOOKS}
    assert policies == {"pre-install": {"before-hook-creation"}, "post-delete": {"before-hook-creation,hook-succeeded"}}


def _deleted(item: dict[str, Any]) -> str:
    return str(item["metadata"]["annotations"]["helm.sh/hook-delete-policy"])
