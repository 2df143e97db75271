"""The pod policies' CEL, evaluated here; tests/integration/test_pod_policy.py has the API server evaluate it."""

import copy
from typing import Any

import pytest

from modelward.api.expression import Expression
from modelward.planner.injection import inject
from modelward.planner.pod_policy import IDENTITY, NEW_PODS, identity_policies, pod_policies
from modelward.planner.sidecar import TOKEN_PATH

IMAGE, KEY = "modelward-sidecar@sha256:" + "a" * 64, "a2V5"
NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}
MANIFESTS = [*pod_policies(), *identity_policies(IMAGE, KEY)]
POLICIES = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "ValidatingAdmissionPolicy"}
BINDINGS = {m["metadata"]["name"]: m["spec"] for m in MANIFESTS if m["kind"] == "ValidatingAdmissionPolicyBinding"}


def refusals(policy: str, **data: Any) -> list[str]:
    """Messages of the validations that do not hold."""
    spec = POLICIES[policy]
    variables: dict[str, Any] = {}
    for variable in spec.get("variables", ()):
        variables[variable["name"]] = Expression(variable["expression"]).value({**data, "variables": variables})
    return [
        validation["message"]
        for validation in spec["validations"]
        if not Expression(validation["expression"]).holds({**data, "variables": variables})
    ]


def genuine(**spec: Any) -> Any:
    pod = {"metadata": {"labels": dict(NAMED)}, "spec": {"containers": [{"name": "model", "image": "m"}]}}
    pod = inject(pod, image=IMAGE, config_key=KEY)
    for field, value in spec.items():
        pod["spec"][field] = pod["spec"].get(field, []) + value
    return pod


def new(pod: Any) -> list[str]:
    return [text for policy in (NEW_PODS, IDENTITY) for text in refusals(policy, object=pod)]


def test_what_the_webhook_makes_passes():
    assert new(genuine()) == []
    assert new(genuine(initContainers=[{"name": "other"}], volumes=[{"name": "v", "emptyDir": {}}])) == []


def test_the_service_account_token_and_defaults_of_the_cluster_pass():
    pod = genuine()
    sidecar = pod["spec"]["initContainers"][0]
    sidecar["volumeMounts"].append({"name": "kube-api-access-x", "mountPath": TOKEN_PATH, "readOnly": True})
    sidecar["resources"] = {"limits": {"cpu": "1"}}
    sidecar["imagePullPolicy"] = "Always"
    assert new(pod) == []


def test_a_pod_without_sidecar_is_told_of_the_webhook():
    pod = genuine()
    del pod["spec"]["initContainers"]
    assert "no modelward-sidecar" in new(pod)[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", "evil"),
        ("command", ["sh"]),
        ("args", []),
        ("env", []),
        ("restartPolicy", "Never"),
        ("securityContext", {}),
        ("terminationMessagePath", "/etc/modelward/config/config.json"),
        ("volumeMounts", []),
        ("lifecycle", {"postStart": {"exec": {"command": ["sh"]}}}),
        ("envFrom", [{"secretRef": {"name": "s"}}]),
        ("workingDir", "/tmp"),
        ("stdin", True),
        ("livenessProbe", {"exec": {"command": ["sh"]}}),
        ("ports", [{"containerPort": 9090, "hostPort": 9090}]),
    ],
)
def test_a_decoy_is_refused(field, value):
    pod = genuine()
    pod["spec"]["initContainers"][0][field] = value
    assert "not the genuine one" in new(pod)[0]
    del pod["spec"]["initContainers"][0][field]
    if field in ("image", "command", "args", "env", "restartPolicy", "securityContext", "volumeMounts"):
        assert "not the genuine one" in new(pod)[0]


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"])
def test_a_pod_open_to_its_node_is_refused(field):
    pod = genuine()
    pod["spec"][field] = True
    assert field in new(pod)[0]


def test_other_volumes_under_our_names_and_other_users_of_ours_are_refused():
    pod = genuine()
    pod["spec"]["volumes"][1]["secret"]["secretName"] = "mine"
    assert "modelward-tls" in new(pod)[0]
    pod = genuine()
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "modelward-tls", "mountPath": "/loot"}]
    assert "belong to the sidecar alone" in new(pod)[0]


def test_the_sidecar_of_another_model_is_refused():
    pod = genuine()
    pod["metadata"]["labels"]["modelward.io/model"] = "other"
    assert new(pod)


@pytest.mark.parametrize(
    ("volume", "neighbour"),
    [
        ({"secret": {"secretName": "wdbc-serving"}}, {}),
        ({"projected": {"sources": [{"secret": {"name": "wdbc-serving"}}]}}, {}),
        ({}, {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "wdbc-serving", "key": "tls.key"}}}]}),
        ({}, {"envFrom": [{"secretRef": {"name": "wdbc-serving"}}]}),
    ],
)
def test_the_sidecars_key_is_not_read_under_another_name(volume, neighbour):
    pod = genuine()
    pod["spec"]["volumes"].append({"name": "loot", **volume})
    pod["spec"]["containers"][0] |= neighbour
    assert "read under another name" in new(pod)[0]


@pytest.mark.parametrize(
    ("neighbour", "text"),
    [
        ({"securityContext": {"privileged": True}}, "privileged"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}, "capability"),
        ({"securityContext": {"capabilities": {"add": ["CHOWN", "ALL"]}}}, "capability"),
        ({"ports": [{"containerPort": 8080, "hostPort": 8080}]}, "hostPort"),
    ],
)
@pytest.mark.parametrize("where", ["containers", "initContainers"])
def test_a_neighbour_that_could_take_the_traffic_over_is_refused(where, neighbour, text):
    pod = genuine()
    pod["spec"][where].append({"name": "other", "image": "o", **neighbour})
    assert text in new(pod)[0]


def test_harmless_neighbours_pass():
    pod = genuine(volumes=[{"name": "v", "secret": {"secretName": "other"}}, {"name": "e", "emptyDir": {}}])
    context = {"privileged": False, "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}}
    env = [{"name": "A", "value": "b"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    other = {"name": "o", "image": "o", "securityContext": context, "env": env, "ports": [{"containerPort": 1}]}
    pod["spec"]["containers"].append(other)
    assert new(pod) == []


def test_a_path_of_the_node_is_refused():
    pod = genuine(volumes=[{"name": "node", "hostPath": {"path": "/var/lib/kubelet"}}])
    assert "hostPath" in new(pod)[0]


def test_running_pods_keep_their_labels_sidecar_and_containers():
    def update(after: Any, subresource: str = "") -> list[str]:
        request = {"subResource": subresource} if subresource else {}
        return refusals("modelward-running-pods", object=after, oldObject=genuine(), request=request)

    assert update(genuine()) == []
    after = genuine()
    after["metadata"]["annotations"] = {"a": "b"}
    after["metadata"]["labels"]["team"] = "x"
    after["status"] = {"phase": "Running"}
    after["spec"]["containers"][0]["image"] = "new"
    assert update(after) == []
    for label in NAMED:
        after = genuine()
        del after["metadata"]["labels"][label]
        assert "labels" in update(after)[0]
    after = genuine()
    del after["metadata"]["labels"]
    assert "labels" in update(after)[0]
    after = genuine()
    after["spec"]["initContainers"][0]["image"] = "evil"
    assert "may not be changed" in update(after)[0]
    assert "ephemeral" in update(genuine(), "ephemeralcontainers")[0]


def test_no_policy_has_a_parameter():
    """One that is missing refuses whatever the policy matches, and one of a built-in kind freezes."""
    assert not [name for name, spec in POLICIES.items() if "paramKind" in spec]
    assert not [name for name, spec in BINDINGS.items() if "paramRef" in spec]


def test_both_policies_on_new_pods_match_the_same():
    one, other = POLICIES[NEW_PODS], POLICIES[IDENTITY]
    assert one["matchConstraints"] == other["matchConstraints"]
    assert one["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE"]
    selectors = [
        [spec["matchResources"] for spec in BINDINGS.values() if spec["policyName"] == name]
        for name in (NEW_PODS, IDENTITY)
    ]
    assert selectors[0] == selectors[1]


def test_every_policy_fails_closed_is_bound_and_denies():
    assert {spec["policyName"] for spec in BINDINGS.values()} == set(POLICIES)
    assert all(spec["failurePolicy"] == "Fail" for spec in POLICIES.values())
    assert all(spec["validationActions"] == ["Deny"] for spec in BINDINGS.values())


def test_no_policy_reaches_beyond_what_it_protects():
    """Each is narrowed by a selector, or is about modelward's own resources."""
    for name, spec in POLICIES.items():
        constraints = spec["matchConstraints"]
        groups = {group for rule in constraints["resourceRules"] for group in rule["apiGroups"]}
        assert groups == {"modelward.io"} or "namespaceSelector" in constraints or "objectSelector" in constraints, name


def test_messages_are_one_line_of_bounded_length_and_say_how_to_mend_it():
    for spec in POLICIES.values():
        for validation in spec["validations"]:
            message = validation["message"]
            assert "\n" not in message
            assert len(message) <= 1024
            assert "Fix: " in message


def test_each_call_gives_values_of_its_own():
    before = copy.deepcopy(MANIFESTS)
    pod_policies()[0]["metadata"]["labels"].clear()
    assert [*pod_policies(), *identity_policies(IMAGE, KEY)] == before
