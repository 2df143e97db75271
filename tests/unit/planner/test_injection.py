import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.planner.injection import InjectionError, inject, json_patch
from modelward.planner.sidecar import CONTAINER_NAME, TOKEN_PATH, sidecar_container, sidecar_volumes

IMAGE = "modelward-sidecar@sha256:" + "a" * 64
KEY = "a2V5"


def pod(*, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    metadata: dict[str, Any] = {"name": "p"}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": {"containers": [{"name": "model", "image": "m"}], **spec}}


NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}


def injected(before: Any) -> Any:
    return inject(before, image=IMAGE, config_key=KEY)


def reasons(before: Any) -> list[str]:
    with pytest.raises(InjectionError) as caught:
        injected(before)
    return caught.value.reasons


def test_adds_the_sidecar_its_volumes_and_labels():
    after = injected(pod(labels=NAMED))
    assert after["spec"]["initContainers"] == [sidecar_container("wdbc", IMAGE, KEY)]
    assert after["spec"]["volumes"] == sidecar_volumes("wdbc")
    assert after["metadata"]["labels"] == NAMED


def test_a_pod_made_by_hand_names_its_model_by_annotation():
    after = injected(pod(annotations={"modelward.io/model-deployment": "wdbc"}))
    assert after["metadata"]["labels"] == NAMED
    assert "--model=wdbc" in after["spec"]["initContainers"][0]["args"]


def test_goes_first_and_leaves_the_containers_of_others_in_their_order():
    others = [{"name": "istio-init", "image": "i"}, {"name": "vault-agent", "image": "v", "restartPolicy": "Always"}]
    volume = {"name": "istio-envoy", "emptyDir": {}}
    before = pod(labels=NAMED, initContainers=others, volumes=[volume])
    after = injected(before)
    assert [c["name"] for c in after["spec"]["initContainers"]] == [CONTAINER_NAME, "istio-init", "vault-agent"]
    assert after["spec"]["initContainers"][1:] == others
    assert after["spec"]["volumes"] == [volume, *sidecar_volumes("wdbc")]
    assert after["spec"]["containers"] == before["spec"]["containers"]


def test_leaves_a_genuine_sidecar_where_another_injector_pushed_it():
    after = injected(pod(labels=NAMED))
    after["spec"]["initContainers"].insert(0, {"name": "istio-proxy", "restartPolicy": "Always"})
    assert injected(after) == after
    assert json_patch(after, injected(after)) == []


def test_what_the_api_server_adds_to_every_container_is_no_decoy():
    after = injected(pod(labels=NAMED))
    sidecar = after["spec"]["initContainers"][0]
    sidecar["volumeMounts"].append({"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": True})
    sidecar["resources"] = {"limits": {"cpu": "1"}}  # LimitRanger
    sidecar["imagePullPolicy"] = "Always"  # AlwaysPullImages
    assert json_patch(after, injected(after)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"image": "evil@sha256:" + "b" * 64},
        {"command": ["sleep"]},
        {"args": []},
        {"env": [{"name": "PYTHONPATH", "value": "/tmp"}]},
        {"restartPolicy": "Never"},
        {"securityContext": {"runAsUser": 0}},
        {"lifecycle": {"postStart": {"exec": {"command": ["sh"]}}}},
        {"volumeMounts": []},
        {"workingDir": "/tmp"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_genuine_sidecar_takes_the_place_of_a_decoy(change):
    genuine = injected(pod(labels=NAMED, initContainers=[{"name": "first"}]))
    decoy = copy.deepcopy(genuine)
    decoy["spec"]["initContainers"][0].update(change)
    assert injected(decoy) == genuine


def test_a_volume_that_points_elsewhere_is_put_right():
    decoy = {"name": "modelward-tls", "secret": {"secretName": "mine"}}
    after = injected(pod(labels=NAMED, volumes=[decoy, {"name": "data", "emptyDir": {}}]))
    assert {volume["name"]: volume for volume in after["spec"]["volumes"]} == {
        "data": {"name": "data", "emptyDir": {}},
        **{volume["name"]: volume for volume in sidecar_volumes("wdbc")},
    }


def test_a_pod_that_names_no_model_is_refused_with_the_way_out():
    (reason,) = reasons(pod(labels={"modelward.io/inject": "enabled"}))
    assert "names no model" in reason
    assert "modelward.io/model-deployment" in reason


def test_label_and_annotation_must_agree():
    (reason,) = reasons(pod(labels=NAMED, annotations={"modelward.io/model-deployment": "other"}))
    assert "wdbc" in reason
    assert "other" in reason


@pytest.mark.parametrize("name", ["UPPER", "a" * 51, "a.b", "-a", "a\n", 7, ["a"]])
def test_a_name_that_no_model_can_have_is_refused(name):
    (reason,) = reasons(pod(labels={"modelward.io/model": name}))
    assert "cannot be the name" in reason


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"])
def test_a_pod_open_to_its_node_is_refused(field):
    (reason,) = reasons(pod(labels=NAMED, **{field: True}))
    assert f"spec.{field}" in reason
    assert injected(pod(labels=NAMED, **{field: False}))


def test_a_decoy_among_the_containers_is_refused():
    (reason,) = reasons(pod(labels=NAMED, containers=[{"name": "model"}, {"name": CONTAINER_NAME}]))
    assert "spec.containers[1]" in reason


@pytest.mark.parametrize("volume", ["modelward-config", "modelward-tls"])
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_nobody_else_mounts_the_sidecars_volumes(where, volume):
    thief = {"name": "thief", "volumeMounts": [{"name": volume, "mountPath": "/loot"}]}
    (reason,) = reasons(pod(labels=NAMED, **{where: [thief]}))
    assert "thief" in reason
    assert volume in reason


def test_every_reason_is_told_at_once():
    assert len(reasons(pod(hostNetwork=True, hostPID=True))) == 3


def test_the_pod_given_is_left_as_it_is():
    before = pod(labels=dict(NAMED), initContainers=[{"name": "a"}], volumes=[])
    kept = copy.deepcopy(before)
    injected(before)
    assert before == kept


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def _named(most: int, *names: str) -> st.SearchStrategy[list[dict[str, str]]]:
    one = st.fixed_dictionaries({"name": st.sampled_from(names)})
    return st.lists(one, max_size=most, unique_by=lambda item: item["name"])  # as the API server demands


others = _named(3, "a", "b", CONTAINER_NAME)
volumes = _named(2, "v", "modelward-tls")
sane = st.fixed_dictionaries(
    {
        "metadata": st.fixed_dictionaries(
            {}, optional={"labels": st.just(NAMED) | st.none(), "annotations": st.just({})}
        ),
        "spec": st.fixed_dictionaries(
            {"containers": st.just([{"name": "model"}])},
            optional={"initContainers": others | st.none(), "volumes": volumes | st.none()},
        ),
    }
)


@given(sane)
def test_the_patch_makes_what_inject_made_and_a_second_round_changes_nothing(before):
    before["metadata"].setdefault("labels", NAMED)
    before["metadata"]["labels"] = before["metadata"]["labels"] or NAMED
    after = injected(before)
    assert jsonpatch.apply_patch(before, json_patch(before, after)) == after
    names = [c["name"] for c in before["spec"].get("initContainers") or [] if c["name"] != CONTAINER_NAME]
    assert [c["name"] for c in after["spec"]["initContainers"] if c["name"] != CONTAINER_NAME] == names
    assert json_patch(after, injected(after)) == []


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "metadata": json_values | st.fixed_dictionaries({"labels": json_values, "annotations": json_values}),
            "spec": json_values
            | st.fixed_dictionaries({"containers": json_values, "initContainers": json_values, "volumes": json_values}),
        },
    )
)
def test_anything_else_is_refused_and_never_blows_up(before):
    with pytest.raises(InjectionError):
        injected(before)
