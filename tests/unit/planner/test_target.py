"""Workloads that run already: what is read of them, and what of theirs is changed."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.planner.exposure import leading_past, leading_to
from modelward.planner.injection import inject, json_patch
from modelward.planner.observation import Obstacle
from modelward.planner.plan import Settings
from modelward.planner.rollout import rollout, sharing
from modelward.planner.takeover import taken_over
from modelward.planner.target import Target, pod_selector, target
from modelward.planner.target_marks import application, held, marked, operations

SETTINGS = Settings(sidecar_image="modelward-sidecar@sha256:" + "b" * 64, config_key="a2V5")
SERVER: dict[str, Any] = {
    "name": "server",
    "image": "server",
    "ports": [{"name": "http", "containerPort": 8080}, {"name": "grpc", "containerPort": 9000}],
    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 3},
    "livenessProbe": {"tcpSocket": {"port": "grpc"}},
    "startupProbe": {"exec": {"command": ["true"]}},
    "lifecycle": {"preStop": {"httpGet": {"path": "/stop", "port": "http"}}, "stopSignal": "SIGINT"},
}


def deployment(**pod: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "wdbc", "namespace": "clinic", "uid": "u", "resourceVersion": "7", "generation": 2},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "wdbc"}},
            "template": {"metadata": {"labels": {"app": "wdbc"}}, "spec": {"containers": [SERVER], **pod}},
        },
    }


def seldon(**spec: Any) -> dict[str, Any]:
    predictors = [{"name": "a", "labels": {"x": "y"}}, {"name": "b"}]
    return {
        "apiVersion": "machinelearning.seldon.io/v1",
        "kind": "SeldonDeployment",
        "metadata": {"name": "wdbc", "namespace": "clinic", "uid": "u", "resourceVersion": "7"},
        "spec": {"protocol": "v2", "predictors": predictors, **spec},
    }


def found(item: dict[str, Any], **ref: Any) -> Target | Obstacle:
    ref = {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": "wdbc", **ref}
    metadata = {"name": "guard", "namespace": "clinic"}
    md = ModelDeployment.model_validate({"metadata": metadata, "spec": {"targetRef": ref}})
    assert md.spec.target_ref
    return target(md, md.spec.target_ref, item, SETTINGS)


def protected(item: dict[str, Any], **ref: Any) -> Target:
    result = found(item, **ref)
    assert isinstance(result, Target), result
    return result


def test_every_port_of_the_model_server_is_known_and_one_of_several_must_be_named() -> None:
    unclear = found(deployment())
    assert isinstance(unclear, Obstacle)
    assert "8080, 9000" in unclear.message
    assert protected(deployment(), port=8080).ports == (8080, 9000)
    ports = [{"containerPort": 7000}, {"containerPort": 53, "protocol": "UDP"}]
    helper = {"name": "helper", "image": "x", "ports": ports}
    assert protected(deployment(containers=[SERVER, helper]), containerName="helper").ports == (7000,)
    assert protected(deployment(containers=[SERVER, helper]), port=5000).ports == (5000,), "a port need not be declared"


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"])
def test_pods_that_the_webhook_would_refuse_are_not_marked(field: str) -> None:
    refused = found(deployment(**{field: True}), port=8080)
    assert isinstance(refused, Obstacle)
    assert field in refused.message


def test_a_second_port_that_is_open_on_the_node_is_a_way_past() -> None:
    server = {**SERVER, "ports": [SERVER["ports"][0], {**SERVER["ports"][1], "hostPort": 9000}]}
    refused = found(deployment(containers=[server]), port=8080)
    assert isinstance(refused, Obstacle)
    assert "hostPort" in refused.message


@pytest.mark.parametrize("protocol", ["", "seldon", "tensorflow"])
def test_seldon_must_speak_what_the_sidecar_speaks(protocol: str) -> None:
    assert isinstance(found(seldon(protocol=protocol)), Obstacle)
    assert protected(seldon(protocol="kfserving")).port == 8000
    assert protected(seldon(protocol="tensorflow"), protocol="v1").port == 8000
    apart = seldon(annotations={"seldon.io/engine-separate-pod": "true"})
    assert isinstance(found(apart), Obstacle)


def test_what_is_applied_names_the_version_that_was_looked_at() -> None:
    result = protected(deployment(), port=8080)
    applied = application(result.item, result.labels)
    assert applied["metadata"] == {
        "name": "wdbc",
        "namespace": "clinic",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"modelward.io/model": "guard"},
    }
    assert applied["spec"] == {"template": {"metadata": {"labels": dict(result.labels)}}}
    assert set(application(result.item, {})) == {"apiVersion", "kind", "metadata"}


def test_a_patch_of_lists_marks_every_predictor_and_takes_only_marks_back() -> None:
    item = seldon()
    result = protected(item)
    assert operations(item, result.labels)[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    there = marked(item, result.labels)
    assert [predictor["labels"]["modelward.io/model"] for predictor in there["spec"]["predictors"]] == ["guard"] * 2
    assert there["spec"]["predictors"][0]["labels"]["x"] == "y"
    assert operations(there, result.labels) == []
    removed = [operation["path"] for operation in operations(there, {}) if operation["op"] == "remove"]
    assert len(removed) == 9
    assert all("modelward.io~1" in path for path in removed)


def test_what_nobody_marked_is_not_held_and_neither_is_what_modelward_runs() -> None:
    item = deployment()
    assert not held(item)
    item["metadata"]["managedFields"] = [{"manager": "modelward-target"}]
    assert held(item)
    item["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "modelward"}
    assert not held(item)


def test_pods_are_found_by_the_selector_of_their_workload() -> None:
    item = deployment()
    item["spec"]["selector"]["matchExpressions"] = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "zone", "operator": "NotIn", "values": ["c"]},
        {"key": "is", "operator": "Exists"},
        {"key": "not", "operator": "DoesNotExist"},
    ]
    assert pod_selector(item, "guard") == "app=wdbc,tier in (a,b),zone notin (c),is,!not"
    assert pod_selector({**item, "kind": "CronJob"}, "guard") == "modelward.io/model=guard"


def test_the_sidecar_takes_the_place_of_the_port_and_probes_go_on_asking_the_model() -> None:
    before = copy.deepcopy(SERVER)
    (after,) = taken_over([SERVER], 8080)
    assert before == SERVER, "what is given is left as it is"
    assert after["ports"] == [{"name": "http", "containerPort": 8443}, SERVER["ports"][1]]
    assert after["readinessProbe"] == {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 3}
    assert after["livenessProbe"] == SERVER["livenessProbe"]
    assert after["startupProbe"] == SERVER["startupProbe"]
    assert after["lifecycle"] == {"preStop": {"httpGet": {"path": "/stop", "port": 8080}}, "stopSignal": "SIGINT"}
    assert taken_over([after], 8080) == [after]
    assert taken_over([SERVER], 5000) == [SERVER]
    on_node = {**SERVER, "ports": [{"containerPort": 8080, "hostPort": 80}]}
    assert taken_over([on_node], 8080)[0]["ports"] == [{"containerPort": 8443, "hostPort": 80}]


@pytest.mark.parametrize("broken", [{"ports": "x"}, {"ports": [7]}, {"ports": SERVER["ports"], "readinessProbe": []}])
def test_what_is_malformed_is_left_to_the_api_server(broken: dict[str, Any]) -> None:
    assert taken_over([broken], 5000) == [broken]


def test_the_webhook_goes_by_the_label_and_does_it_once() -> None:
    labels = {"modelward.io/model": "guard", "modelward.io/model-port": "8080"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [SERVER]}}
    after = inject(pod, image=SETTINGS.sidecar_image, config_key=SETTINGS.config_key)
    assert after["spec"]["containers"][0]["ports"][0]["containerPort"] == 8443
    assert {operation["path"] for operation in json_patch(pod, after)} >= {"/spec/containers"}
    assert inject(after, image=SETTINGS.sidecar_image, config_key=SETTINGS.config_key) == after


def service(target_port: Any = None, **changes: Any) -> dict[str, Any]:
    port = {"port": 80} if target_port is None else {"port": 80, "targetPort": target_port}
    return {"metadata": {"name": "old"}, "spec": {"selector": {"app": "wdbc"}, "ports": [port], **changes}}


MANAGED = {"app.kubernetes.io/managed-by": "modelward", "modelward.io/model": "guard"}


@pytest.mark.parametrize(
    ("item", "leads"),
    [
        (service(8080), True),
        (service(9000), True),
        (service("grpc"), True),
        (service("http"), False),  # the sidecar takes its place
        (service(8443), False),
        (service(), False),
        (service(ports=[{"port": 8080}]), True),
        (service(ports=[{"port": 8080, "protocol": "UDP"}]), False),
        (service(8080, selector={"app": "other"}), False),
        (service(8080, selector=None), False),
        (service(8080, clusterIP="None"), False),
        ({**service(8080), "metadata": {"name": "x", "ownerReferences": [{"uid": "k", "controller": True}]}}, False),
        ({**service(8080), "metadata": {"name": "x", "labels": MANAGED}}, False),
    ],
)
def test_services_that_lead_past(item: dict[str, Any], *, leads: bool) -> None:
    pods = [deployment()["spec"]["template"]]
    assert bool(leading_past([item], pods, (8080, 9000))) is leads


def test_services_that_lead_to_the_sidecar_have_their_names_in_its_certificate() -> None:
    pods = [deployment()["spec"]["template"]]
    for target_port, leads in (("http", True), (8443, True), ("grpc", False), (8080, False)):
        assert leading_to([service(target_port)], pods, (8080, 9000)) == (("old",) if leads else ())
    own = {**service(8443), "metadata": {"name": "guard", "labels": MANAGED}}
    assert leading_to([own, service("http", selector={"app": "x"})], pods, (8080, 9000)) == ()


def state(kind: str, spec: dict[str, Any], status: dict[str, Any], *pods: dict[str, Any]) -> tuple[Any, ...]:
    seen = rollout({"kind": kind, "metadata": {"generation": 2}, "spec": spec, "status": status}, pods)
    return seen.wanted, seen.ready, seen.done, seen.rests


def test_a_limit_is_divided_among_the_pods_that_are_wanted_or_there() -> None:
    def among(kind: str, spec: dict[str, Any], status: dict[str, Any], *pods: dict[str, Any]) -> int:
        return sharing({"kind": kind, "metadata": {}, "spec": spec, "status": status}, pods)

    assert among("Deployment", {"replicas": 3}, {}) == 3
    assert among("Deployment", {"replicas": 3}, {"replicas": 4}) == 4  # one more, while it is rolled out
    assert among("StatefulSet", {"replicas": 0}, {}) == 1
    assert among("DaemonSet", {}, {"desiredNumberScheduled": 5}) == 5
    assert (
        among("InferenceService", {"predictor": {"minReplicas": 1}}, {}, READY, READY) == 2
    )  # scaled by its framework


READY = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
SEEN = {"observedGeneration": 2}
OLD = {"observedGeneration": 1}
FULL = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}
UPDATING, UPDATED = ({"currentRevision": now, "updateRevision": "b"} for now in "ab")
BY_HAND = {"updateStrategy": {"type": "OnDelete"}}
NODES = {"desiredNumberScheduled": 3, "numberReady": 3}
FINISHED = {"conditions": [{"type": "Complete", "status": "True"}]}


@pytest.mark.parametrize(
    ("kind", "spec", "status", "pods", "expected"),
    [
        ("Deployment", {"replicas": 2}, {**SEEN, **FULL}, 0, (2, 2, True, "")),
        ("Deployment", {"replicas": 2}, {**OLD, **FULL}, 0, (2, 2, False, "")),
        ("Deployment", {"replicas": 2}, {**SEEN, **FULL, "replicas": 3}, 0, (2, 2, False, "")),
        ("StatefulSet", {"replicas": 2}, {**SEEN, **FULL, **UPDATING}, 0, (2, 2, False, "")),
        ("StatefulSet", {"replicas": 2}, {**SEEN, **FULL, **UPDATED}, 0, (2, 2, True, "")),
        ("StatefulSet", BY_HAND, {**SEEN, **UPDATING}, 0, (1, 0, False, "")),
        ("DaemonSet", {}, {**SEEN, **NODES, "updatedNumberScheduled": 2}, 0, (3, 3, False, "")),
        ("DaemonSet", {}, {**SEEN, **NODES, "updatedNumberScheduled": 3}, 0, (3, 3, True, "")),
        ("ReplicaSet", {"replicas": 1}, {**SEEN, "readyReplicas": 1}, 0, (1, 1, True, "")),
        ("Job", {}, {"active": 1, "ready": 1}, 0, (1, 1, True, "")),
        ("Job", {}, FINISHED, 0, (1, 0, False, "Finished")),
        ("Job", {"suspend": True}, {}, 0, (1, 0, False, "Suspended")),
        ("CronJob", {}, {}, 0, (0, 0, True, "Scheduled")),
        ("CronJob", {}, {"active": [{}]}, 1, (1, 1, True, "")),
        ("InferenceService", {"predictor": {"minReplicas": 2}}, SEEN, 1, (2, 1, False, "")),
        ("InferenceService", {"predictor": {}}, SEEN, 1, (1, 1, True, "")),
        ("SeldonDeployment", {"predictors": [{"replicas": 2}, {}]}, {"state": "Available"}, 3, (3, 3, True, "")),
        ("SeldonDeployment", {"predictors": [{}]}, {"state": "Creating"}, 1, (1, 1, False, "")),
    ],
)  # fmt: skip
def test_how_far_a_workload_is(
    kind: str, spec: dict[str, Any], status: dict[str, Any], pods: int, expected: tuple[Any, ...]
) -> None:
    assert state(kind, spec, status, *[READY] * pods) == expected


def test_why_a_workload_does_not_get_on() -> None:
    conditions = [{"type": "ReplicaFailure", "status": "True", "message": "quota"}]
    item = {"kind": "Deployment", "metadata": {}, "spec": {}, "status": {"conditions": conditions}}
    assert rollout(item).failure == "quota"
    failed = {
        "kind": "SeldonDeployment",
        "metadata": {},
        "spec": {},
        "status": {"state": "Failed", "description": "no"},
    }
    assert rollout(failed).failure == "no"
