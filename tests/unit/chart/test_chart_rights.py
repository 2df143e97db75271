"""Who may do what: no wildcards, no way to write a verdict, and weakening a policy is nobody's by accident."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.unit.chart.rendering import Objects, Render, of_kind

PEOPLE = ("modelward-engineer", "modelward-policy-owner", "modelward-auditor")
READING = {"get", "list", "watch"}
AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"


def _grants(role: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for rule in role["rules"]:
        for resource in rule.get("resources", []):
            for verb in rule["verbs"]:
                yield resource, verb


def _roles(objects: Objects) -> list[dict[str, Any]]:
    return [item for item in objects if item["kind"] in ("ClusterRole", "Role")]


def test_no_rule_has_a_wildcard(objects: Objects) -> None:
    for role in _roles(objects):
        for rule in role["rules"]:
            if "nonResourceURLs" in rule:
                continue
            given = [*rule["apiGroups"], *rule["resources"], *rule["verbs"], *rule.get("resourceNames", [])]
            assert not [word for word in given if "*" in word], role["metadata"]["name"]


def test_the_controller_alone_reads_the_api_servers_metrics_and_nothing_else_beside_resources(
    objects: Objects, render: Render
) -> None:
    def beside(rendered: Objects) -> list[tuple[str, list[str], list[str]]]:
        return [
            (role["metadata"]["name"], rule["nonResourceURLs"], rule["verbs"])
            for role in _roles(rendered)
            for rule in role["rules"]
            if "nonResourceURLs" in rule
        ]

    assert beside(objects) == [("modelward-controller", ["/metrics"], ["get"])]
    assert beside(render("backstop.watchRefusals=false")) == []


def test_nobody_gains_rights_through_modelward(objects: Objects) -> None:
    for role in _roles(objects):
        name = role["metadata"]["name"]
        for resource, verb in _grants(role):
            assert verb not in ("impersonate", "escalate", "bind"), name
            assert "role" not in resource, name
            assert resource not in ("pods/exec", "pods/attach", "pods/portforward", "serviceaccounts/token"), name


def test_only_the_controller_writes_status(objects: Objects) -> None:
    writers = {
        role["metadata"]["name"]
        for role in _roles(objects)
        if any(resource.endswith("/status") for resource, _ in _grants(role))
    }
    assert writers == {"modelward-controller"}


def test_no_process_lists_secrets_of_the_cluster(objects: Objects) -> None:
    for name, role in of_kind(objects, "ClusterRole").items():
        assert not {("secrets", "list"), ("secrets", "watch")} & set(_grants(role)), name


def test_workloads_of_others_are_labelled_and_neither_made_nor_deleted(objects: Objects) -> None:
    granted = list(_grants(of_kind(objects, "ClusterRole")["modelward-controller"]))
    theirs = ("statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs", "inferenceservices", "seldondeployments")
    for resource in theirs:
        own = {"create"} if resource == "jobs" else set()  # those that fit baselines
        assert {verb for named, verb in granted if named == resource} == READING | {"patch"} | own, resource


def test_the_admission_server_reads_its_two_objects_by_name(objects: Objects) -> None:
    role = of_kind(objects, "Role")["modelward-admission"]
    assert {(tuple(rule["resources"]), tuple(rule["resourceNames"])) for rule in role["rules"]} == {
        (("configmaps",), ("modelward-sidecar",)),
        (("secrets",), ("modelward-admission-tls",)),
    }
    assert {verb for _, verb in _grants(role)} <= READING


def test_people_touch_neither_secrets_nor_pods(objects: Objects) -> None:
    roles = of_kind(objects, "ClusterRole")
    for name in PEOPLE:
        resources = {resource.split("/")[0] for resource, _ in _grants(roles[name])}
        assert not resources & {"secrets", "pods", "configmaps"}, name


def test_only_the_policy_owner_changes_policies(objects: Objects) -> None:
    roles = of_kind(objects, "ClusterRole")
    for name in (*PEOPLE, "modelward-admission", "modelward-controller"):
        changes = {verb for resource, verb in _grants(roles[name]) if resource.endswith("datapolicies")} - READING
        assert bool(changes) == (name == "modelward-policy-owner"), name


def test_ending_a_protection_is_the_policy_owners_and_breaking_the_glass_nobodys(objects: Objects) -> None:
    holders = {(verb, role["metadata"]["name"]) for role in _roles(objects) for _, verb in _grants(role)}
    special = {(verb, name) for verb, name in holders if verb in ("unprotect", "breakglass")}
    assert special == {("unprotect", "modelward-policy-owner")}


def test_rights_on_policies_are_never_aggregated(objects: Objects) -> None:
    for name, role in of_kind(objects, "ClusterRole").items():
        if any(label.startswith(AGGREGATE) for label in role["metadata"]["labels"]):
            changes = {verb for resource, verb in _grants(role) if resource.endswith("datapolicies")} - READING
            assert not changes, name


def test_aggregation_can_be_switched_off(render: Render) -> None:
    roles = of_kind(render("roles.aggregate=false"), "ClusterRole")
    assert not [label for role in roles.values() for label in role["metadata"]["labels"] if label.startswith(AGGREGATE)]


def test_every_role_of_a_process_is_bound_to_its_account(objects: Objects) -> None:
    bindings = [item for item in objects if item["kind"] in ("ClusterRoleBinding", "RoleBinding")]
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert subject["name"] == binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert subject["namespace"] == "modelward-system"
    assert len(bindings) == 4
