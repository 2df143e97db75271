from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from modelward.cli.main import cli
from modelward.cli.run_sources import uncounted
from modelward.logchain import verify
from tests.corpus import good
from tests.ports import free_port
from tests.unit.sidecar.harness import KEY, fitted, jwk, token, until
from tests.unit.sidecar.identity import IdentityProvider, ok

ISSUER = "https://login.clinic.example"


class _Model(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        body = json.loads(self.rfile.read(length))
        answer = json.dumps({"outputs": [], "id": body.get("id", "")}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def model() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def manifest() -> dict[str, Any]:
    """A ModelDeployment that this version can serve."""
    out = good()
    spec = out["spec"]
    for field in ("explanations", "fairness", "securityTest"):
        spec.pop(field, None)
    spec["encryption"] = {"inTransit": {"mode": "TLS", "minVersion": "1.3"}}
    spec["schema"] = {
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["a", "b", "c"]}],
    }
    spec["access"]["issuers"] = [
        {"name": "clinic", "issuer": ISSUER, "audiences": ["wdbc"], "jwksConfigMapName": "clinic-jwks"}
    ]
    spec["access"]["rules"] = [{"subjects": ["user:alice"], "operations": ["Infer"], "purposes": ["diagnosis"]}]
    spec["monitoring"] = {
        "baseline": {"configMapName": "wdbc-baseline"},
        "detectors": [{"type": "Mahalanobis", "falsePositiveRate": 0.01}],
    }
    return out


def config_maps(namespace: str) -> list[dict[str, Any]]:
    keys = {"data": {"jwks.json": json.dumps({"keys": [jwk(KEY)]})}}
    baseline = {"binaryData": {"baseline.npz": base64.b64encode(fitted()).decode()}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}} | content
        for name, content in (("clinic-jwks", keys), ("wdbc-baseline", baseline))
    ]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(manifest()))
    namespace = manifest()["metadata"].get("namespace", "default")
    (tmp_path / "more.yaml").write_text(yaml.safe_dump_all(config_maps(namespace)))
    return tmp_path


def run(*arguments: str | Path) -> Result:
    """For what ends at once; a sidecar that serves needs a process of its own."""
    return CliRunner().invoke(cli, ["run", *(str(argument) for argument in arguments)])


def ask(
    url: str, name: str, context: ssl.SSLContext | None = None, *, data: Any = (0.1, 10.2, -5.3)
) -> tuple[int, Any]:
    body = {"id": "7", "inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": list(data)}]}
    bearer = token(iss=ISSUER, aud="wdbc")
    header = {"content-type": "application/json", "authorization": f"Bearer {bearer}"}
    request = urllib.request.Request(f"{url}/v2/models/{name}/infer", json.dumps(body).encode(), header)
    try:
        with urllib.request.urlopen(request, timeout=60, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def answers(monitor: int) -> bool:
    """Whether the sidecar with this monitor is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/readyz", timeout=10):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("plaintext", [True, False])
def test_the_very_same_sidecar_runs_here(files: Path, model: str, plaintext: bool) -> None:
    port, monitor = free_port(), free_port()
    arguments = ["-f", files / "model.yaml", "-f", files / "more.yaml", "--upstream", model]
    arguments += ["--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{monitor}"]
    arguments += ["--plaintext"] if plaintext else ["--tls-out", files / "tls"]
    command = [sys.executable, "-m", "modelward.cli.main", "run", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: process.poll() is not None or answers(monitor))
            context = None if plaintext else ssl.create_default_context(cafile=files / "tls" / "ca.crt")
            url = f"http://127.0.0.1:{port}" if plaintext else f"https://localhost:{port}"
            name = manifest()["spec"]["model"].get("name") or manifest()["metadata"]["name"]
            assert ask(url, name, context) == (200, {"outputs": [], "id": "7"})
            status, problem = ask(url, name, context, data=(0.1, 99, -5.3))
            assert (status, problem["title"]) == (403, "The input was refused by screening")
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["status"] for line in lines if "request" in line] == [200, 403]
    verdict = verify(out.encode().splitlines(), whole=True)
    assert (verdict.findings, verdict.records) == ([], 2)
    assert "Access log on standard output" in err


def test_keys_by_url_are_fetched_here_as_well(files: Path, model: str) -> None:
    provider = IdentityProvider(files, ok({"keys": [jwk(KEY)]}))
    by_url = manifest()
    issuer = by_url["spec"]["access"]["issuers"][0]
    del issuer["jwksConfigMapName"]
    issuer["jwksURI"] = provider.url
    (files / "model.yaml").write_text(yaml.safe_dump(by_url))
    authority = files / "idp-ca.pem"
    authority.write_text(provider.authority.pem)
    port, monitor = free_port(), free_port()
    command = [sys.executable, "-m", "modelward.cli.main", "run", "-f", files / "model.yaml", "-f", files / "more.yaml"]
    command += ["--upstream", model, "--plaintext"]
    command += ["--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{monitor}"]
    environment = os.environ | {"SSL_CERT_FILE": str(authority)}  # stands for the public authorities
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            until(lambda: process.poll() is not None or answers(monitor))
            name = by_url["metadata"]["name"]
            assert ask(f"http://127.0.0.1:{port}", name) == (200, {"outputs": [], "id": "7"})
        finally:
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            provider.close()
    assert process.returncode == 0, err


def test_service_accounts_are_the_clusters(files: Path) -> None:
    accounts = manifest()
    issuer = accounts["spec"]["access"]["issuers"][0]
    del issuer["jwksConfigMapName"]
    issuer["serviceAccounts"] = True
    (files / "model.yaml").write_text(yaml.safe_dump(accounts))
    result = run("-f", files)
    assert result.exit_code == 2
    assert "kubectl get --raw /openid/v1/jwks" in result.output


def test_what_check_refuses_is_not_run(files: Path) -> None:
    bad = manifest()
    del bad["spec"]["encryption"]
    (files / "model.yaml").write_text(yaml.safe_dump(bad))
    result = run("-f", files)
    assert result.exit_code == 1
    assert "ENC-001" in result.output
    assert "--force" in result.output


def test_what_is_declared_and_not_honoured_is_not_run(files: Path) -> None:
    more = manifest()
    more["spec"]["fairness"] = {"protected": [{"field": "nowhere"}]}
    (files / "model.yaml").write_text(yaml.safe_dump(more))
    result = run("-f", files)
    assert result.exit_code == 1
    assert "not honoured by this version: spec.fairness" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-f", "model.yaml"], "no ConfigMap clinic-jwks with jwks.json among the files; add it with -f"),
        (["-f", "more.yaml"], "one ModelDeployment is wanted; the files hold none"),
        (["-f", "missing.yaml"], "no such file"),
        (["-f", ".", "--name", "other"], "Choose with --name"),
        (["-f", ".", "--plaintext", "--listen", "0.0.0.0:8443"], "--plaintext is for the loopback address"),
        (["-f", ".", "--tls-cert", "a.pem"], "--tls-cert and --tls-key belong together"),
        (["-f", ".", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "do not load"),
        (["-f", ".", "--upstream", "http://10.0.0.1:80"], "http://127.0.0.1:<port>"),
        (["-f", ".", "--upstream", "https://localhost:80"], "http://127.0.0.1:<port>"),
        (["-f", ".", "--upstream", "http://localhost:x"], "http://127.0.0.1:<port>"),
        (["-f", ".", "--listen", "8443"], "not host:port"),
        (["-f", ".", "--baseline", "model.yaml"], "not a baseline"),
        (["-f", ".", "--baseline", "missing.npz"], "missing.npz: No such file"),
    ],
)
def test_what_cannot_be_used_is_exit_2_with_the_fix(
    files: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(files)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert told in result.output


def test_mutual_tls_needs_an_authority_of_ones_own(files: Path) -> None:
    mutual = manifest()
    mutual["spec"]["encryption"]["inTransit"]["mode"] = "MutualTLS"
    (files / "model.yaml").write_text(yaml.safe_dump(mutual))
    result = run("-f", files)
    assert result.exit_code == 2
    assert "clientCASecretName" in result.output


def test_a_port_that_is_taken_is_told(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("-f", ".", "--listen", f"127.0.0.1:{taken.getsockname()[1]}", "--plaintext")
    assert result.exit_code == 2
    assert "Address already in use" in result.output


def test_nothing_is_counted_for_auditors_here_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    asking = {"metadata": {"name": "p"}, "spec": {"audit": {"publicKeyConfigMapName": "k"}, "fields": []}}
    assert uncounted([asking]) == [{"metadata": {"name": "p"}, "spec": {"fields": []}}]
    assert "nothing is counted for auditors here" in capsys.readouterr().err
    assert uncounted([{"metadata": {}, "spec": {}}]) == [{"metadata": {}, "spec": {}}]
    assert capsys.readouterr().err == ""
