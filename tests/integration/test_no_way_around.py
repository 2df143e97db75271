"""No way around the sidecar: what somebody with every right in a namespace, and none of modelward's, might try.

`test_pod_policy.py` has the plain ways: pods without sidecar, decoys, labels and images of running pods, `replace`,
ephemeral containers, host namespaces, the sidecar's volumes, exec and its like, managed objects, Services and
NetworkPolicies, unlabelling a namespace, status. Here are the ways that are less plain.
"""

from __future__ import annotations

import copy
import json
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from modelward.rules.admission_policy import catalogue_policies
from tests.integration.apiserver import ADMIN_TOKEN, ApiServer, Result
from tests.integration.backstop import (
    ALICE,
    CONTROLLER,
    MANAGED,
    NAMED,
    bare_pod,
    create,
    genuine,
    in_force,
    managed,
    namespace,
    patch,
    refused,
)

pytestmark = pytest.mark.timeout(300)

ALONE = "written by modelward's controller alone"
BASELINE: dict[str, Any] = {
    "apiVersion": "modelward.io/v1alpha1",
    "kind": "ClusterDataPolicy",
    "metadata": {"name": "baseline"},
    "spec": {"require": {"workload": "Baseline"}},
}


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> Iterator[ApiServer]:
    with in_force(apiserver, *catalogue_policies()):
        assert apiserver.apply(BASELINE).ok
        deadline = time.monotonic() + 30
        while create(apiserver, model("probe", image="m:1")).ok:
            assert time.monotonic() < deadline
            assert apiserver.kubectl("-n", "clinic", "delete", "md", "probe").ok
            time.sleep(0.2)
        yield apiserver
        apiserver.kubectl("delete", "cdp", "baseline")
        apiserver.kubectl(
            "-n", "clinic", "delete", "md,pods,replicasets", "--all", "--force", "--grace-period=0", "--wait=false"
        )


def model(name: str, *, image: str = "m@sha256:" + "a" * 64, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name, "namespace": "clinic"},
        "spec": {"model": {"image": image}},
        **more,
    }


def target(name: str, workload: str) -> dict[str, Any]:
    return model(name, spec={"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}})


def raw(cluster: ApiServer, verb: str, path: str, body: Any, token: str = ALICE) -> Result:
    """A request that kubectl has no command for."""
    return cluster.kubectl(verb, "--raw", path, "-f", "-", input=json.dumps(body), token=token)


@pytest.fixture(scope="module")
def running(cluster: ApiServer) -> str:
    result = create(cluster, genuine("running"))
    assert result.ok, result.stderr
    return "pod/running"


# --- how a pod may come


@pytest.mark.parametrize("labels", [NAMED, {"modelward.io/model": "wdbc"}, {"modelward.io/inject": "enabled"}])
@pytest.mark.parametrize("flags", [("create",), ("apply", "--server-side"), ("apply",), ("create", "--dry-run=server")])
def test_however_a_pod_is_sent_it_is_judged(cluster: ApiServer, flags: tuple[str, ...], labels: dict[str, str]) -> None:
    manifest = yaml.safe_dump(bare_pod("sent", labels=labels))
    refused(cluster.kubectl(*flags, "-f", "-", input=manifest, token=ALICE), "the pod")


def test_a_generated_name_is_no_way_around(cluster: ApiServer) -> None:
    pod = bare_pod("x")
    pod["metadata"]["generateName"] = pod["metadata"].pop("name") + "-"
    refused(create(cluster, pod), "has no modelward-sidecar")


def test_a_field_managers_name_is_nobodys_identity(cluster: ApiServer) -> None:
    manifest = yaml.safe_dump(bare_pod("posing"))
    flags = ("--server-side", "--field-manager=modelward-controller")
    refused(cluster.kubectl("apply", *flags, "-f", "-", input=manifest, token=ALICE), "has no modelward-sidecar")


def test_labels_that_look_like_ours_are_not_ours(cluster: ApiServer) -> None:
    """A pod with them is out of scope, and out of every Service of a model: it gains nothing."""
    for labels in ({"modelward.io/Model": "wdbc"}, {"Modelward.io/model": "wdbc"}, {"modelward.io/inject": "Enabled"}):
        pod = bare_pod("case", labels=labels)
        result = create(cluster, pod)
        if result.ok:
            stored = cluster.get("-n", "clinic", "pod", "case")["metadata"]["labels"]
            assert "modelward.io/model" not in stored
            assert cluster.kubectl("-n", "clinic", "delete", "pod", "case", "--force").ok


def test_the_api_has_no_other_name_for_pods(cluster: ApiServer) -> None:
    """Every resource by which a pod can be written is matched by the policies."""
    resources = json.loads(cluster.kubectl("get", "--raw", "/api/v1").stdout)["resources"]
    writing = {one["name"] for one in resources if one["name"].split("/")[0] in ("pods", "bindings")}
    known = {
        *("pods", "pods/status", "pods/ephemeralcontainers", "pods/resize", "pods/binding", "bindings"),  # judged
        *("pods/exec", "pods/attach", "pods/portforward", "pods/proxy"),  # judged in protected namespaces
        *("pods/eviction", "pods/log"),  # the one takes pods away, the other only reads
    }
    assert writing <= known, "new in this version of Kubernetes: judge it"


def test_a_pod_with_a_finalizer_or_an_owner_is_judged_like_any(cluster: ApiServer) -> None:
    pod = bare_pod("owned")
    pod["metadata"]["finalizers"] = ["example.org/wait"]
    pod["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "u-1", "controller": True}
    pod["metadata"]["ownerReferences"] = [owner]
    refused(create(cluster, pod), "has no modelward-sidecar")


NEIGHBOURS: dict[str, dict[str, Any]] = {
    "privileged": {"securityContext": {"privileged": True}},
    "capability": {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
    "hostPort": {"ports": [{"containerPort": 8080, "hostPort": 8080}]},
    "read under another name": {"envFrom": [{"secretRef": {"name": "wdbc-serving"}}]},
}


@pytest.mark.parametrize("text", NEIGHBOURS)
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_neighbour_that_could_take_over_is_refused(cluster: ApiServer, where: str, text: str) -> None:
    pod = genuine("neighbours")
    pod["spec"][where].append({"name": "other", "image": "o:1", **NEIGHBOURS[text]})
    refused(create(cluster, pod), text)


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        ({"secret": {"secretName": "wdbc-serving"}}, "read under another name"),
        ({"projected": {"sources": [{"secret": {"name": "wdbc-serving"}}]}}, "read under another name"),
        ({"hostPath": {"path": "/var/lib/kubelet/pods"}}, "hostPath"),
    ],
)
def test_the_sidecars_files_are_not_reached_by_other_volumes(cluster: ApiServer, volume: Any, text: str) -> None:
    pod = genuine("volumes")
    pod["spec"]["volumes"].append({"name": "loot", **volume})
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "loot", "mountPath": "/loot"}]
    refused(create(cluster, pod), text)


# --- what may be done to a pod that runs


LABEL_PATCHES = {
    "json": [{"op": "remove", "path": "/metadata/labels/modelward.io~1model"}],
    "strategic": {"metadata": {"labels": {"$patch": "replace"}}},
    "merge": {"metadata": {"labels": {"modelward.io/model": "other"}}},
}


@pytest.mark.parametrize("kind", LABEL_PATCHES)
def test_no_kind_of_patch_takes_a_label_off(cluster: ApiServer, running: str, kind: str) -> None:
    change = json.dumps(LABEL_PATCHES[kind])
    result = cluster.kubectl("-n", "clinic", "patch", running, f"--type={kind}", "-p", change, token=ALICE)
    refused(result, "may be neither given")


def test_a_strategic_patch_does_not_reach_the_sidecars_image(cluster: ApiServer, running: str) -> None:
    change = json.dumps({"spec": {"initContainers": [{"name": "modelward-sidecar", "image": "evil:1"}]}})
    refused(cluster.kubectl("-n", "clinic", "patch", running, "-p", change, token=ALICE), "may not be changed")
    result = cluster.kubectl("-n", "clinic", "set", "image", running, "modelward-sidecar=evil:1", token=ALICE)
    refused(result, "may not be changed")


def test_server_side_apply_does_not_take_the_sidecar_over(cluster: ApiServer, running: str) -> None:
    applied = bare_pod("running")
    applied["spec"]["initContainers"] = [{"name": "modelward-sidecar", "image": "evil:1"}]
    refused(cluster.apply(applied, token=ALICE), "may not be changed")


def test_replace_by_force_leaves_nothing_unwatched(cluster: ApiServer) -> None:
    """It is a deletion, which is free to all, and a creation, which is judged."""
    assert create(cluster, genuine("forced")).ok
    manifest = yaml.safe_dump(bare_pod("forced"))
    result = cluster.kubectl("replace", "--force", "--grace-period=0", "-f", "-", input=manifest, token=ALICE)
    refused(result, "has no modelward-sidecar")
    assert not cluster.kubectl("-n", "clinic", "get", "pod", "forced").ok


def test_a_running_sidecar_is_not_resized_away(cluster: ApiServer, running: str) -> None:
    if '"pods/resize"' not in cluster.kubectl("get", "--raw", "/api/v1").stdout:
        pytest.skip("this version of Kubernetes resizes no pods (KEP-1287: from 1.33 on)")
    tiny = {"requests": {"cpu": "1m"}}  # less memory some versions refuse by themselves
    change = json.dumps({"spec": {"initContainers": [{"name": "modelward-sidecar", "resources": tiny}]}})
    result = cluster.kubectl("-n", "clinic", "patch", running, "--subresource=resize", "-p", change, token=ALICE)
    refused(result, "may not be changed")


def test_an_ephemeral_container_sent_raw_is_refused(cluster: ApiServer, running: str) -> None:
    stored = cluster.get("-n", "clinic", running)
    spy = {"name": "spy", "image": "spy:1", "targetContainerName": "model"}
    stored["spec"]["ephemeralContainers"] = [spy]
    path = "/api/v1/namespaces/clinic/pods/running/ephemeralcontainers"
    refused(raw(cluster, "replace", path, stored), "ephemeral container")


@pytest.mark.parametrize("path", ["pods/unbound/binding", "bindings"])
def test_binding_a_pod_gives_it_no_label_of_ours(cluster: ApiServer, path: str) -> None:
    """A Binding's labels are copied to its pod."""
    assert cluster.apply(bare_pod("unbound", labels={}), token=ALICE).ok
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "unbound", "namespace": "clinic", "labels": dict(NAMED)},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "somewhere"},
    }
    raw(cluster, "create", f"/api/v1/namespaces/clinic/{path}", binding)
    stored = cluster.get("-n", "clinic", "pod", "unbound")["metadata"].get("labels", {})
    assert not stored.keys() & NAMED.keys()
    assert cluster.kubectl("-n", "clinic", "delete", "pod", "unbound", "--force", "--grace-period=0").ok


def test_a_pod_that_lingers_is_judged_as_long_as_it_is_there(cluster: ApiServer) -> None:
    pod = genuine("lingers")
    pod["metadata"]["finalizers"] = ["example.org/wait"]
    assert create(cluster, pod).ok
    assert cluster.kubectl("-n", "clinic", "delete", "pod", "lingers", "--wait=false", token=ALICE).ok
    refused(patch(cluster, "pod/lingers", {"metadata": {"labels": None}}), "may be neither given")
    assert patch(cluster, "pod/lingers", {"metadata": {"finalizers": None}}).ok, "and is not kept from leaving"


def managed_pod(name: str) -> dict[str, Any]:
    """A pod as the model's Deployment makes it: what the model's Service and NetworkPolicy choose."""
    pod = genuine(name)
    pod["metadata"]["labels"] |= {**MANAGED, "app.kubernetes.io/name": "wdbc"}
    return pod


REPLICA_SETS = ("--as=system:serviceaccount:kube-system:replicaset-controller", "--as-group=system:masters")


def test_nobody_slips_a_model_of_their_own_behind_a_models_service(cluster: ApiServer) -> None:
    """With the genuine sidecar, so that callers are served, and by another model than the one that was judged."""
    refused(create(cluster, managed_pod("another")), "answers a model's callers")
    result = cluster.kubectl(*REPLICA_SETS, "create", "-f", "-", input=yaml.safe_dump(managed_pod("its-own")))
    assert result.ok, result.stderr
    by_hand = genuine("by-hand")
    assert create(cluster, by_hand).ok, "a pod of a model, and not of its Service"
    joins = {"metadata": {"labels": {**MANAGED, "app.kubernetes.io/name": "wdbc"}}}
    refused(patch(cluster, "pod/by-hand", joins), "may be neither given")


@pytest.mark.parametrize("kind", ["ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job"])
def test_no_template_of_ones_own_makes_a_models_pods(cluster: ApiServer, kind: str) -> None:
    template = {
        "metadata": {"labels": dict(managed_pod("x")["metadata"]["labels"])},
        "spec": {"containers": [{"name": "model", "image": "evil:1"}], "restartPolicy": "Always"},
    }
    spec: dict[str, Any] = {"template": template, "selector": {"matchLabels": dict(MANAGED)}}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        del spec["selector"]
    if kind == "StatefulSet":
        spec["serviceName"] = "x"
    group = "batch/v1" if kind == "Job" else "apps/v1"
    item = {"apiVersion": group, "kind": kind, "metadata": {"name": "mine", "namespace": "clinic"}, "spec": spec}
    if kind == "Job":  # without labels of its own it gets its template's; then two policies refuse it, either one first
        item["metadata"]["labels"] = {"app": "mine"}
    refused(create(cluster, item), "answers a model's callers")


@pytest.mark.parametrize(
    "labels",
    [
        {"app.kubernetes.io/name": "x"},  # out of the NetworkPolicy: it could call out
        {"app.kubernetes.io/managed-by": None},
        {"modelward.io/withheld": "true"},  # into the Service, before the model may answer anybody
        {"modelward.io/model-port": "9999"},
    ],
)
def test_a_running_pod_stays_where_its_model_put_it(cluster: ApiServer, labels: dict[str, Any]) -> None:
    cluster.kubectl(*REPLICA_SETS, "create", "-f", "-", input=yaml.safe_dump(managed_pod("placed")))
    refused(patch(cluster, "pod/placed", {"metadata": {"labels": labels}}), "may be neither given")
    assert patch(cluster, "pod/placed", {"metadata": {"labels": {"team": "x"}}}).ok


# --- what makes pods


def test_a_template_without_its_label_makes_no_pod_of_a_protected_namespace(cluster: ApiServer) -> None:
    """Whoever made the template: its pods are judged when they come, as their controller sends them."""
    as_controller = ("--as=system:serviceaccount:kube-system:replicaset-controller", "--as-group=system:masters")
    manifest = yaml.safe_dump(bare_pod("from-template", "ward", labels={"app": "x"}))
    refused(cluster.kubectl(*as_controller, "create", "-f", "-", input=manifest), "names no model")


def test_scaling_makes_pods_that_are_judged(cluster: ApiServer) -> None:
    replica_set = {**managed("Deployment", "scaled"), "kind": "ReplicaSet"}
    replica_set["metadata"]["labels"] = {}
    replica_set["spec"]["replicas"] = 0
    assert create(cluster, replica_set).ok
    assert cluster.kubectl("-n", "clinic", "scale", "replicaset", "scaled", "--replicas=3", token=ALICE).ok
    template = cluster.get("-n", "clinic", "replicaset", "scaled")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {**template["metadata"], "generateName": "scaled-", "namespace": "clinic"}
    as_controller = ("--as=system:serviceaccount:kube-system:replicaset-controller", "--as-group=system:masters")
    refused(cluster.kubectl(*as_controller, "create", "-f", "-", input=yaml.safe_dump(pod)), "has no modelward-sidecar")


STATUS_KINDS = ("Service", "Deployment", "PodDisruptionBudget")


@pytest.mark.parametrize("kind", STATUS_KINDS)
def test_managed_objects_are_not_unlabelled_by_their_status(cluster: ApiServer, kind: str) -> None:
    """An update of status may carry labels; without them the object would be anyone's."""
    what = f"{kind.lower()}/wdbc"
    result = create(cluster, managed(kind), CONTROLLER)
    assert result.ok, result.stderr
    for label in MANAGED:
        patch(cluster, what, {"metadata": {"labels": {label: None}}}, "--subresource=status")
        assert cluster.get("-n", "clinic", what)["metadata"]["labels"].items() >= MANAGED.items()
    status = {"Deployment": {"replicas": 0}, "Service": {"conditions": []}}.get(kind, {"disruptionsAllowed": 0})
    assert patch(cluster, what, {"status": status}, "--subresource=status").ok, "the cluster's controllers write it"
    assert cluster.kubectl("-n", "clinic", "delete", what, token=CONTROLLER).ok


def test_managed_objects_are_not_taken_over(cluster: ApiServer) -> None:
    assert create(cluster, managed("ConfigMap"), CONTROLLER).ok
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "wdbc", "namespace": "clinic"}}
    for flags in ((), ("--field-manager=modelward-controller",)):
        manifest = yaml.safe_dump({**mine, "data": {"config.json": "{}"}})
        command = ("apply", "--server-side", "--force-conflicts", *flags, "-f", "-")
        refused(cluster.kubectl(*command, input=manifest, token=ALICE), ALONE)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0"}
    refused(patch(cluster, "configmap/wdbc", {"metadata": {"ownerReferences": [owner]}}), ALONE)
    refused(patch(cluster, "configmap/wdbc", {"metadata": {"finalizers": ["example.org/x"]}}), ALONE)
    refused(cluster.kubectl("replace", "--force", "-f", "-", input=yaml.safe_dump(mine), token=ALICE), ALONE)
    assert cluster.kubectl("-n", "clinic", "delete", "configmap", "wdbc", token=CONTROLLER).ok


# --- where traffic goes


@pytest.mark.parametrize("kind", ["Endpoints", "EndpointSlice"])
def test_nobody_adds_addresses_to_a_service_of_a_protected_namespace(cluster: ApiServer, kind: str) -> None:
    """Callers would be led to a pod that nobody watches, by the model's own name."""
    metadata = {"name": "wdbc", "namespace": "ward", "labels": {"kubernetes.io/service-name": "wdbc"}}
    manifest: dict[str, Any] = {
        "Endpoints": {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "subsets": [{"addresses": [{"ip": "10.0.0.66"}], "ports": [{"port": 8443}]}],
        },
        "EndpointSlice": {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.66"]}],
        },
    }[kind]
    manifest["metadata"] = metadata
    refused(create(cluster, manifest), "in a protected namespace")
    names = {"Endpoints": "endpoint-controller", "EndpointSlice": "endpointslice-controller"}
    as_controller = (f"--as=system:serviceaccount:kube-system:{names[kind]}", "--as-group=system:masters")
    result = cluster.kubectl(*as_controller, "create", "-f", "-", input=yaml.safe_dump(manifest))
    assert result.ok, result.stderr
    refused(patch(cluster, f"{kind.lower()}/wdbc", {"metadata": {"labels": None}}, space="ward"), "in a protected")
    assert cluster.kubectl("-n", "ward", "delete", f"{kind.lower()}/wdbc").ok


# --- namespaces


def test_a_namespace_does_not_pose_as_an_exempt_one(cluster: ApiServer) -> None:
    posing = namespace("posing", **{"kubernetes.io/metadata.name": "kube-system", "modelward.io/protected": "true"})
    create(cluster, posing)
    change = {"metadata": {"labels": {"kubernetes.io/metadata.name": "modelward-system"}}}
    patch(cluster, "namespace/posing", change)
    refused(create(cluster, bare_pod("p", "posing")), "has no modelward-sidecar")


def test_no_way_of_writing_takes_a_namespaces_label_off(cluster: ApiServer) -> None:
    without = namespace("ward")
    del without["metadata"]["labels"]
    manifest = yaml.safe_dump(without)
    refused(cluster.kubectl("replace", "-f", "-", input=manifest, token=ALICE), "unprotect")
    stored = cluster.get("namespace", "ward")
    finalised = copy.deepcopy(stored)
    finalised["metadata"]["labels"] = {}
    refused(raw(cluster, "replace", "/api/v1/namespaces/ward/finalize", finalised), "unprotect")
    for value in ("True", "TRUE", " true", "1"):
        result = patch(cluster, "namespace/ward", {"metadata": {"labels": {"modelward.io/protected": value}}})
        assert not result.ok
    assert cluster.get("namespace", "ward")["metadata"]["labels"]["modelward.io/protected"] == "true"


# --- ModelDeployments and policies


def test_status_sent_with_a_new_model_is_not_kept(cluster: ApiServer) -> None:
    forged = {"conditions": [], "policies": ["ClusterDataPolicy/none"], "endpoint": "https://evil", "replicas": 3}
    for send in (create, lambda c, m: c.apply(m, token=ALICE)):
        result = send(cluster, model("forged", status=forged))
        assert result.ok, result.stderr
        assert "status" not in cluster.get("-n", "clinic", "md", "forged")
    assert cluster.kubectl("-n", "clinic", "delete", "md", "forged", token=ALICE).ok


def test_nobody_writes_the_status_of_a_model(cluster: ApiServer) -> None:
    assert cluster.apply(model("stated")).ok
    change = {"status": {"endpoint": "https://evil"}}
    for token in (ALICE, ADMIN_TOKEN):
        refused(patch(cluster, "md/stated", change, "--subresource=status", token=token), "status is written by")
    applied = httpx.patch(
        f"{cluster.url}/apis/modelward.io/v1alpha1/namespaces/clinic/modeldeployments/stated/status",
        params={"fieldManager": "modelward-controller", "force": "true"},
        headers={"Authorization": f"Bearer {ALICE}", "Content-Type": "application/apply-patch+yaml"},
        content=yaml.safe_dump({**model("stated"), **change}),
        verify=ssl.create_default_context(cafile=str(cluster.ca)),
    )
    refused(Result(int(applied.is_error), "", applied.text), "status is written by")
    assert cluster.kubectl("-n", "clinic", "delete", "md", "stated").ok


def test_a_protected_workload_is_not_let_go_by_naming_another(cluster: ApiServer) -> None:
    """It would run on unprotected, as if its ModelDeployment were deleted."""
    assert cluster.apply(target("held", "theirs")).ok
    other = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "another"}
    refused(patch(cluster, "md/held", {"spec": {"targetRef": other}}), "unprotect")
    instead = {"targetRef": None, "model": {"image": "m@sha256:" + "a" * 64}}
    refused(patch(cluster, "md/held", {"spec": instead}), "unprotect")
    assert patch(cluster, "md/held", {"spec": {"access": {"rules": []}}}).ok
    result = patch(cluster, "md/held", {"spec": {"targetRef": other}}, token=ADMIN_TOKEN)
    assert result.ok, result.stderr
    assert cluster.kubectl("-n", "clinic", "delete", "md", "held").ok


def test_a_finalizer_does_not_keep_a_refused_deletion_half_done(cluster: ApiServer) -> None:
    held = target("kept", "theirs")
    held["metadata"]["finalizers"] = ["example.org/wait"]
    assert cluster.apply(held, token=ALICE).ok
    refused(cluster.kubectl("-n", "clinic", "delete", "md", "kept", "--wait=false", token=ALICE), "unprotect")
    assert "deletionTimestamp" not in cluster.get("-n", "clinic", "md", "kept")["metadata"]
    assert patch(cluster, "md/kept", {"metadata": {"finalizers": None}}).ok
    assert cluster.kubectl("-n", "clinic", "delete", "md", "kept").ok


@pytest.mark.parametrize("way", ["option", "finalizer"])
def test_a_model_leaves_nothing_running_that_nobody_judges(cluster: ApiServer, way: str) -> None:
    orphaning = model("orphaning")
    orphaning["metadata"]["finalizers"] = ["orphan"] if way == "finalizer" else []
    assert cluster.apply(orphaning, token=ALICE).ok
    flags = ("--cascade=orphan",) if way == "option" else ("--cascade=background",)
    delete = ("-n", "clinic", "delete", "md", "orphaning", "--wait=false")
    refused(cluster.kubectl(*delete, *flags, token=ALICE), "orphaned")
    assert "deletionTimestamp" not in cluster.get("-n", "clinic", "md", "orphaning")["metadata"]
    assert patch(cluster, "md/orphaning", {"metadata": {"finalizers": None}}).ok
    assert cluster.kubectl(*delete, "--cascade=background", token=ALICE).ok


def test_the_garbage_collector_is_nobodys_tool(cluster: ApiServer) -> None:
    """It may delete a ModelDeployment with targetRef; so nobody makes it believe that it should."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u-1"}
    owned = target("collected", "theirs")
    owned["metadata"]["ownerReferences"] = [owner]
    refused(create(cluster, owned), "garbage collector")
    assert create(cluster, target("collected", "theirs")).ok
    refused(patch(cluster, "md/collected", {"metadata": {"ownerReferences": [owner]}}), "garbage collector")
    change = {"metadata": {"ownerReferences": [owner]}}
    refused(patch(cluster, "clusterdatapolicy/baseline", change), "garbage collector")
    own = model("own")
    own["metadata"]["ownerReferences"] = [owner]
    assert create(cluster, own).ok, "what ends with its ModelDeployment may be anybody's"
    assert cluster.kubectl("-n", "clinic", "delete", "md", "collected", "own").ok


def test_a_model_that_is_being_deleted_cannot_be_made_another(cluster: ApiServer) -> None:
    """What is being deleted is judged no more; so it may not change any more either."""
    leaving = model("leaving")
    leaving["metadata"]["finalizers"] = ["example.org/wait"]
    assert cluster.apply(leaving, token=ALICE).ok
    assert cluster.kubectl("-n", "clinic", "delete", "md", "leaving", "--wait=false", token=ALICE).ok
    refused(patch(cluster, "md/leaving", {"spec": {"model": {"image": "evil:1"}}}), "being deleted")
    assert patch(cluster, "md/leaving", {"metadata": {"finalizers": None}}).ok


def test_a_dry_run_says_what_the_real_one_does(cluster: ApiServer) -> None:
    for manifest, well in ((model("dry"), True), (model("dry", image="m:1"), False), (bare_pod("dry"), False)):
        text = yaml.safe_dump(manifest)
        dry = cluster.kubectl("create", "--dry-run=server", "-f", "-", input=text, token=ALICE)
        real = cluster.kubectl("create", "-f", "-", input=text, token=ALICE)
        assert (dry.ok, real.ok) == (well, well)
        assert well or dry.stderr == real.stderr
    assert cluster.kubectl("-n", "clinic", "delete", "md", "dry").ok


def test_no_annotation_switches_the_judgement_off(cluster: ApiServer) -> None:
    """Neither kubectl's record of the last apply nor anything else that an owner writes is read as permission."""
    manifest = model("claims", image="m:1")
    manifest["metadata"]["annotations"] = {
        "modelward.io/exempt": "true",
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps(model("claims")),
    }
    manifest["metadata"]["finalizers"] = ["example.org/wait"]
    manifest["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z"
    result = create(cluster, manifest)
    assert not result.ok
    assert "RUN-001" in result.stderr
