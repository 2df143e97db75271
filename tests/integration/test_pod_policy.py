"""The policies that hold with every modelward pod dead, evaluated by a real API server."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from modelward.planner.injection import inject
from modelward.planner.pod_policy import identity_policies
from modelward.planner.sidecar import TOKEN_PATH
from tests.integration.apiserver import ApiServer, Result
from tests.integration.backstop import (
    ALICE,
    CONTROLLER,
    IMAGE,
    KEY,
    MANAGED,
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


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> Iterator[ApiServer]:
    with in_force(apiserver):
        yield apiserver


@pytest.fixture(scope="module")
def running(cluster: ApiServer) -> str:
    result = create(cluster, genuine("running"))
    assert result.ok, result.stderr
    return "pod/running"


def test_the_api_server_finds_no_fault_with_the_policies(cluster: ApiServer):
    """Its type checker warns of fields that do not exist."""
    for policy in cluster.get("validatingadmissionpolicies")["items"]:
        assert policy.get("status", {}).get("typeChecking", {}) == {}, policy["metadata"]["name"]


def test_what_the_webhook_makes_gets_in(cluster: ApiServer):
    result = create(cluster, genuine("good", initContainers=[{"name": "first", "image": "i:1"}]))
    assert result.ok, result.stderr


def test_the_sidecar_comes_back_from_the_api_server_as_it_was_sent(cluster: ApiServer, running: str):
    stored = cluster.get("-n", "clinic", running)
    assert inject(stored, image=IMAGE, config_key=KEY) == stored


def test_a_token_mount_gets_in(cluster: ApiServer):
    pod = genuine("with-token", volumes=[{"name": "kube-api-access-x", "projected": {"sources": []}}])
    mount = {"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": True}
    pod["spec"]["initContainers"][0]["volumeMounts"].append(mount)
    result = create(cluster, pod)
    assert result.ok, result.stderr


def test_pods_out_of_scope_are_left_alone(cluster: ApiServer):
    assert create(cluster, bare_pod("plain", labels={}, hostNetwork=True)).ok
    assert create(cluster, bare_pod("of-the-system", "kube-system")).ok
    assert create(cluster, bare_pod("our-own", "modelward-system")).ok


def test_a_pod_in_scope_without_sidecar_is_refused(cluster: ApiServer):
    refused(create(cluster, bare_pod("naked")), "has no modelward-sidecar")
    refused(create(cluster, bare_pod("naked"), "admin-token-of-the-tests"), "has no modelward-sidecar")


def test_a_model_label_alone_puts_a_pod_in_scope(cluster: ApiServer):
    """It is what the model's Service selects by."""
    refused(create(cluster, bare_pod("b", labels={"modelward.io/model": "wdbc"})), "has no modelward-sidecar")


def test_a_protected_namespace_puts_every_pod_in_scope(cluster: ApiServer):
    refused(create(cluster, bare_pod("c", "ward", labels={})), "names no model")
    refused(create(cluster, bare_pod("c", "ward")), "has no modelward-sidecar")
    result = create(cluster, genuine("c", "ward"))
    assert result.ok, result.stderr


def test_a_pod_that_names_no_model_is_refused(cluster: ApiServer):
    refused(create(cluster, bare_pod("d", labels={"modelward.io/inject": "enabled"})), "names no model")


DECOYS: dict[str, Any] = {
    "image": "evil:1",
    "command": ["sleep"],
    "args": ["--config-dir=/tmp"],
    "env": [{"name": "PYTHONPATH", "value": "/tmp"}],
    "securityContext": {"runAsUser": 0},
    "terminationMessagePath": "/etc/modelward/config/config.json",
    "lifecycle": {"postStart": {"exec": {"command": ["sh"]}}},
    "envFrom": [{"secretRef": {"name": "s"}}],
    "workingDir": "/tmp",
    "tty": True,
    "volumeMounts": [{"name": "modelward-config", "mountPath": "/elsewhere"}],
    "livenessProbe": {"exec": {"command": ["sh"]}},
    "ports": [{"containerPort": 9090, "hostPort": 9090}],
}


@pytest.mark.parametrize("field", DECOYS)
def test_a_decoy_is_refused(cluster: ApiServer, field: str):
    pod = genuine("decoy")
    pod["spec"]["initContainers"][0][field] = DECOYS[field]
    refused(create(cluster, pod), "is not the genuine one")


def test_a_sidecar_that_ends_is_refused(cluster: ApiServer):
    pod = genuine("decoy")
    for field in ("restartPolicy", "livenessProbe", "readinessProbe", "startupProbe"):
        del pod["spec"]["initContainers"][0][field]
    refused(create(cluster, pod), "restartPolicy differs")


def test_the_name_among_the_containers_is_refused(cluster: ApiServer):
    pod = bare_pod("decoy")
    pod["spec"]["containers"].append({"name": "modelward-sidecar", "image": IMAGE})
    refused(create(cluster, pod), "has no modelward-sidecar")


def test_the_sidecar_of_another_model_is_refused(cluster: ApiServer):
    pod = genuine("decoy")
    pod["metadata"]["labels"]["modelward.io/model"] = "other"
    result = create(cluster, pod)
    refused(result, "denied request")
    assert "args differs" in result.stderr or "points elsewhere" in result.stderr


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"])
def test_a_pod_open_to_its_node_is_refused(cluster: ApiServer, field: str):
    pod = genuine("open")
    pod["spec"][field] = True
    if field == "hostNetwork":  # Kubernetes wants the ports on the host as well
        pod["spec"]["initContainers"][0]["ports"] = []
    refused(create(cluster, pod), field)


def test_volumes_of_the_sidecar_are_its_own(cluster: ApiServer):
    pod = genuine("thief")
    pod["spec"]["volumes"][0] = {"name": "modelward-config", "configMap": {"name": "mine"}}
    refused(create(cluster, pod), "points elsewhere")
    pod = genuine("thief")
    pod["spec"]["volumes"][1]["secret"]["items"] = [{"key": "tls.crt", "path": "tls.key"}]
    refused(create(cluster, pod), "points elsewhere")
    pod = genuine("thief")
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "modelward-tls", "mountPath": "/loot"}]
    refused(create(cluster, pod), "belong to the sidecar alone")


def test_another_sidecar_comes_into_force_though_policies_were_taken_away_before(cluster: ApiServer):
    """Uninstalled and installed anew with the same API server: a ConfigMap as parameter would have frozen there."""
    before, after = identity_policies(IMAGE, KEY), identity_policies("modelward-sidecar:2", KEY)
    newer = inject(bare_pod("newer"), image="modelward-sidecar:2", config_key=KEY)
    try:
        assert cluster.kubectl("delete", "-f", "-", input=yaml.safe_dump_all(before)).ok
        time.sleep(2)  # the API server looks at its policies once a second
        assert cluster.apply(*after).ok
        deadline = time.monotonic() + 10
        while (result := create(cluster, genuine("older"))).ok:
            assert cluster.kubectl("-n", "clinic", "delete", "pod", "older", "--grace-period=0", "--force").ok
            assert time.monotonic() < deadline
        refused(result, "its image differs")
        result = create(cluster, newer)
        assert result.ok, result.stderr
    finally:
        assert cluster.apply(*before).ok
    deadline = time.monotonic() + 10
    while not (result := create(cluster, genuine("late"))).ok:
        assert time.monotonic() < deadline, result.stderr
        time.sleep(0.2)


def test_a_running_pod_may_be_annotated_and_otherwise_labelled(cluster: ApiServer, running: str):
    change = {"metadata": {"annotations": {"a": "b"}, "labels": {"team": "x"}, "finalizers": ["example.org/wait"]}}
    assert patch(cluster, running, change).ok
    assert patch(cluster, running, {"metadata": {"finalizers": None}}).ok
    assert patch(cluster, running, {"status": {"message": "well"}}, "--subresource=status").ok


@pytest.mark.parametrize("subresource", ["", "--subresource=status"])
@pytest.mark.parametrize("labels", [{"modelward.io/inject": None}, {"modelward.io/model": None}, None])
def test_labels_stay_on_a_running_pod(cluster: ApiServer, running: str, labels: Any, subresource: str):
    flags = [subresource] if subresource else []
    refused(patch(cluster, running, {"metadata": {"labels": labels}}, *flags), "may be neither given")


def test_a_running_pod_cannot_slip_behind_the_service_of_a_model(cluster: ApiServer):
    assert create(cluster, bare_pod("slip", labels={})).ok
    refused(
        patch(cluster, "pod/slip", {"metadata": {"labels": {"modelward.io/model": "wdbc"}}}), "may be neither given"
    )


def test_the_image_of_a_running_sidecar_cannot_be_patched_away(cluster: ApiServer, running: str):
    change = [{"op": "replace", "path": "/spec/initContainers/0/image", "value": "evil:1"}]
    result = cluster.kubectl("-n", "clinic", "patch", running, "--type=json", "-p", json.dumps(change), token=ALICE)
    refused(result, "may not be changed")
    change[0]["path"] = "/spec/containers/0/image"  # the model's own image is judged by the rules on images
    result = cluster.kubectl("-n", "clinic", "patch", running, "--type=json", "-p", json.dumps(change), token=ALICE)
    assert result.ok, result.stderr


def test_replace_is_no_way_around(cluster: ApiServer, running: str):
    stored = cluster.get("-n", "clinic", running)
    stripped = copy.deepcopy(stored)
    del stripped["metadata"]["labels"]
    manifest = yaml.safe_dump(stripped)
    refused(cluster.kubectl("replace", "-f", "-", input=manifest, token=ALICE), "may be neither given")


def test_ephemeral_containers_are_refused(cluster: ApiServer, running: str):
    result = cluster.kubectl("-n", "clinic", "debug", running, "--image=busybox:1", "--container=spy", token=ALICE)
    refused(result, "ephemeral container")
    admin = cluster.kubectl("-n", "clinic", "debug", running, "--image=busybox:1", "--container=spy")
    refused(admin, "ephemeral container")
    plain = bare_pod("debuggable", labels={})
    assert create(cluster, plain).ok
    assert cluster.kubectl("-n", "clinic", "debug", "pod/debuggable", "--image=busybox:1", "--container=spy").ok


KINDS = ("Service", "Secret", "ServiceAccount", "ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget")
ALONE = "written by modelward's controller alone"


@pytest.mark.parametrize("kind", KINDS)
def test_managed_objects_are_the_controllers(cluster: ApiServer, kind: str):
    what = f"{kind.lower()}/wdbc"
    refused(create(cluster, managed(kind)), ALONE)
    result = create(cluster, managed(kind), CONTROLLER)
    assert result.ok, result.stderr
    for label in MANAGED:  # on a workload they are a target's marks as well: either policy may be met first
        refused(patch(cluster, what, {"metadata": {"labels": {label: None}}}), "ModelDeployment")
    refused(patch(cluster, what, {"metadata": {"annotations": {"mine": "yes"}}}), ALONE)
    refused(cluster.kubectl("-n", "clinic", "delete", what, token=ALICE), ALONE)
    refused(cluster.kubectl("-n", "clinic", "delete", what), ALONE)
    everything = f"/api/v1/namespaces/clinic/{kind.lower()}s"
    if kind == "Secret":  # the API server deletes a collection one by one, and asks for each
        refused(cluster.kubectl("delete", "--raw", everything, token=ALICE), ALONE)
    assert patch(cluster, what, {"metadata": {"annotations": {"ours": "yes"}}}, token=CONTROLLER).ok
    collector = ("--as=system:serviceaccount:kube-system:generic-garbage-collector", "--as-group=system:masters")
    assert cluster.kubectl("-n", "clinic", "delete", what, *collector).ok


def test_the_deployment_controller_may_make_its_replica_sets(cluster: ApiServer):
    replica_set = {**managed("Deployment", "wdbc-1"), "kind": "ReplicaSet"}
    refused(create(cluster, replica_set), ALONE)
    as_controller = ("--as=system:serviceaccount:kube-system:deployment-controller", "--as-group=system:masters")
    assert cluster.kubectl(*as_controller, "create", "-f", "-", input=yaml.safe_dump(replica_set)).ok


def test_objects_of_others_are_left_alone(cluster: ApiServer):
    for labels in ({"app.kubernetes.io/managed-by": "Helm", "modelward.io/model": "wdbc"}, {}):
        config = {**managed("ConfigMap", "theirs"), "metadata": {"name": "theirs", "namespace": "clinic"}}
        config["metadata"]["labels"] = labels
        assert cluster.apply(config, token=ALICE).ok
    refused(patch(cluster, "configmap/theirs", {"metadata": {"labels": MANAGED}}), ALONE)
    assert cluster.kubectl("-n", "clinic", "delete", "configmap/theirs", token=ALICE).ok


def test_services_and_network_policies_of_a_protected_namespace_are_the_controllers(cluster: ApiServer):
    for kind in ("Service", "NetworkPolicy"):
        manifest = managed(kind, "extra")
        manifest["metadata"] = {"name": "extra", "namespace": "ward"}
        refused(create(cluster, manifest), "in a protected namespace")
        assert create(cluster, manifest, CONTROLLER).ok
        manifest["metadata"]["namespace"] = "clinic"
        assert create(cluster, manifest).ok


def test_looking_into_a_protected_pod_needs_breakglass(cluster: ApiServer):
    assert create(cluster, genuine("watched", "ward")).ok
    commands = (
        ("exec", "watched", "-c", "model", "--", "true"),
        ("attach", "watched", "-c", "model"),
        ("get", "--raw", "/api/v1/namespaces/ward/pods/watched/portforward?ports=8080"),
        ("get", "--raw", "/api/v1/namespaces/ward/pods/watched/proxy/"),
    )
    for command in commands:
        refused(cluster.kubectl("-n", "ward", *command, token=ALICE), "breakglass")
        admin = cluster.kubectl("-n", "ward", *command)
        assert "breakglass" not in admin.stderr  # let through; there is no node to go on to
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "breakglass", "namespace": "ward"},
        "rules": [{"apiGroups": ["modelward.io"], "resources": ["modeldeployments"], "verbs": ["breakglass"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "breakglass", "namespace": "ward"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "breakglass"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    }
    assert cluster.apply(role, binding).ok
    deadline = time.monotonic() + 10
    while "breakglass" in cluster.kubectl("-n", "ward", *commands[0], token=ALICE).stderr:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_unlabelling_a_protected_namespace_needs_unprotect(cluster: ApiServer):
    def label(space: str, value: str | None, *flags: str, token: str = ALICE) -> Result:
        change = {"metadata": {"labels": {"modelward.io/protected": value}}}
        return patch(cluster, f"namespace/{space}", change, *flags, token=token)

    for value in (None, "false"):
        refused(label("ward", value), "unprotect")
        refused(label("ward", value, "--subresource=status"), "unprotect")
    assert patch(cluster, "namespace/ward", {"metadata": {"labels": {"team": "x"}}}).ok
    assert cluster.apply(namespace("passing", **{"modelward.io/protected": "true"})).ok
    assert label("passing", None, token="admin-token-of-the-tests").ok
    assert label("passing", "true").ok
    assert cluster.kubectl("delete", "namespace", "passing", "--wait=false", token=ALICE).ok


def policy(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ClusterDataPolicy",
        "metadata": {"name": name},
        "spec": {"enforcement": "Audit"},
    }


def test_the_baseline_and_targets_are_not_deleted_without_unprotect(cluster: ApiServer):
    target = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "target", "namespace": "clinic"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "theirs"}},
    }
    own = {**target, "metadata": {"name": "own", "namespace": "clinic"}, "spec": {"model": {"image": "m:1"}}}
    for manifest in (policy("baseline"), policy("another"), target, own):
        result = cluster.apply(manifest, token=ALICE)
        assert result.ok, result.stderr
    refused(cluster.kubectl("delete", "cdp", "baseline", token=ALICE), "unprotect")
    refused(
        cluster.kubectl("delete", "--raw", "/apis/modelward.io/v1alpha1/clusterdatapolicies", token=ALICE), "unprotect"
    )
    refused(cluster.kubectl("-n", "clinic", "delete", "md", "target", token=ALICE), "unprotect")
    assert cluster.kubectl("-n", "clinic", "delete", "md", "own", token=ALICE).ok
    assert cluster.kubectl("delete", "cdp", "another", "--ignore-not-found", token=ALICE).ok
    collector = ("--as=system:serviceaccount:kube-system:namespace-controller", "--as-group=system:masters")
    assert cluster.kubectl("-n", "clinic", "delete", "md", "target", *collector).ok
    assert cluster.kubectl("delete", "cdp", "baseline").ok


def test_status_is_the_controllers_word(cluster: ApiServer):
    assert cluster.apply(policy("stated")).ok
    change = {"status": {"governed": 7}}
    refused(patch(cluster, "cdp/stated", change, "--subresource=status"), "status is written by")
    result = patch(cluster, "cdp/stated", change, "--subresource=status", token=CONTROLLER)
    assert result.ok, result.stderr
    assert cluster.kubectl("delete", "cdp", "stated").ok
