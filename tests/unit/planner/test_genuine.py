"""Pods that run already; what is genuine itself is tested with the policy, whose expressions these are."""

from __future__ import annotations

from typing import Any

import pytest

from modelward.planner.genuine import faults
from modelward.planner.injection import inject

KEY = "a2V5"
IMAGE, FORMER = "modelward-sidecar@sha256:" + "a" * 64, "modelward-sidecar@sha256:" + "0" * 64


def pod(image: str = IMAGE) -> Any:
    bare = {
        "metadata": {"labels": {"modelward.io/model": "wdbc"}},
        "spec": {"containers": [{"name": "model", "image": "m"}]},
    }
    return inject(bare, image=image, config_key=KEY)


def test_one_that_is_watched_has_no_fault() -> None:
    assert faults(pod(), IMAGE, KEY) == []


def test_every_fault_is_told() -> None:
    broken = pod("evil")
    broken["spec"]["hostPID"] = True
    broken["spec"]["initContainers"][0]["command"] = ["sh"]
    assert [text.partition(". Fix")[0].split()[-2:] for text in faults(broken, IMAGE, KEY)[1:]] == [
        ["command", "differs"],
        ["image", "differs"],
    ]


def test_former_images_are_genuine_and_nothing_else_of_them() -> None:
    assert "image differs" in faults(pod(FORMER), IMAGE, KEY)[0]
    assert faults(pod(FORMER), IMAGE, KEY, (FORMER,)) == []
    decoy = pod(FORMER)
    decoy["spec"]["initContainers"][0]["args"] = []
    assert "args differs" in faults(decoy, IMAGE, KEY, (FORMER,))[0]


def test_a_null_is_a_field_that_is_not_there() -> None:
    """The API server stores an empty list of sources so."""
    pod_with_null = pod()
    pod_with_null["spec"]["volumes"].append({"name": "token", "projected": {"sources": None}})
    assert faults(pod_with_null, IMAGE, KEY) == []


def test_an_ephemeral_container_is_a_fault() -> None:
    spied = pod()
    spied["spec"]["ephemeralContainers"] = [{"name": "spy"}]
    assert "ephemeral" in faults(spied, IMAGE, KEY)[0]


@pytest.mark.parametrize(
    "spec", [{}, {"containers": None}, {"containers": [{}]}, {"containers": [], "initContainers": [{"name": 7}]}]
)
def test_what_cannot_be_judged_is_not_watched(spec: dict[str, Any]) -> None:
    assert faults({"metadata": {}, "spec": spec}, IMAGE, KEY) != []
