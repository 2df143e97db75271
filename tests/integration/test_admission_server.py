"""The admission server as a process, behind a real API server, with the chart's rights and webhooks."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modelward.rules.check import baseline_policy
from tests.corpus import good, policy
from tests.integration.apiserver import ApiServer, Result

pytestmark = pytest.mark.timeout(300)

CHART = Path(__file__).parents[2] / "charts" / "modelward"
SYSTEM = "modelward-system"
SPACE = "admitted"
IMAGE = "modelward-sidecar@sha256:" + "a" * 64
NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Authority:
    """Issues certificates for the webhook, as the controller does."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.pem = self._sign(self._name, self._key.public_key(), 1, ca=True).public_bytes(serialization.Encoding.PEM)

    def _sign(self, name: x509.Name, public: Any, serial: int, *, ca: bool) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(serial)
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def secret(self, serial: int) -> dict[str, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
        chain = self._sign(name, key.public_key(), serial, ca=False).public_bytes(serialization.Encoding.PEM)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "modelward-admission-tls", "namespace": SYSTEM},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(pem).decode()},
        }


@dataclass
class Server:
    """A running admission server."""

    process: subprocess.Popen[bytes]
    port: int
    health_port: int
    ready_after: float
    log: Path

    def health(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.health_port}{path}", timeout=5, trust_env=False)

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.health("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def memory_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.1)
    return found


def start(apiserver: ApiServer, folder: Path, *more: str, wait: bool = True) -> Server:
    token = folder / "token"
    created = apiserver.kubectl("-n", SYSTEM, "create", "token", "modelward-admission")
    assert created.ok, created.stderr
    token.write_text(created.stdout)
    port, health_port = free_port(), free_port()
    log = folder / "admission.log"
    program = Path(sys.executable).parent / "modelward-admission"
    begun = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [
                program,
                f"--api-server={apiserver.url}",
                f"--ca={apiserver.ca}",
                f"--token={token}",
                "--host=127.0.0.1",
                f"--port={port}",
                f"--health-port={health_port}",
                "--drain-seconds=0.5",
                *more,
            ],
            stdout=stream,
            stderr=stream,
        )
    server = Server(process, port, health_port, 0.0, log)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return server.health("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    if wait:
        while not ready():
            assert time.monotonic() < begun + 30, log.read_text()
            time.sleep(0.02)
        server.ready_after = time.monotonic() - begun
    return server


def stop(server: Server) -> None:
    if server.process.poll() is None:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def chart(bin_dir: Path) -> list[dict[str, Any]]:
    """The admission server's rights and webhooks, as the chart has them."""
    templates = ("admission-rbac", "webhook", "service-accounts")
    shown = [f"--show-only=templates/{name}.yaml" for name in templates]
    done = subprocess.run(
        [bin_dir / "helm", "template", "modelward", CHART, f"--namespace={SYSTEM}", *shown],
        capture_output=True,
        text=True,
        check=True,
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


SETTINGS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "modelward-sidecar", "namespace": SYSTEM},
    "data": {"image": IMAGE, "configKey": "a2V5"},
}


@pytest.fixture(scope="module")
def server(
    apiserver: ApiServer, chart: list[dict[str, Any]], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (SYSTEM, SPACE)]
    rights = [item for item in chart if item["kind"] != "MutatingWebhookConfiguration"]
    (webhooks,) = (copy.deepcopy(item) for item in chart if item["kind"] == "MutatingWebhookConfiguration")
    for objects in (namespaces, [*rights, baseline_policy(), SETTINGS, authority.secret(serial=1000)]):
        result = apiserver.apply(*objects)
        assert result.ok, result.stderr
    running = start(apiserver, tmp_path_factory.mktemp("admission"))
    for webhook in webhooks["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        bundle = base64.b64encode(authority.pem).decode()
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:{running.port}{path}", "caBundle": bundle}
        webhook["failurePolicy"] = "Fail"  # here a silent webhook must show, and a slow machine must not
        webhook["timeoutSeconds"] = 10
    assert apiserver.apply(webhooks).ok
    eventually(lambda: not create(apiserver, model("probe", spec={"model": {"image": "x"}}), dry_run=True).ok)
    yield running
    apiserver.kubectl("delete", "mutatingwebhookconfiguration", "modelward")
    apiserver.kubectl("delete", "cdp", "baseline")
    apiserver.kubectl("delete", "namespace", SPACE, "--wait=false")
    stop(running)


def model(name: str, space: str = SPACE, **change: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(good())
    manifest["metadata"] = {**manifest["metadata"], "name": name, "namespace": space}
    return {**manifest, **change}


def create(apiserver: ApiServer, manifest: dict[str, Any], *, dry_run: bool = False) -> Result:
    flags = ["--dry-run=server"] if dry_run else []
    return apiserver.kubectl("create", *flags, "-f", "-", input=yaml.safe_dump(manifest))


OWNED = {
    "id": "CUSTOM-001",
    "expression": "has(object.metadata.labels) && 'owner' in object.metadata.labels",
    "message": "'nobody owns it'",
}


def events(apiserver: ApiServer, reason: str = "PolicyViolation", **about: str) -> list[dict[str, Any]]:
    found = apiserver.get("events", "-A", f"--field-selector=reason={reason}")["items"]
    return [event for event in found if all(event["involvedObject"].get(key) == value for key, value in about.items())]


def test_a_good_model_is_let_in_and_says_nothing(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("good"))
    assert result.ok, result.stderr
    assert "Warning" not in result.stderr


def test_the_denial_lists_every_violation_a_line_each(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("bare", spec={"model": {"image": "x:1"}}))
    assert not result.ok
    assert 'admission webhook "resources.modelward.io" denied the request' in result.stderr
    lines = result.stderr.strip().splitlines()
    assert f"ModelDeployment {SPACE}/bare breaks" in lines[0]
    rules = {re.match(r"\s+([A-Z]+-\d+) ", line)[1] for line in lines[1:]}  # type: ignore[index]
    assert {"ENC-001", "RUN-001"} <= rules
    assert len(rules) >= 4
    assert all("Fix: " in line and "ClusterDataPolicy/baseline" in line for line in lines[1:])


def test_a_refusal_is_told_of_model_policy_and_namespace(apiserver: ApiServer, server: Server):
    assert not create(apiserver, model("told", spec={"model": {"image": "x:1"}})).ok
    (event,) = eventually(lambda: events(apiserver, kind="ModelDeployment", name="told"))
    assert event["metadata"]["namespace"] == SPACE
    assert event["type"] == "Warning"
    assert event["reportingComponent"] == "modelward-admission"
    assert event["source"] == {"component": "modelward-admission"}
    assert "ENC-001" in event["message"]
    assert len(event["message"].encode()) <= 1024
    assert "uid" not in event["involvedObject"]
    for about in ({"kind": "ClusterDataPolicy", "name": "baseline"}, {"kind": "Namespace", "name": SPACE}):
        (other,) = eventually(lambda about=about: events(apiserver, **about))
        assert other["metadata"]["namespace"] == "default"
    listed = apiserver.kubectl("get", "events", "-A", "--field-selector", "reason=PolicyViolation")
    assert "modeldeployment/told" in listed.stdout


def test_the_same_refusal_again_raises_the_count(apiserver: ApiServer, server: Server):
    for _ in range(3):
        assert not create(apiserver, model("again", spec={"model": {"image": "x:1"}})).ok
        time.sleep(0.3)
    eventually(lambda: [event["count"] for event in events(apiserver, name="again")] == [3])


def test_a_dry_run_leaves_no_event(apiserver: ApiServer, server: Server):
    assert not create(apiserver, model("rehearsed", spec={"model": {"image": "x:1"}}), dry_run=True).ok
    assert not create(apiserver, model("performed", spec={"model": {"image": "x:1"}})).ok
    eventually(lambda: events(apiserver, name="performed"))
    assert not events(apiserver, name="rehearsed")


def test_a_warning_is_shown_and_told(apiserver: ApiServer, server: Server):
    space = "warned"
    warn = {**policy({"rules": [OWNED]}, name="gentle", namespace=space)}
    warn["spec"]["enforcement"] = "Warn"
    assert apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, warn).ok

    def warned() -> str:
        return create(apiserver, model("m", space), dry_run=True).stderr

    assert "DataPolicy/warned/gentle" in eventually(warned)
    result = create(apiserver, model("m", space))
    assert result.ok, result.stderr
    assert "Warning: CUSTOM-001" in result.stderr
    eventually(lambda: events(apiserver, "PolicyWarning", kind="ModelDeployment", name="m"))


def test_a_namespace_made_a_moment_ago_is_known(apiserver: ApiServer, server: Server):
    for index in range(5):
        space = f"fresh-{index}"
        manifests = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, model("m", space)]
        result = apiserver.kubectl("create", "-f", "-", input=yaml.safe_dump_all(manifests))
        assert result.ok, result.stderr


def test_updates_are_judged_only_where_they_change_what_is_judged(apiserver: ApiServer, server: Server):
    """A tightened policy must not make what runs undeletable."""
    assert create(apiserver, model("running")).ok
    tight = {**policy({"rules": [OWNED]}, name="tight"), "kind": "ClusterDataPolicy"}
    tight["metadata"] = {"name": "tight"}
    assert apiserver.apply(tight).ok
    eventually(lambda: not create(apiserver, model("probe"), dry_run=True).ok)

    def patch(change: Any) -> Result:
        return apiserver.kubectl("-n", SPACE, "patch", "md/running", "--type=merge", "-p", json.dumps(change))

    try:
        assert patch({"metadata": {"finalizers": ["example.org/wait"], "annotations": {"note": "x"}}}).ok
        assert "CUSTOM-001" in patch({"spec": {"replicas": 3}}).stderr
        assert apiserver.kubectl("-n", SPACE, "delete", "md/running", "--wait=false").ok
        assert patch({"metadata": {"finalizers": None}}).ok
        eventually(lambda: not apiserver.kubectl("-n", SPACE, "get", "md/running").ok)
    finally:
        assert apiserver.kubectl("delete", "cdp", "tight").ok
    eventually(lambda: create(apiserver, model("probe"), dry_run=True).ok)


def test_malformed_objects_are_refused_in_the_words_of_the_schema(apiserver: ApiServer, server: Server):
    result = create(apiserver, model("odd", spec={"model": {"image": "x"}, "targetRef": {"kind": "x"}}))
    assert not result.ok
    assert "admission webhook" not in result.stderr


def test_a_policy_with_invalid_cel_is_refused_with_the_rule_and_the_error(apiserver: ApiServer, server: Server):
    broken = policy({}, name="broken", namespace=SPACE)
    broken["spec"]["rules"] = [{"id": "CUSTOM-001", "expression": "object.spec.(", "message": "'no'"}]
    result = apiserver.apply(broken)
    assert not result.ok
    assert "CUSTOM-001" in result.stderr
    assert "not valid CEL" in result.stderr


def test_an_eleventh_policy_is_refused(apiserver: ApiServer, server: Server):
    space = "crowded"
    policies = [policy({}, name=f"p{index}", namespace=space) for index in range(10)]
    assert apiserver.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}}, *policies).ok

    def eleventh() -> Result:
        return create(apiserver, policy({}, name="p10", namespace=space), dry_run=True)

    eventually(lambda: "10 is the most" in eleventh().stderr)


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": SPACE, "labels": dict(NAMED), **metadata},
        "spec": {"containers": [{"name": "model", "image": "model:1"}]},
    }


def test_a_pod_in_scope_gets_its_sidecar_and_another_none(apiserver: ApiServer, server: Server):
    labels, by_hand = {"modelward.io/inject": "enabled"}, {"modelward.io/model-deployment": "wdbc"}
    for manifest in (pod("labelled"), pod("by-hand", labels=labels, annotations=by_hand), pod("plain", labels={})):
        result = create(apiserver, manifest)
        assert result.ok, result.stderr
    for name in ("labelled", "by-hand"):
        stored = apiserver.get("-n", SPACE, f"pod/{name}")
        (sidecar,) = stored["spec"]["initContainers"]
        assert (sidecar["name"], sidecar["image"], sidecar["restartPolicy"]) == ("modelward-sidecar", IMAGE, "Always")
        assert stored["metadata"]["labels"]["modelward.io/model"] == "wdbc"
    assert "initContainers" not in apiserver.get("-n", SPACE, "pod/plain")["spec"]


def test_a_pod_that_cannot_be_protected_is_refused_with_the_way_out(apiserver: ApiServer, server: Server):
    manifest = pod("open", labels={"modelward.io/inject": "enabled"})
    manifest["spec"]["hostNetwork"] = True
    result = create(apiserver, manifest)
    assert "names no model" in result.stderr
    assert "spec.hostNetwork" in result.stderr
    eventually(lambda: events(apiserver, kind="Pod", name="open"))


def test_settings_are_followed(apiserver: ApiServer, server: Server):
    changed = copy.deepcopy(SETTINGS)
    changed["data"]["image"] = other = "modelward-sidecar@sha256:" + "b" * 64
    assert apiserver.apply(changed).ok

    def injected() -> str:
        done = apiserver.kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", input=yaml.safe_dump(pod("p")))
        return done.stdout

    eventually(lambda: other in injected())
    assert apiserver.apply(SETTINGS).ok
    eventually(lambda: IMAGE in injected())


def served_serial(server: Server, authority: Authority) -> int:
    context = ssl.create_default_context(cadata=authority.pem.decode())
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.version() == "TLSv1.3"
        der = secured.getpeercert(binary_form=True)
    assert der
    return x509.load_der_x509_certificate(der).serial_number


def test_a_new_certificate_is_served_at_once_and_a_bad_one_never(
    apiserver: ApiServer, server: Server, authority: Authority
):
    assert apiserver.apply(authority.secret(serial=2000)).ok
    eventually(lambda: served_serial(server, authority) == 2000)
    bad = authority.secret(serial=3000)
    bad["data"]["tls.key"] = authority.secret(serial=3001)["data"]["tls.key"]
    assert apiserver.apply(bad).ok
    eventually(lambda: "cannot be served" in server.log.read_text())
    assert served_serial(server, authority) == 2000
    assert create(apiserver, model("after-rotation"), dry_run=True).ok
    assert apiserver.apply(authority.secret(serial=4000)).ok
    eventually(lambda: served_serial(server, authority) == 4000)
    assert "PRIVATE KEY" not in server.log.read_text()


def test_an_object_of_the_largest_size_is_judged_within_the_time_out(apiserver: ApiServer, server: Server):
    big = model("big")
    big["metadata"]["annotations"]["lineage.modelward.io/transformations"] = json.dumps(
        [{"what": "x" * 200, "how": "y", "why": "z"}] * 25
    )
    column = "c" * 110
    big["spec"]["schema"] = {
        "inputs": [
            {
                "name": f"input-{index}",
                "datatype": "FP64",
                "shape": [-1, 100],
                "columns": [f"{column}{n}" for n in range(100)],
            }
            for index in range(110)
        ]
    }
    assert len(json.dumps(big)) > 1_200_000
    begun = server.cpu_seconds()
    result = create(apiserver, big, dry_run=True)
    assert result.ok, result.stderr
    assert server.cpu_seconds() - begun < 2  # the time-out, on a machine that does nothing else


def test_without_its_certificate_it_is_not_ready_and_leaves_on_sigterm(
    apiserver: ApiServer, server: Server, tmp_path: Path
):
    other = start(apiserver, tmp_path, "--namespace=default", wait=False)
    try:
        eventually(lambda: other.log.exists() and _answers(other))
        assert other.health("/healthz").status_code == 200
        assert other.health("/readyz").status_code == 503
        other.process.send_signal(signal.SIGTERM)
        assert other.process.wait(timeout=10) == 0
    finally:
        stop(other)


def _answers(server: Server) -> bool:
    try:
        return server.health("/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def test_leaving_drops_no_review(apiserver: ApiServer, server: Server, authority: Authority, tmp_path: Path):
    """Under load, SIGTERM: all is answered, and connections end after an answer and not before one."""
    leaving = start(apiserver, tmp_path, "--drain-seconds=3")
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"},
            "operation": "CREATE",
            "name": "m",
            "namespace": SPACE,
            "dryRun": True,
            "object": model("m"),
        },
    }
    body = json.dumps(review)
    trusting = ssl.create_default_context(cadata=authority.pem.decode())

    def ask(until: Callable[[], bool]) -> list[str]:
        seen = []
        headers = {"content-type": "application/json"}
        with httpx.Client(verify=trusting, trust_env=False, timeout=5) as client:
            while not until():
                try:
                    answer = client.post(f"https://127.0.0.1:{leaving.port}/admit", content=body, headers=headers)
                    seen.append(f"{answer.status_code} {answer.headers.get('connection', '')}".strip())
                except httpx.HTTPError as error:
                    seen.append(type(error).__name__)
        return seen

    stopped: list[float] = []
    try:
        with ThreadPoolExecutor(4) as pool:
            # A second is what it takes until no API server sends anything to a pod that leaves.
            asked = [pool.submit(ask, lambda: bool(stopped) and time.monotonic() > stopped[0] + 1) for _ in range(4)]
            time.sleep(1.0)
            leaving.process.send_signal(signal.SIGTERM)
            stopped.append(time.monotonic())
            eventually(lambda: leaving.health("/readyz").status_code == 503)
            outcomes = [outcome for future in asked for outcome in future.result()]
        assert leaving.process.wait(timeout=15) == 0, leaving.log.read_text()
        assert set(outcomes) == {"200", "200 close"}, {outcome: outcomes.count(outcome) for outcome in set(outcomes)}
    finally:
        stop(leaving)


def test_numbers(
    apiserver: ApiServer, server: Server, authority: Authority, tmp_path: Path, record_property: Callable[..., None]
):
    """Start, memory and CPU, printed; bounded where other work on the machine does not count."""
    fresh = start(apiserver, tmp_path)
    to_ready = fresh.cpu_seconds()
    trusting = ssl.create_default_context(cadata=authority.pem.decode())
    count = 500
    request = {
        "uid": "1",
        "kind": {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"},
        "operation": "CREATE",
        "name": "m",
        "namespace": SPACE,
        "object": model("m"),
    }
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    with httpx.Client(verify=trusting, trust_env=False) as client:
        begun, cpu = time.monotonic(), fresh.cpu_seconds()
        for _ in range(count):
            answer = client.post(
                f"https://127.0.0.1:{fresh.port}/admit", content=body, headers={"content-type": "application/json"}
            )
            assert answer.json()["response"]["allowed"], answer.text
        wall, cpu = time.monotonic() - begun, fresh.cpu_seconds() - cpu
    numbers = {
        "start to ready, s": round(fresh.ready_after, 2),
        "CPU until ready, s": round(to_ready, 2),
        "memory, MiB": round(fresh.memory_mib(), 1),
        "CPU per review, ms": round(1000 * cpu / count, 2),
        "wall per review with one client, ms": round(1000 * wall / count, 2),
    }
    stop(fresh)
    print(numbers)
    for name, value in numbers.items():
        record_property(name, value)
    assert numbers["CPU until ready, s"] < 5
    assert numbers["memory, MiB"] < 96
    assert numbers["CPU per review, ms"] < 20
