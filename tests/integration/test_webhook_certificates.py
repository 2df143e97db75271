"""The webhook's certificate from its authority to the handshake, through a year: by the controller, or by another."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from modelward.controller.certificates import AUTHORITY_VALIDITY, LEAF_VALIDITY
from modelward.controller.cluster import Cluster
from modelward.controller.installation import Installation
from modelward.rules.check import baseline_policy
from tests.integration import admission
from tests.integration.admission import IMAGE, SYSTEM, Server, eventually, start
from tests.integration.apiserver import ApiServer

pytestmark = pytest.mark.timeout(300)

NAME = f"modelward-admission.{SYSTEM}.svc"
SECRET = "modelward-admission-tls"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def installed(apiserver: ApiServer, bin_dir: Path) -> ApiServer:
    """What the chart brings, without anything that the controller has to write."""
    assert apiserver.apply(admission.namespace(SYSTEM)).ok
    templates = ("admission-rbac", "controller-rbac", "service-accounts", "webhook")
    result = apiserver.apply(*admission.chart(bin_dir, *templates), baseline_policy())
    assert result.ok, result.stderr
    return apiserver


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def cluster(installed: ApiServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("KUBECONFIG", str(installed.kubeconfig_for("controller-token")))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    async with Cluster.connected() as connected:
        yield connected


@pytest.fixture
def server(installed: ApiServer, tmp_path: Path) -> Iterator[Server]:
    running = start(installed, tmp_path, wait=False)
    yield running
    running.kill()


def bundle(apiserver: ApiServer) -> bytes:
    """The authorities that the API server trusts the webhook by: the same for each of its webhooks."""
    hooks = apiserver.get("mutatingwebhookconfiguration", "modelward")["webhooks"]
    (only,) = {hook["clientConfig"].get("caBundle", "") for hook in hooks}
    return base64.b64decode(only)


def published(apiserver: ApiServer) -> x509.Certificate:
    data = apiserver.get("secret", SECRET, "-n", SYSTEM)["data"]
    return x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))


def served(server: Server) -> x509.Certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=NAME) as secured,
    ):
        der = secured.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der)


def verify(leaf: x509.Certificate, authorities: bytes, when: datetime) -> None:
    """As a client verifies (RFC 5280), at this time; raises where it would not trust."""
    store = Store(x509.load_pem_x509_certificates(authorities))
    PolicyBuilder().store(store).time(when).build_server_verifier(x509.DNSName(NAME)).verify(leaf, [])


def ask(connection: http.client.HTTPSConnection) -> int:
    pod = admission.pod("p", "default")
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "1", "kind": kind, "operation": "CREATE", "name": "p", "namespace": "default", "object": pod}
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**request, "dryRun": True}}
    connection.request("POST", "/admit", json.dumps(review), {"content-type": "application/json"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


async def test_a_year_of_rotations_without_a_moment_of_distrust(
    installed: ApiServer, cluster: Cluster, server: Server
) -> None:
    clock = Clock()
    installation = Installation(cluster, SYSTEM, IMAGE, clock)
    await installation.reconcile()
    eventually(server.ready)

    # A handshake as the API server makes it, with its own trust, and a connection that is kept through it all.
    trusting = ssl.create_default_context(cadata=bundle(installed).decode())
    connection = http.client.HTTPSConnection(NAME, server.port, context=trusting, timeout=5)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    connection.sock = kept = trusting.wrap_socket(plain, server_hostname=NAME)
    assert ask(connection) == 200

    before, leaves, authorities = bundle(installed), set[int](), set[bytes]()
    # Day by day where the authority is renewed; a month a step elsewhere, as if the controller had been away.
    days = [*range(0, 240, 30), *range(240, 256), *range(260, 400, 30)]
    for day in days:
        clock.ahead = day * DAY
        await installation.reconcile()
        now, leaf = bundle(installed), published(installed)
        eventually(lambda leaf=leaf: served(server).serial_number == leaf.serial_number)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= LEAF_VALIDITY + timedelta(hours=1)
        assert leaf.not_valid_after_utc - clock() > LEAF_VALIDITY / 3 - timedelta(hours=1), "time left to fail in"
        verify(leaf, now, clock())
        verify(leaf, before, clock())  # an API server that has not heard of the new bundle yet
        before = now
        leaves.add(leaf.serial_number)
        authorities |= {
            one.fingerprint(leaf.signature_hash_algorithm or pytest.fail("unsigned"))
            for one in x509.load_pem_x509_certificates(now)
        }
        if day % 10 == 0:
            assert ask(connection) == 200
    assert ask(connection) == 200
    assert connection.sock is kept, "the connection was dropped"
    assert days[-1] * DAY > AUTHORITY_VALIDITY
    assert len(leaves) > 10
    assert len(authorities) >= 2
    connection.close()
    print(f"{days[-1]} days: {len(leaves)} certificates of {len(authorities)} authorities, one connection")


async def test_what_is_somebody_elses_is_left_alone(installed: ApiServer, cluster: Cluster) -> None:
    """cert-manager writes both; the controller keeps its own authority for models' certificates."""
    authority = admission.Authority()
    installed.kubectl("-n", SYSTEM, "delete", "secret", SECRET, "modelward-ca")  # they may be of another time
    theirs = authority.secret(serial=77)
    encoded = base64.b64encode(authority.pem).decode()
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": encoded} for index in range(3)
    ]
    patch = ("patch", "mutatingwebhookconfiguration", "modelward", "--type=json", "-p", json.dumps(operations))
    assert installed.kubectl(*patch).ok
    assert installed.apply(theirs).ok
    for _ in range(2):
        made = await Installation(cluster, SYSTEM, IMAGE, issues_for_webhook=False).reconcile()
        assert published(installed).serial_number == 77
        assert bundle(installed) == authority.pem
        assert made.authority.current.chain

    # And the other way: what is not its own it replaces, bundle first.
    installed.kubectl("-n", SYSTEM, "delete", "secret", SECRET)
    made = await Installation(cluster, SYSTEM, IMAGE).reconcile()
    assert bundle(installed) == made.authority.bundle
    verify(published(installed), bundle(installed), datetime.now(UTC))
