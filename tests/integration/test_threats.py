"""The threats of SIG Security's admission control threat model that no other test shows, and the table's own truth.

The table is `docs/explanation/threat-model.md`: each threat with what modelward does and the tests that show it.
"""

from __future__ import annotations

import ast
import base64
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelward.admission.certificate import Certificate
from modelward.controller.certificates import Authority, issue, new_authority
from modelward.controller.cluster import Cluster
from modelward.controller.events import Recorder
from modelward.controller.standing import Standing
from modelward.planner.pod_policy import identity_policies, pod_policies
from modelward.rules.admission_policy import catalogue_policies
from tests.integration.apiserver import ApiServer
from tests.integration.backstop import CONTROLLER, IMAGE, KEY, bare_pod, create, genuine, in_force, namespace, refused

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "explanation" / "threat-model.md"
NAMED_TEST = re.compile(r"`((?:unit|integration)/[\w/]+\.py)::(\w+)`")
THREATS = 18  # of SIG Security's list


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> Iterator[ApiServer]:
    with in_force(apiserver):
        assert apiserver.apply(namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})).ok
        yield apiserver


# --- the table


@cache
def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _rows(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]


def test_every_threat_has_a_row_with_a_test_that_exists() -> None:
    rows = {row[0]: row for row in _rows(TABLE.read_text()) if row[0].isdigit()}
    assert rows.keys() == {str(number) for number in range(1, THREATS + 1)}
    for number, row in rows.items():
        assert len(row) == 4, number
        assert NAMED_TEST.search(row[3]), f"threat {number} names no test"


def test_every_test_that_the_page_names_exists() -> None:
    named = NAMED_TEST.findall(TABLE.read_text())
    assert len(named) > THREATS
    missing = [f"{file}::{name}" for file, name in named if name not in _functions(ROOT / "tests" / file)]
    assert missing == []


def test_the_page_names_a_way_for_each_that_was_tried() -> None:
    """A way around that is tested and not told of would be lost to whoever reads the page."""
    tried = {name for name in _functions(Path(__file__).with_name("test_no_way_around.py")) if name.startswith("test_")}
    named = {name for file, name in NAMED_TEST.findall(TABLE.read_text()) if file.endswith("test_no_way_around.py")}
    assert tried - named == set()


# --- threat 3 and 14: what a selector or a version could miss


def test_the_backstop_matches_every_version_and_every_equivalent() -> None:
    for policy in [*pod_policies(), *identity_policies(IMAGE, KEY), *catalogue_policies()]:
        if policy["kind"] != "ValidatingAdmissionPolicy":
            continue
        constraints = policy["spec"]["matchConstraints"]
        assert constraints.get("matchPolicy", "Equivalent") == "Equivalent"
        assert policy["spec"]["failurePolicy"] == "Fail"
        for rule in constraints["resourceRules"]:
            if rule["apiGroups"] != ["modelward.io"]:
                assert rule["apiVersions"] == ["*"], policy["metadata"]["name"]


# --- threats 7, 8 and 9: between the API server and the webhook


@contextmanager
def webhook(pair: Any) -> Iterator[int]:
    """Something that answers in the webhook's place, and would mark whatever it is asked about."""
    operations = [{"op": "add", "path": "/data", "value": {"touched": "yes"}}]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            patch = base64.b64encode(json.dumps(operations).encode()).decode()
            response = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
            body = json.dumps({**review, "request": None, "response": response}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    certificate = Certificate()
    certificate.use(pair.chain, pair.key)
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.socket = certificate.context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def asks(port: int, authority: Authority) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    hook = {
        "name": "spoofed.modelward.io",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {
            "url": f"https://localhost:{port}/admit",
            "caBundle": base64.b64encode(authority.bundle).decode(),
        },
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "timeoutSeconds": 2,
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "strict"}},
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "spoofed"},
        "webhooks": [hook],
    }


@pytest.mark.parametrize("genuine_authority", [True, False])
def test_the_api_server_listens_to_no_webhook_of_another_authority(
    cluster: ApiServer, *, genuine_authority: bool
) -> None:
    now = datetime.now(UTC)
    ours, theirs = new_authority(now), new_authority(now)
    with webhook(issue(ours if genuine_authority else theirs, ["localhost"], now)) as port:
        assert cluster.apply(asks(port, ours)).ok
        try:
            deadline = time.monotonic() + (20 if genuine_authority else 4)
            heard = False
            while not heard and time.monotonic() < deadline:  # the API server takes a moment to know of it
                manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "strict"}}
                dry = ("create", "--dry-run=server", "-o", "json", "-f", "-")
                result = cluster.kubectl(*dry, input=yaml.safe_dump(manifest))
                assert result.ok, result.stderr
                heard = "data" in json.loads(result.stdout)
                time.sleep(0.3)
            assert heard is genuine_authority
        finally:
            assert cluster.kubectl("delete", "mutatingwebhookconfiguration", "spoofed").ok


def test_the_webhook_speaks_tls_1_3_and_nothing_else() -> None:
    now = datetime.now(UTC)
    authority = new_authority(now)
    with webhook(issue(authority, ["localhost"], now)) as port:
        for most, well in ((ssl.TLSVersion.TLSv1_2, False), (ssl.TLSVersion.TLSv1_3, True)):
            context = ssl.create_default_context(cadata=authority.bundle.decode())
            context.maximum_version = most
            assert _connects(port, context) is well


def _connects(port: int, context: ssl.SSLContext) -> bool:
    try:
        with (
            socket.create_connection(("localhost", port), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except ssl.SSLError:
        return False


# --- threat 10: what the webhook adds


HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def test_what_is_injected_is_restricted_whatever_the_pod_asks(cluster: ApiServer) -> None:
    """By Pod Security's strictest standard, as the API server judges it: the pod's verdict stays its own."""
    fine = genuine("fine", "strict")
    fine["spec"]["containers"][0]["securityContext"] = HARDENED
    result = create(cluster, fine)
    assert result.ok, result.stderr
    lax = genuine("lax", "strict")
    result = create(cluster, lax)
    assert not result.ok
    assert 'violates PodSecurity "restricted' in result.stderr
    assert "modelward-sidecar" not in result.stderr, "only the pod's own containers are found fault with"


# --- threat 11: exempt namespaces


def test_no_more_than_two_namespaces_are_exempt(cluster: ApiServer) -> None:
    """None of those that other systems bring, and none that could be made."""
    for space in ("kube-public", "kube-node-lease", "default"):
        refused(create(cluster, bare_pod("p", space)), "has no modelward-sidecar")
    exempt = {
        value
        for policy in pod_policies()
        if policy["kind"] == "ValidatingAdmissionPolicy"
        for requirement in policy["spec"]["matchConstraints"].get("namespaceSelector", {}).get("matchExpressions", ())
        for value in requirement["values"]
    }
    assert exempt == {"kube-system", "modelward-system"}


# --- threats 4 and 6: what an administrator's hand takes away


def test_without_any_webhook_the_backstop_refuses_all_the_same(cluster: ApiServer) -> None:
    assert cluster.get("mutatingwebhookconfigurations")["items"] == []
    refused(create(cluster, bare_pod("p")), "has no modelward-sidecar")
    with_decoy = genuine("p")
    with_decoy["spec"]["initContainers"][0]["image"] = "evil:1"
    refused(create(cluster, with_decoy), "its image differs")


async def test_a_backstop_that_is_taken_down_or_hollowed_out_is_told_of(
    cluster: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig_for(CONTROLLER)))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert cluster.apply(*catalogue_policies()).ok

    def events() -> list[str]:
        items = cluster.get("events", "-n", "default")["items"]
        return [item["message"] for item in items if item["reason"] == "BackstopIncomplete"]

    async with Cluster.connected() as connected:
        standing = Standing(connected, Recorder(connected), "modelward-system")
        await standing.look()
        assert standing.fallen == ()
        assert events() == []
        hollow = '{"spec": {"validationActions": ["Audit"]}}'
        binding = "validatingadmissionpolicybinding/modelward-status"
        assert cluster.kubectl("patch", binding, "--type=merge", "-p", hollow).ok
        assert cluster.kubectl("delete", "validatingadmissionpolicy", "modelward-breakglass").ok
        for _ in range(2):
            await standing.look()
        assert set(standing.fallen) == {"modelward-status (binding)", "modelward-breakglass"}
        assert standing.metrics()["modelward_backstop_fallen"][1] == {"": 2}
        (message,) = events()
        assert "modelward-breakglass" in message
