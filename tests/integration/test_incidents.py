"""What sidecars find comes up as Events, a condition and metrics: the controller and real sidecars, a real API server.

Two replicas run as they would in their pods, with the files that the controller made for them; they listen on two
addresses of this machine. Nothing stands behind them: what is refused never gets there, and what passes is a 502.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.controller.certificates import issue
from modelward.controller.event_budget import NEW
from modelward.controller.incidents import Incidents
from modelward.controller.models import Models
from modelward.controller.security_tests import Loaded
from modelward.detect import fitting
from modelward.planner.injection import inject
from modelward.planner.names import KubeObject
from tests.integration.apiserver import ApiServer
from tests.integration.test_controller import (  # noqa: F401 - fixtures
    IMAGE,
    PLACE,
    Controller,
    apply,
    cluster,
    controller,
    model,
    place,
    policy,
)
from tests.ports import free_port
from tests.unit.sidecar.pki import Authority

pytestmark = pytest.mark.timeout(300)

ADDRESSES = ("127.0.0.1", "127.0.0.2")
COLUMNS = ["a", "b", "c"]
ISSUER = Ed25519PrivateKey.generate()
ORDINARY, STRANGE = [0.0, 0.0, 0.0], [90.0, -90.0, 90.0]


def what_it_refers_to() -> list[KubeObject]:
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": "k"}
    public = base64.urlsafe_b64encode(ISSUER.public_key().public_bytes_raw()).rstrip(b"=").decode()
    rows = np.random.default_rng(0).normal(size=(300, 3))
    baseline = base64.b64encode(fitting.fit(rows, COLUMNS, false_positive_rate=0.05).to_bytes()).decode()

    def config_map(name: str, **content: Any) -> KubeObject:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": PLACE}, **content}

    return [
        config_map("callers", data={"jwks.json": json.dumps({"keys": [{**jwk, "x": public}]})}),
        config_map("ordinary", binaryData={"baseline.npz": baseline}),
    ]


def watched(name: str, **spec: Any) -> KubeObject:
    trusted = {"name": "i", "issuer": "https://i", "audiences": ["a"], "jwksConfigMapName": "callers"}
    return model(
        name,
        schema={"inputs": [{"name": "rows", "datatype": "FP64", "shape": [-1, 3], "columns": COLUMNS}]},
        access={"issuers": [trusted], "rules": [{"subjects": ["group:all"]}]},
        monitoring={
            "baseline": {"configMapName": "ordinary"},
            "detectors": [{"type": "Mahalanobis", "falsePositiveRate": 0.05}],
        },
        **spec,
    )


def token(client: str) -> str:
    claims = {"iss": "https://i", "aud": "a", "sub": client, "groups": ["all"], "exp": int(time.time()) + 600}
    return jwt.encode(claims, ISSUER, "EdDSA", headers={"kid": "k"})


class Replicas:
    """A model's pods, as far as there is anything in them: their sidecars."""

    def __init__(self, made: Controller, folder: Path) -> None:
        self.controller, self.server, self.folder = made, made.server, folder
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.monitors: dict[str, int] = {}  # the port for metrics, by address
        self.incidents = self.begin()

    def begin(self) -> Incidents:
        """What a controller that starts anew begins with."""
        return Incidents(self.controller.cluster, self.controller.recorder, self.controller.have, port=self.port)

    async def reconcile(self, name: str) -> dict[str, tuple[str, str]]:
        made = self.controller
        made.installed = await made.installation.reconcile()
        models = Models(made.cluster, made.recorder, made.have, made.clock, seen=self.incidents.of)
        await models.reconcile(PLACE, name)
        status = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}

    async def look(self, name: str) -> dict[str, Any]:
        """Look once, and return the status that is written of it."""
        await self.incidents.look(PLACE, name)
        await self.reconcile(name)
        found: dict[str, Any] = self.server.get("modeldeployment", name, "-n", PLACE)["status"]
        return found

    async def start(self, name: str, count: int = 2) -> None:
        await self.reconcile(name)
        made = self.controller.made(name)
        folder = self.folder / name
        folder.mkdir()
        for file, text in made["ConfigMap"]["data"].items():
            (folder / file).write_text(text)
        contents = {**made["ConfigMap"].get("binaryData", {}), **made["Secret"]["data"]}
        for file, content in contents.items():
            (folder / file).write_bytes(base64.b64decode(content))
        key = self.controller.have().settings.config_key
        for number, address in enumerate(ADDRESSES[:count]):
            self.pod(name, f"{name}-{number}", address)
            command = [sys.executable, "-m", "modelward.sidecar.main", f"--config-dir={folder}", f"--tls-dir={folder}"]
            command += [f"--config-key={key}", f"--model={name}", f"--host={address}", f"--port={self.port}"]
            self.monitors[address] = free_port()
            command += [f"--monitor-port={self.monitors[address]}"]
            environment = {"MODELWARD_NAMESPACE": PLACE, "PYTHONPATH": ":".join(sys.path)}
            self.run(command, environment)
        for address in ADDRESSES[:count]:
            await self.listening(address)

    def run(self, command: list[str], environment: dict[str, str]) -> None:
        with (self.folder / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    async def listening(self, address: str) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((address, self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, [one.poll() for one in self.processes]
                await asyncio.sleep(0.2)
            else:
                return

    def pod(self, model_name: str, name: str, address: str) -> None:
        labels = {"modelward.io/model": model_name, "modelward.io/inject": "enabled"}
        bare = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": PLACE, "labels": labels},
            "spec": {"containers": [{"name": "model", "image": "model:1"}]},
        }
        apply(self.server, inject(bare, image=IMAGE, config_key=self.controller.have().settings.config_key))
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"status": {"phase": "Running", "podIP": address, "conditions": conditions}}
        what = ("pod", name, "-n", PLACE, "--subresource=status", "--type=merge")
        result = self.server.kubectl("patch", *what, "-p", json.dumps(status))
        assert result.ok, result.stderr

    @property
    def log(self) -> str:
        """What all sidecars have written."""
        return (self.folder / "log").read_text()

    def metrics(self, address: str = ADDRESSES[0]) -> str:
        """What a sidecar tells to who scrapes it."""
        connection = http.client.HTTPConnection(address, self.monitors[address], timeout=30)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def ask(self, name: str, client: str, row: list[float], address: str = ADDRESSES[0]) -> int:
        body = {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [1, 3], "data": row}]}
        return self.send(name, client, "infer", body, address)[0]

    def send(self, name: str, client: str, verb: str, body: Any, address: str = ADDRESSES[0]) -> tuple[int, str, bytes]:
        """The status, the request's id and the body of what a replica answers."""
        context = ssl.create_default_context(cadata=self.controller.have().authority.bundle.decode())
        host = f"{name}.{PLACE}.svc"

        class Named(http.client.HTTPSConnection):
            def connect(self) -> None:
                http.client.HTTPConnection.connect(self)
                self.sock = context.wrap_socket(self.sock, server_hostname=host)

        connection = Named(address, self.port, timeout=30)
        headers = {"content-type": "application/json", "authorization": f"Bearer {token(client)}"}
        try:
            connection.request("POST", f"/v2/models/{name}/{verb}", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["x-modelward-request-id"], answer.read()
        finally:
            connection.close()

    def annotate(self, name: str, **annotations: str) -> None:
        given = [f"modelward.io/{key.replace('_', '-')}={value}" for key, value in annotations.items()]
        result = self.server.kubectl("annotate", "modeldeployment", name, "-n", PLACE, "--overwrite", *given)
        assert result.ok, result.stderr

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def replicas(controller: Controller, tmp_path: Path) -> Iterator[Replicas]:  # noqa: F811
    apply(controller.server, *what_it_refers_to())
    made = Replicas(controller, tmp_path)
    yield made
    made.stop()
    controller.server.kubectl("delete", "pod", "-n", PLACE, "--all", "--force", "--wait=false")


def told(status: dict[str, Any]) -> tuple[str, str, str]:
    (condition,) = [one for one in status["conditions"] if one["type"] == "Monitored"]
    return condition["status"], condition["reason"], condition["message"]


async def test_an_attack_shows_up_is_held_everywhere_and_the_client_let_go(replicas: Replicas) -> None:
    holds = {"anomalies": 3, "seconds": 60, "durationSeconds": 3600}
    apply(replicas.server, policy("holds", quarantine=holds), watched("wdbc"))
    await replicas.start("wdbc")
    assert told(await replicas.look("wdbc"))[:2] == ("True", "DetectorsWatching")
    assert replicas.controller.events("AnomalyDetected") == []

    assert [replicas.ask("wdbc", "thief", STRANGE) for _ in range(3)] == [403] * 3
    assert replicas.ask("wdbc", "clumsy", STRANGE, ADDRESSES[1]) == 403
    assert replicas.ask("wdbc", "dr-lee", ORDINARY) == 502  # nothing stands behind
    status = await replicas.look("wdbc")
    condition, reason, message = told(status)
    assert (condition, reason) == ("True", "Quarantined")
    assert "user:thief until" in message
    assert "anomalies of 2 clients: user:thief 3 by Mahalanobis" in message
    monitoring = status["monitoring"]
    assert [(one["client"], one["count"], one["action"]) for one in monitoring["incidents"]] == [
        ("user:thief", 3, "blocked"),
        ("user:clumsy", 1, "blocked"),
    ]
    events = {event["message"].split()[0]: event for event in replicas.controller.events("AnomalyDetected")}
    assert set(events) == {"user:thief", "user:clumsy"}
    assert "3 anomalies found by Mahalanobis, blocked" in events["user:thief"]["message"]
    assert monitoring["incidents"][0]["reference"] in events["user:thief"]["message"]
    (quarantined,) = replicas.controller.events("ClientQuarantined")
    assert quarantined["message"].startswith("user:thief (issuer i) is refused until")
    metrics = replicas.incidents.metrics()
    place_of = f'namespace="{PLACE}",model="wdbc"'
    assert metrics["modelward_model_anomalies"][1] == {f'{{{place_of},detector="Mahalanobis"}}': 4}
    assert metrics["modelward_model_quarantined_clients"][1] == {f"{{{place_of}}}": 1}
    assert metrics["modelward_model_silent_sidecars"][1] == {f"{{{place_of}}}": 0}

    # The other replica holds the client as well, which did nothing there; nobody else is held.
    for address in ADDRESSES:
        assert replicas.ask("wdbc", "thief", ORDINARY, address) == 403
        assert replicas.ask("wdbc", "dr-lee", ORDINARY, address) == 502

    # A controller that starts anew tells nothing twice, and the condition stands meanwhile.
    replicas.incidents = replicas.begin()
    assert (await replicas.reconcile("wdbc"))["Monitored"] == ("True", "Quarantined")
    await replicas.look("wdbc")
    for reason in ("AnomalyDetected", "ClientQuarantined"):
        assert {event["count"] for event in replicas.controller.events(reason)} == {1}, reason

    replicas.annotate("wdbc", release="user:thief", release_at="2026-01-01T00:00:00Z")
    status = await replicas.look("wdbc")
    assert told(status)[:2] == ("True", "AnomaliesSeen")
    assert status["monitoring"]["released"] == {"client": "user:thief", "at": "2026-01-01T00:00:00Z"}
    await replicas.look("wdbc")  # and does not spread anew from a replica that was told later
    for address in ADDRESSES:
        assert replicas.ask("wdbc", "thief", ORDINARY, address) == 502
    (event,) = replicas.controller.events("ClientReleased")
    assert event["count"] == 1

    # Held again, the old annotation lets nobody go; asked for again, it does.
    assert [replicas.ask("wdbc", "thief", STRANGE) for _ in range(3)] == [403] * 3
    assert told(await replicas.look("wdbc"))[1] == "Quarantined"
    replicas.incidents = replicas.begin()
    assert told(await replicas.look("wdbc"))[1] == "Quarantined"
    replicas.annotate("wdbc", release_at="2026-01-02T00:00:00Z")
    assert told(await replicas.look("wdbc"))[1] == "AnomaliesSeen"


async def test_a_sidecar_tells_by_which_configuration_it_goes(replicas: Replicas) -> None:
    """A security test is not begun against another."""
    apply(replicas.server, watched("configured", securityTest={"gate": False}))
    await replicas.start("configured", 1)
    await replicas.reconcile("configured")
    raw = replicas.server.get("modeldeployment", "configured", "-n", PLACE)
    document = replicas.controller.made("configured")["ConfigMap"]["data"]["config.json"]
    assert await replicas.incidents.loaded(raw) == [Loaded(ADDRESSES[0], hashlib.sha256(document.encode()).hexdigest())]


async def test_what_does_not_tell_is_told_of(replicas: Replicas) -> None:
    apply(replicas.server, watched("mute"))
    await replicas.start("mute", count=1)
    replicas.pod("mute", "mute-1", ADDRESSES[1])  # whose sidecar is dead
    condition, reason, message = told(await replicas.look("mute"))
    assert (condition, reason) == ("True", "DetectorsWatching")
    assert "not telling: mute-1: no answer" in message
    replicas.stop()
    assert told(await replicas.look("mute"))[:2] == ("Unknown", "SidecarsSilent")


async def test_a_release_that_one_replica_cannot_do_lets_a_client_go_once(replicas: Replicas) -> None:
    holds = {"anomalies": 3, "seconds": 60, "durationSeconds": 3600}
    apply(replicas.server, policy("holds", quarantine=holds), watched("lame"))
    await replicas.start("lame", count=1)
    replicas.pod("lame", "lame-1", ADDRESSES[1])  # whose sidecar is dead
    assert [replicas.ask("lame", "thief", STRANGE) for _ in range(3)] == [403] * 3
    replicas.annotate("lame", release="user:thief", release_at="2026-01-01T00:00:00Z")
    status = await replicas.look("lame")
    assert "released" not in status["monitoring"]  # not by all
    assert replicas.ask("lame", "thief", ORDINARY) == 502
    assert [replicas.ask("lame", "thief", STRANGE) for _ in range(3)] == [403] * 3
    await replicas.look("lame")
    assert replicas.ask("lame", "thief", ORDINARY) == 403  # held anew, for as long as the policy says
    assert replicas.controller.events("ClientReleased") == []


async def test_a_sidecar_by_another_authority_is_not_believed(replicas: Replicas, tmp_path: Path) -> None:
    apply(replicas.server, watched("posed"))
    await replicas.reconcile("posed")
    replicas.pod("posed", "posed-0", ADDRESSES[0])
    imitation = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    imitation.load_cert_chain(*Authority().issue(tmp_path, x509.DNSName(f"posed.{PLACE}.svc"), name="other"))
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(answer, ADDRESSES[0], replicas.port, ssl=imitation):
        condition, reason, message = told(await replicas.look("posed"))
    assert (condition, reason) == ("Unknown", "SidecarsSilent")
    assert "does not verify" in message
    assert asked == []  # no token goes to a stranger


async def test_an_answer_without_end_or_sense_is_bounded_and_told(replicas: Replicas, tmp_path: Path) -> None:
    apply(replicas.server, watched("talks"))
    await replicas.reconcile("talks")
    replicas.pod("talks", "talks-0", ADDRESSES[0])
    pair = issue(replicas.controller.have().authority, [f"talks.{PLACE}.svc"], replicas.controller.clock())
    (tmp_path / "tls.crt").write_bytes(pair.chain)
    (tmp_path / "tls.key").write_bytes(pair.key)
    genuine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    genuine.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    answers = [b"x" * (5 << 20), b'{"model": "made/other"}', b"[" * 10_000, b""]
    told_of = ("more than 4,194,304 bytes", "no report of this version", "no report of this version", "no answer")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = answers[0]
        with contextlib.suppress(ConnectionError):
            if content:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, ADDRESSES[0], replicas.port, ssl=genuine):
        for why in told_of:
            condition, reason, message = told(await replicas.look("talks"))
            assert (condition, reason) == ("Unknown", "SidecarsSilent")
            assert why in message
            answers.pop(0)


async def test_a_sidecar_that_makes_clients_up_makes_so_many_events(replicas: Replicas, tmp_path: Path) -> None:
    apply(replicas.server, watched("lies"))
    await replicas.reconcile("lies")
    replicas.pod("lies", "lies-0", ADDRESSES[0])
    pair = issue(replicas.controller.have().authority, [f"lies.{PLACE}.svc"], replicas.controller.clock())
    (tmp_path / "tls.crt").write_bytes(pair.chain)
    (tmp_path / "tls.key").write_bytes(pair.key)
    genuine = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    genuine.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    looks = [0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        looks[0] += 1
        moment = f"2026-03-01T11:{looks[0]:02}:00Z"
        incidents = [
            {"client": f"user:{looks[0]}-{number}", "issuer": "i", "network": "10.0.0.0/24", "detector": "Ensemble",
             "action": "blocked", "count": 1, "first": moment, "last": moment, "reference": "r"}
            for number in range(20)
        ]  # fmt: skip
        report = {"model": f"{PLACE}/lies", "baseline": "", "fitted": "", "since": moment, "incidents": incidents,
                  "quarantined": [], "rates": [], "drift": [], "dropped": 0}  # fmt: skip
        content = json.dumps(report).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(content), content))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, ADDRESSES[0], replicas.port, ssl=genuine):
        for _ in range(6):
            await replicas.look("lies")
    assert looks == [6]
    assert len(replicas.controller.events("AnomalyDetected")) == NEW
    (withheld,) = replicas.controller.events("EventsWithheld")
    assert withheld["count"] == 60 - NEW  # the rest is owed, until five minutes later
    assert withheld["involvedObject"]["name"] == "lies"


async def test_sidecars_with_mutual_tls_are_asked_with_a_certificate_that_callers_cannot_have(
    replicas: Replicas,
) -> None:
    callers = Authority()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients", "namespace": PLACE}}
    secret["data"] = {"ca.crt": base64.b64encode(callers.pem.encode()).decode()}
    mutual = {"inTransit": {"mode": "MutualTLS", "clientCASecretName": "clients"}}
    apply(replicas.server, secret, watched("mutual", encryption=mutual))
    await replicas.start("mutual", count=1)
    assert told(await replicas.look("mutual"))[:2] == ("True", "DetectorsWatching")
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
        replicas.ask("mutual", "dr-lee", ORDINARY)
    # A certificate that modelward gives a model to serve with is none to call another with.
    serving = replicas.folder / "mutual"
    context = ssl.create_default_context(cadata=replicas.controller.have().authority.bundle.decode())
    context.load_cert_chain(serving / "tls.crt", serving / "tls.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012, SIM117
        with socket.create_connection((ADDRESSES[0], replicas.port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname=f"mutual.{PLACE}.svc") as stream:
                stream.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n")
                if not stream.recv(100):
                    raise ConnectionError("closed")


def test_the_controller_needs_no_further_right_for_it(place: ApiServer) -> None:  # noqa: F811
    """Pods are listed as before; no Secret is listed, no pod's proxy or log is read."""
    role = place.get("clusterrole", "modelward-controller")
    resources = {resource for rule in role["rules"] for resource in rule.get("resources", ())}
    assert not resources & {"pods/proxy", "pods/log", "pods/exec", "services/proxy", "roles", "rolebindings"}


async def test_what_no_config_map_holds_is_told_before_anything_is_made(replicas: Replicas) -> None:
    full = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "full", "namespace": PLACE}}
    full["binaryData"] = {"baseline.npz": base64.b64encode(bytes(1 << 20)).decode()}
    manifest = watched("full")
    manifest["spec"]["monitoring"]["baseline"] = {"configMapName": "full"}
    apply(replicas.server, full, manifest)
    conditions = await replicas.reconcile("full")
    assert conditions["Ready"] == ("False", "ReferenceUnusable"), conditions
    assert not replicas.server.kubectl("get", "networkpolicy", "full", "-n", PLACE).ok
