"""One verdict: the API server's ValidatingAdmissionPolicies and `judge` say the same of every case of the corpus."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from modelward.api.validate import canonical, parse
from modelward.rules.admission_policy import catalogue_policies, custom_policies
from modelward.rules.judge import Review, judge
from tests.corpus import BASELINE, CASES, POLICIES, Case, good, policy
from tests.integration.apiserver import ApiServer

RULE_ID = re.compile(r"\b([A-Z]+-\d{3})\b")
PATH = "/apis/modelward.io/v1alpha1/namespaces/{}/modeldeployments"


def named(case_policy: str) -> dict[str, Any]:
    return policy(POLICIES[case_policy], name=case_policy, namespace=f"agree-{case_policy}")


@pytest.fixture(scope="module")
def client(apiserver: ApiServer) -> Iterator[httpx.Client]:
    """A client of an API server in which the backstop is in force, with a policy a namespace."""
    lax = {**policy({}, name="lax"), "kind": "ClusterDataPolicy"}
    del lax["metadata"]["namespace"]
    objects: list[dict[str, Any]] = [lax]
    for name in POLICIES:
        objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"agree-{name}"}})
        objects.append(named(name))
        objects.extend(custom_policies(canonical(parse(named(name)))))
    result = apiserver.apply(*catalogue_policies(), *objects)
    assert result.ok, result.stderr
    headers = {"Authorization": f"Bearer {apiserver.token}"}
    with httpx.Client(
        base_url=apiserver.url, headers=headers, verify=ssl.create_default_context(cafile=str(apiserver.ca))
    ) as opened:
        _wait_until_in_force(opened)
        yield opened
    apiserver.delete(*catalogue_policies(), *objects)


def create(client: httpx.Client, namespace: str, manifest: dict[str, Any]) -> httpx.Response:
    return client.post(PATH.format(namespace), params={"dryRun": "All"}, json=manifest)


def _wait_until_in_force(client: httpx.Client) -> None:
    """Policies take up to a second or two to be compiled; wait for the last of each kind to bite."""
    unsafe = {**good(), "metadata": {"name": "other"}}
    unsafe["spec"] = {
        "model": {"image": "x"},
        "schema": {"inputs": [{"name": "remarks", "datatype": "BYTES", "shape": [-1]}]},
    }
    deadline = time.monotonic() + 30
    waiting = {name for name in POLICIES if name not in ("nothing", "selective")}
    while waiting and time.monotonic() < deadline:
        waiting = {name for name in waiting if create(client, f"agree-{name}", unsafe).status_code == 201}
        time.sleep(0.2)
    assert not waiting, f"these policies never came into force: {waiting}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_api_server_agrees(client: httpx.Client, case: Case) -> None:
    namespace = f"agree-{case.policy}"
    answer = create(client, namespace, case.manifest)
    ours = judge(Review(canonical(parse(case.manifest)), namespace=namespace), [canonical(parse(named(case.policy)))])
    assert {violation.rule for violation in ours.violations} == case.breaks
    if not case.breaks:
        assert answer.status_code == 201, answer.json()["message"]
        return
    assert answer.status_code in (403, 422), f"let in, though it breaks {sorted(case.breaks)}"
    message = answer.json()["message"]
    first = RULE_ID.search(message)
    assert first is not None, message
    assert first[1] in case.breaks, message
    (same,) = [violation for violation in ours.violations if violation.rule == first[1]]
    assert same.found in message, "the backstop tells something else than the webhook"


def test_every_rule_is_compiled_without_a_warning_from_the_type_checker(
    client: httpx.Client, apiserver: ApiServer
) -> None:
    names = {item["metadata"]["name"] for item in catalogue_policies() if item["kind"] == "ValidatingAdmissionPolicy"}
    checked: dict[str, Any] = {}
    with apiserver.controllers("validatingadmissionpolicy-status-controller"):
        deadline = time.monotonic() + 60
        while not names <= checked.keys():
            assert time.monotonic() < deadline, f"never checked: {names - checked.keys()}"
            time.sleep(0.5)
            for item in apiserver.get("validatingadmissionpolicies")["items"]:
                status = item.get("status", {})
                if status.get("observedGeneration") == item["metadata"]["generation"]:
                    checked[item["metadata"]["name"]] = status["typeChecking"]
    assert not {name: checked[name] for name in names if checked[name]}


def test_warn_and_audit_let_in(client: httpx.Client, apiserver: ApiServer) -> None:
    namespace = "agree-warns"
    manifest = good()
    del manifest["spec"]["encryption"]
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        policy({"enforcement": "Warn", "require": BASELINE}, name="warns", namespace=namespace),
        policy({"enforcement": "Audit", "require": BASELINE}, name="audits", namespace=namespace),
    ]
    assert apiserver.apply(*objects).ok
    deadline = time.monotonic() + 10
    while not (answer := create(client, namespace, manifest)).headers.get_list("warning"):
        assert answer.status_code == 201, answer.text
        assert time.monotonic() < deadline, "no warning within 10 s"
        time.sleep(0.1)
    assert answer.status_code == 201
    assert any("ENC-001" in warning for warning in answer.headers.get_list("warning"))


def test_without_any_cluster_policy_nothing_is_let_in(client: httpx.Client, apiserver: ApiServer) -> None:
    lax = apiserver.get("clusterdatapolicy", "lax")
    assert apiserver.kubectl("delete", "clusterdatapolicy", "lax").ok
    try:
        deadline = time.monotonic() + 10
        while (answer := create(client, "agree-nothing", good())).status_code == 201:
            assert time.monotonic() < deadline, "let in for 10 s without a rulebook"
            time.sleep(0.1)
        assert "no params found" in answer.json()["message"]
    finally:
        again = {key: lax[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": "lax"}}
        assert apiserver.apply(again).ok
        deadline = time.monotonic() + 10
        while create(client, "agree-nothing", good()).status_code != 201:
            assert time.monotonic() < deadline, "the restored policy never came into force"
            time.sleep(0.1)
