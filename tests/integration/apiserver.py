"""A real etcd and a real kube-apiserver, started for the tests and gone with them. No controllers, no nodes."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelward.api.base import GROUP
from modelward.api.crd import KINDS, crd
from tests.ports import free_port

ADMIN_TOKEN = "admin-token-of-the-tests"
USERS = {
    ADMIN_TOKEN: ("admin", "system:masters"),
    "alice-token": ("alice", "engineers"),
    "bob-token": ("bob", "policy-owners"),
    "controller-token": (
        "system:serviceaccount:modelward-system:modelward-controller",
        "system:serviceaccounts,system:serviceaccounts:modelward-system,system:authenticated",
    ),
}
START_SECONDS = 60


@dataclass
class Result:
    """What a command printed, and how it ended."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0


@dataclass
class ApiServer:
    """A running API server; `kubectl` speaks to it as an administrator unless told otherwise."""

    bin_dir: Path
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    url: str = ""
    etcd_port: int = 0
    token: str = ADMIN_TOKEN

    @property
    def ca(self) -> Path:
        return self.folder / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.kubeconfig_for(ADMIN_TOKEN)

    def kubeconfig_for(self, token: str) -> Path:
        """Write a kubeconfig for one of the USERS."""
        path = self.folder / f"{token}-{self.url.rsplit(':', 1)[-1]}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def start(self) -> None:
        self.etcd_port, peer_port, port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{port}"
        key = ec.generate_private_key(ec.SECP256R1())
        signing = self.folder / "service-accounts.key"
        signing.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        tokens = self.folder / "tokens.csv"
        tokens.write_text("".join(f'{token},{user},{user},"{groups}"\n' for token, (user, groups) in USERS.items()))
        self._spawn(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--advertise-client-urls=http://127.0.0.1:{self.etcd_port}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync",
        )
        self._start_apiserver(port)

    def _start_apiserver(self, port: int) -> None:
        self._spawn(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--secure-port={port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={self.folder}/certs",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder}/service-accounts.key",
            f"--service-account-signing-key-file={self.folder}/service-accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            "--allow-privileged=true",
        )
        self._wait()

    def _spawn(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("wb")
        process = subprocess.Popen([self.bin_dir / name, *arguments], stdout=log, stderr=subprocess.STDOUT)
        log.close()
        self.processes.append(process)

    def restart(self) -> None:
        """Restart the API server alone: what it stored is there again, what it counted is not."""
        process = self.processes.pop()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        self._start_apiserver(int(self.url.rsplit(":", 1)[1]))

    @contextmanager
    def twin(self) -> Iterator[ApiServer]:
        """Run a second API server on the same store."""
        second = ApiServer(self.bin_dir, self.folder, etcd_port=self.etcd_port)
        port = free_port()
        second.url = f"https://127.0.0.1:{port}"
        second.processes = [self.processes[0]]  # the store, which it does not stop
        try:
            second._start_apiserver(port)
            yield second
        finally:
            for process in second.processes[1:]:
                process.kill()
                process.wait()

    @contextmanager
    def controllers(self, *names: str) -> Iterator[None]:
        """Run some of Kubernetes' own controllers."""
        arguments = [f"--kubeconfig={self.kubeconfig}", f"--controllers={','.join(names)}"]
        self._spawn("kube-controller-manager", *arguments, "--leader-elect=false", "--secure-port=0")
        process = self.processes.pop()
        try:
            yield
        finally:
            process.kill()
            process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            for process, name in zip(self.processes, ("etcd", "kube-apiserver"), strict=True):
                if process.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
                    raise RuntimeError(f"{name} ended with {process.returncode}; its last words:\n{log}")
            if self.ca.exists() and self._ready():
                return
            time.sleep(0.2)
        log = (self.folder / "kube-apiserver.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"kube-apiserver was not ready within {START_SECONDS} s; its last words:\n{log}")

    def _ready(self) -> bool:
        request = urllib.request.Request(f"{self.url}/readyz", headers={"Authorization": f"Bearer {self.token}"})
        try:
            context = ssl.create_default_context(cafile=str(self.ca))  # the file may be there and empty yet
            with urllib.request.urlopen(request, context=context, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """Kill both: nothing of them is kept, and leaving in order takes kube-apiserver ten seconds and more."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def kubectl(self, *arguments: str, input: str | None = None, token: str = ADMIN_TOKEN) -> Result:  # noqa: A002
        """Run kubectl; never raises for its exit code."""
        done = subprocess.run(
            [self.bin_dir / "kubectl", "--kubeconfig", self.kubeconfig_for(token), *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "HOME": str(self.folder)},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def apply(self, *manifests: dict[str, Any], token: str = ADMIN_TOKEN, server_side: bool = True) -> Result:
        """Apply manifests; never raises for a refusal."""
        flags = ["--server-side", "--force-conflicts"] if server_side else []
        return self.kubectl("apply", *flags, "-f", "-", input=yaml.safe_dump_all(manifests), token=token)

    def install_crds(self) -> None:
        """Make modelward's resources known; returns once they are served.

        Raises:
            AssertionError: that was not within a minute.
        """
        result = self.apply(*(crd(kind) for kind in KINDS))
        assert result.ok, result.stderr
        names = [f"crd/{kind.plural}.{GROUP}" for kind in KINDS]
        # `wait` fails at once while the status has no conditions; discovery lags behind it.
        for command in (
            ("wait", "--for=condition=Established", *names, "--timeout=30s"),
            *(("explain", f"{kind.plural}.spec") for kind in KINDS),
        ):
            deadline = time.monotonic() + START_SECONDS
            while not (done := self.kubectl(*command)).ok:
                assert time.monotonic() < deadline, done.stderr
                time.sleep(0.2)

    def delete(self, *manifests: dict[str, Any]) -> None:
        """Delete what is there of these; without a namespace controller namespaces stay, so they are left alone."""
        mortal = [manifest for manifest in manifests if manifest["kind"] != "Namespace"]
        flags = ["--wait=false", "--ignore-not-found"]
        result = self.kubectl("delete", *flags, "-f", "-", input=yaml.safe_dump_all(mortal))
        assert result.ok, result.stderr

    def get(self, *arguments: str) -> Any:
        """Get an object as data.

        Raises:
            AssertionError: it is not there.
        """
        result = self.kubectl("get", *arguments, "-o", "json")
        assert result.ok, result.stderr
        return json.loads(result.stdout)


def started(bin_dir: Path) -> ApiServer:
    """Start an API server in a new temporary folder."""
    server = ApiServer(bin_dir, Path(tempfile.mkdtemp(prefix="modelward-apiserver-")))
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server
