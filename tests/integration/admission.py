"""The admission server as a process behind a real API server, with the chart's rights and webhooks: what tests and
benchmarks of it share.
"""

from __future__ import annotations

import base64
import copy
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from modelward.planner.pod_policy import identity_policies
from modelward.rules.check import baseline_policy
from tests.corpus import good
from tests.integration.apiserver import ApiServer
from tests.ports import free_port

CHART = Path(__file__).parents[2] / "charts" / "modelward"
SYSTEM = "modelward-system"
IMAGE = "modelward-sidecar@sha256:" + "a" * 64
KEY = "a2V5"
SETTINGS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "modelward-sidecar", "namespace": SYSTEM},
    "data": {"image": IMAGE, "configKey": KEY},
}
NAMED = {"modelward.io/inject": "enabled", "modelward.io/model": "wdbc"}


def eventually(check: Callable[[], Any], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.1)
    return found


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

    def pair(self, serial: int) -> tuple[bytes, bytes]:
        """A serving certificate and its key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")])
        chain = self._sign(name, key.public_key(), serial, ca=False).public_bytes(serialization.Encoding.PEM)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return chain, pem

    def secret(self, serial: int) -> dict[str, Any]:
        chain, pem = self.pair(serial)
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

    def ready(self) -> bool:
        try:
            return self.health("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.health("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def memory_mib(self) -> float:
        return memory_mib(self.process.pid)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def memory_mib(pid: int) -> float:
    """Resident memory, as the kernel counts it."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """User and system time, as the kernel counts it: in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@cache
def _environment(bin_dir: Path) -> dict[str, str]:
    """What the chart sets of the process's environment, but for what is its pod's."""
    (deployment,) = (item for item in chart(bin_dir, "admission") if item["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


def start(apiserver: ApiServer, folder: Path, *more: str, wait: bool = True) -> Server:
    """Start an admission server; flags given later win over those given here."""
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
            env=os.environ | _environment(apiserver.bin_dir),
        )
    server = Server(process, port, health_port, 0.0, log)
    if wait:
        while not server.ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < begun + 30, log.read_text()
            time.sleep(0.02)
        server.ready_after = time.monotonic() - begun
    return server


def chart(bin_dir: Path, *templates: str) -> list[dict[str, Any]]:
    """Objects of the chart: those of these templates."""
    shown = [f"--show-only=templates/{name}.yaml" for name in templates]
    done = subprocess.run(
        [bin_dir / "helm", "template", "modelward", CHART, f"--namespace={SYSTEM}", *shown],
        capture_output=True,
        text=True,
        check=True,
    )
    return [item for item in yaml.safe_load_all(done.stdout) if item]


def backstop(bin_dir: Path) -> list[dict[str, Any]]:
    """The admission policies: the chart's, and the one that the controller writes of the genuine sidecar."""
    return [*chart(bin_dir, "generated/backstop"), *identity_policies(IMAGE, KEY)]


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def prepare(apiserver: ApiServer, bin_dir: Path, authority: Authority) -> None:
    """Apply what the admission server needs to become ready."""
    rights = chart(bin_dir, "admission-rbac", "service-accounts")
    for objects in ([namespace(SYSTEM)], [*rights, baseline_policy(), SETTINGS, authority.secret(serial=1000)]):
        result = apiserver.apply(*objects)
        assert result.ok, result.stderr


def webhooks(bin_dir: Path, authority: Authority, port: int, **change: Any) -> dict[str, Any]:
    """The chart's webhooks, which call a port of this machine instead of a Service."""
    (configuration,) = chart(bin_dir, "webhook")
    for webhook in configuration["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        bundle = base64.b64encode(authority.pem).decode()
        webhook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle}
        webhook.update(change)
    return configuration


def model(name: str, space: str, **change: Any) -> dict[str, Any]:
    """A ModelDeployment that the baseline lets in, but for the change."""
    manifest = copy.deepcopy(good())
    manifest["metadata"] = {**manifest["metadata"], "name": name, "namespace": space}
    return {**manifest, **change}


def pod(name: str, space: str, labels: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    """A pod of a model, without its sidecar."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": dict(NAMED if labels is None else labels),
            **metadata,
        },
        "spec": {"containers": [{"name": "model", "image": "model:1"}]},
    }
