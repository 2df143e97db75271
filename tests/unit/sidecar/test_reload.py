"""Configuration and certificates that change while requests run; the process as a whole, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.privacy.keys import derive
from modelward.sidecar import sidecar as module
from modelward.sidecar.config import ConfigError, Tls
from modelward.sidecar.setup import SignedFiles
from modelward.sidecar.tls import server_context
from tests.ports import free_port
from tests.unit.sidecar.harness import Client, Model, fitted, infer, jwk, request, settings, token, until
from tests.unit.sidecar.pki import LOCALHOST, Authority


class Mounted:
    """A ConfigMap and a Secret as the kubelet mounts them: swapped as a whole, by a symlink."""

    def __init__(self, folder: Path, signer: Ed25519PrivateKey | None = None) -> None:
        self.folder = folder
        self.signer = signer or Ed25519PrivateKey.generate()
        self.authority = Authority()
        self.versions = 0

    def write(self, document: dict, *, signature: bytes | None = None, authority: Authority | None = None) -> None:
        self.versions += 1
        hidden = self.folder / f"..{self.versions}"
        hidden.mkdir(parents=True)
        content = json.dumps(document).encode()
        (hidden / "config.json").write_bytes(content)
        (hidden / "config.sig").write_bytes(base64.b64encode(signature or self.signer.sign(content)))
        (hidden / "baseline.npz").write_bytes(fitted())
        (authority or self.authority).issue(hidden, LOCALHOST)
        link = self.folder / "..next"
        link.symlink_to(hidden.name)
        link.replace(self.folder / "..data")
        for name in ("config.json", "config.sig", "baseline.npz", "tls.crt", "tls.key"):
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")

    @property
    def key(self) -> bytes:
        return self.signer.public_key().public_bytes_raw()

    def source(self) -> SignedFiles:
        return SignedFiles(self.folder, self.folder, self.key, "clinic", "m")


def changed(running, **changes):
    document = settings(**changes)
    document["upstream"]["port"] = running.model_port
    document["binding"]["generation"] = changes.get("generation", 1)
    document.pop("generation", None)
    return document


def test_the_password_for_shared_limits_is_read_beside_the_certificate_and_noticed_when_it_changes(mounted):
    shared = {"address": "redis://127.0.0.1:1", "model": "clinic/m"}
    mounted.write(settings(access=settings()["access"] | {"sharedLimits": shared}))
    source = mounted.source()
    assert source.load(0).limits_password == ""
    before = source.fingerprint()
    (mounted.folder / "limits-password").write_bytes(b"s3cret-w\xc3\xb6rd\n")
    assert source.fingerprint() != before
    setup = source.load(0)
    assert setup.limits_password == "s3cret-wörd"
    assert "s3cret" not in repr(setup)
    (mounted.folder / "limits-password").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not text"):
        source.load(0)


def test_a_reload_forgets_no_count(running):
    limited = token(sub="limited")
    purposeless = {"bearer": limited}
    assert [running.ask(infer(), **purposeless).status for _ in range(3)] == [200, 200, 429]
    running.source._setup = running.setup(changed(running, generation=2))
    assert running.call(running.sidecar.reload())
    assert running.ask(infer(), **purposeless).status == 429  # the same rule: its window goes on
    rules = settings()["access"]["rules"]
    rules[1]["rateLimit"]["requests"] = 5
    access = settings()["access"] | {"rules": rules}
    running.source._setup = running.setup(changed(running, generation=3, access=access))
    assert running.call(running.sidecar.reload())
    assert running.ask(infer(), **purposeless).status == 200  # another rule: a window of its own


@pytest.fixture
def mounted(tmp_path) -> Mounted:
    return Mounted(tmp_path / "mounted")


@pytest.fixture
def signed(run, mounted):
    """A sidecar in plaintext that takes its configuration from signed files."""
    running = run()
    mounted.write(changed(running))
    source = mounted.source()
    plain = source.load

    def load(generation):
        taken = plain(generation)
        return type(taken)(taken.settings, taken.baseline, None, taken.certificate_expires)

    source.load = load
    running.sidecar._source = source
    return running


NOBODY = settings()["access"] | {"rules": []}


def test_a_new_configuration_holds_for_the_next_request_of_an_open_connection(signed, mounted):
    with signed.client() as client:
        client.send(request(infer()))
        assert client.read().status == 200
        mounted.write(changed(signed, access=NOBODY, generation=2))
        assert signed.call(signed.sidecar.reload()) is True
        client.send(request(infer()))
        assert client.read().status == 403
    assert signed.metric("modelward_configuration_generation") == 2
    assert signed.metric('modelward_configuration_reloads_total{outcome="taken"}') == 1


def test_a_bad_configuration_is_refused_and_the_old_one_kept(signed, mounted):
    good = changed(signed, generation=5)
    mounted.write(good)
    assert signed.call(signed.sidecar.reload()) is True
    evil = changed(signed, access=settings()["access"] | {"rules": [{"subjects": ["*"], "operations": ["Infer"]}]})
    stolen = mounted.signer.sign(b"something else")
    bad = [
        (evil | {"binding": good["binding"]}, stolen),  # not signed by the controller
        (good | {"binding": good["binding"] | {"name": "other"}}, None),
        (good | {"binding": good["binding"] | {"namespace": "other"}}, None),
        (good | {"binding": good["binding"] | {"generation": 4}}, None),  # a replay
        (good | {"unknownField": 1}, None),
        (good | {"screening": good["screening"] | {"baseline": {"file": "baseline.npz", "sha256": "0" * 64}}}, None),
        (good | {"inputs": [good["inputs"][0] | {"columns": ["a", "b", "z"]}]}, None),  # the baseline has another
        (
            good | {"access": good["access"] | {"issuers": [good["access"]["issuers"][0] | {"jwks": {"keys": []}}]}},
            None,
        ),
    ]
    for count, (document, signature) in enumerate(bad, 1):
        mounted.write(document, signature=signature)
        assert signed.call(signed.sidecar.reload()) is False
        assert signed.ask(infer(), bearer=token(sub="mallory")).status == 403
        assert signed.ask(infer()).status == 200
        assert signed.metric('modelward_configuration_reloads_total{outcome="refused"}') == count
    assert signed.metric("modelward_configuration_generation") == 5


def test_rotated_keys_are_taken_and_the_old_ones_forgotten_with_their_tokens(signed, mounted):
    old, new = token(), ec.generate_private_key(ec.SECP256R1())
    assert signed.ask(infer(), bearer=old).status == 200
    issuer = settings()["access"]["issuers"][0] | {"jwks": {"keys": [jwk(new, "k2")]}}
    mounted.write(changed(signed, access=settings()["access"] | {"issuers": [issuer]}))
    assert signed.call(signed.sidecar.reload()) is True
    assert signed.ask(infer(), bearer=old).status == 401  # though it was verified, and has not expired
    assert signed.ask(infer(), bearer=token(new, kid="k2")).status == 200


def test_reloading_under_load_loses_no_request(signed, mounted):
    failures: list[int] = []
    done = threading.Event()
    counts = [0]

    def load():
        with signed.client() as client:
            while not done.is_set():
                client.send(request(infer()))
                status = client.read().status
                counts[0] += 1
                if status != 200:
                    failures.append(status)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for generation in range(2, 12):
        # The limits change too, so that even the connections to the model are made anew.
        limits = settings()["limits"] | {"upstreamSeconds": 10 + generation}
        mounted.write(changed(signed, generation=generation, limits=limits))
        before = counts[0]
        assert signed.call(signed.sidecar.reload()) is True
        until(lambda before=before: counts[0] >= before + 10 or failures)
    done.set()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_the_files_are_watched(run, mounted, monkeypatch):
    monkeypatch.setattr(module, "_WATCH_SECONDS", 0.1)
    running = run()
    mounted.write(changed(running))
    first = mounted.source().fingerprint()
    assert first == mounted.source().fingerprint()
    mounted.write(changed(running, access=NOBODY))
    assert mounted.source().fingerprint() != first
    running.sidecar._source = mounted.source()
    until(lambda: running.metric('modelward_configuration_reloads_total{outcome="taken"}'))
    with running.client(mounted.authority.client_context()) as client:  # the certificate was taken as well
        client.send(request(infer()))
        assert client.read().status == 403


def test_a_rotated_certificate_is_shown_to_new_connections_and_drops_no_old_one(run, tmp_path):
    first, second = Authority("first"), Authority("second")
    running = run(server_context(Tls(), *first.issue(tmp_path, LOCALHOST)))
    with running.client(first.client_context()) as old:
        old.send(request(infer()))
        assert old.read().status == 200
        context = server_context(Tls(), *second.issue(tmp_path, LOCALHOST))
        running.source._setup = running.setup(settings(), context)
        assert running.call(running.sidecar.reload()) is True
        with running.client(second.client_context()) as new:
            new.send(request(infer()))
            assert new.read().status == 200
        old.send(request(infer()))
        assert old.read().status == 200


# --- the process


class Process:
    """`modelward-sidecar` as it runs in a pod."""

    def __init__(
        self,
        mounted: Mounted,
        *,
        name: str = "m",
        namespace: str = "clinic",
        key: bytes | None = None,
        program: tuple[str, ...] = (str(Path(sys.executable).with_name("modelward-sidecar")),),
    ) -> None:
        self.ports = [free_port(), free_port()]
        self.process = subprocess.Popen(
            [
                *program,
                f"--config-dir={mounted.folder}",
                f"--tls-dir={mounted.folder}",
                f"--config-key={base64.b64encode(key or mounted.key).decode()}",
                f"--model={name}",
                "--host=127.0.0.1",
                f"--port={self.ports[0]}",
                f"--monitor-port={self.ports[1]}",
            ],
            env=os.environ | {"MODELWARD_NAMESPACE": namespace},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> float:
        started = time.monotonic()
        while self.process.poll() is None and time.monotonic() < started + 60:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}/readyz", timeout=10):
                    return time.monotonic() - started
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError(self.process.communicate(timeout=5))

    def end(self) -> tuple[str, str]:
        self.process.terminate()
        out, err = self.process.communicate(timeout=60)
        return out, err


@pytest.fixture
def process(run, mounted):
    running = run()  # for its model server
    mounted.write(changed(running, limits={"drainSeconds": 60}))
    started: list[Process] = []

    def start(**options) -> tuple[Process, Model]:
        started.append(Process(mounted, **options))
        return started[-1], running.model

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def test_clients_that_do_nothing_do_not_keep_a_job_from_finishing(process, mounted):
    sidecar, _ = process()
    sidecar.wait_until_ready()
    context = mounted.authority.client_context()
    whole = request(infer())
    with (
        Client(sidecar.ports[0], context) as idle,
        Client(sidecar.ports[0], context) as silent,
        Client(sidecar.ports[0], context) as half_a_head,
        Client(sidecar.ports[0], context) as half_a_body,
        socket.create_connection(("127.0.0.1", sidecar.ports[0])),  # no TLS handshake
        socket.create_connection(("127.0.0.1", sidecar.ports[1])),  # to the metrics
    ):
        idle.send(whole)
        assert idle.read().status == 200
        half_a_head.send(whole[:40])
        half_a_body.send(whole[:-20])
        time.sleep(0.2)
        begun = time.monotonic()
        sidecar.end()
        assert sidecar.process.returncode == 0
        assert time.monotonic() - begun < 30, "it waited for them, as long as it may"
        assert idle.closed()
        assert silent.closed()


def test_sigterm_drains_what_is_under_way_and_exits_0(process, mounted):
    sidecar, model = process()
    sidecar.wait_until_ready()

    go_on = threading.Event()

    def held(connection, asked):
        if go_on.is_set():
            connection.answer(b"{}")
        else:
            asyncio.get_running_loop().call_later(0.02, held, connection, asked)

    model.behaviour = held
    context = mounted.authority.client_context()
    with Client(sidecar.ports[0], context) as busy, Client(sidecar.ports[0], context) as idle:
        busy.send(request(infer()))
        until(lambda: model.asked)
        sidecar.process.send_signal(signal.SIGTERM)
        assert idle.closed()
        with pytest.raises(OSError):  # nobody listens any more
            Client(sidecar.ports[0], context)
        with pytest.raises(urllib.error.HTTPError) as unready:
            urllib.request.urlopen(f"http://127.0.0.1:{sidecar.ports[1]}/readyz", timeout=60)
        unready.value.close()
        go_on.set()
        answer = busy.read()
        assert (answer.status, answer.header["connection"]) == (200, "close")
    out, err = sidecar.process.communicate(timeout=60)
    assert sidecar.process.returncode == 0
    start, line, end = [json.loads(each) for each in out.splitlines()]
    assert (start["start"]["model"], end["end"]) == ("m", {})
    assert line["status"] == 200
    told = [json.loads(each) for each in err.splitlines()]
    warned = [each["message"] for each in told if each["level"] != "info"]
    assert warned == ["the controller did not ask who got these answers"]  # there is none
    assert [each["access-log"] for each in told if "access-log" in each] == [{"sent": 1, "dropped": 0, "failed": 0}]


def test_a_second_signal_does_not_wait(process, mounted):
    sidecar, model = process()
    sidecar.wait_until_ready()
    model.behaviour = lambda connection, asked: None
    with Client(sidecar.ports[0], mounted.authority.client_context()) as busy:
        busy.send(request(infer()))
        until(lambda: model.asked)
        started = time.monotonic()
        sidecar.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        sidecar.process.send_signal(signal.SIGTERM)
        sidecar.process.communicate(timeout=60)
    assert sidecar.process.returncode == 0
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "other"}, "bound to clinic/m"),
        ({"namespace": "elsewhere"}, "bound to clinic/m"),
        ({"key": bytes(32)}, "signature"),
    ],
)
def test_a_configuration_that_is_not_its_own_is_not_served(process, options, message):
    sidecar, _ = process(**options)
    _, err = sidecar.process.communicate(timeout=60)
    assert sidecar.process.returncode == 2
    assert message in err
    assert "Traceback" not in err


TELLS = """
import sys
from modelward.sidecar.main import main
main()
print("loaded", *sys.modules, file=sys.stderr)
"""
OF_ONE_DETECTOR = {
    f"modelward.detect.{name}"
    for name in ("archive", "baseline", "calibration", "clients", "critical", "detectors", "encoder", "encoding",
                 "ensemble", "mahalanobis", "observed", "piecewise", "scorer", "reasons", "summary")
}  # fmt: skip


def test_memory_and_what_is_loaded_stay_small(process, mounted):
    sidecar, _ = process(program=(sys.executable, "-c", TELLS))
    sidecar.wait_until_ready()
    with Client(sidecar.ports[0], mounted.authority.client_context()) as client:
        for _ in range(50):
            client.send(request(infer()))
            assert client.read().status == 200
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident <= 62 * 1024  # 64 MiB are for a million requests
    _, err = sidecar.end()
    loaded = set(err.rpartition("\nloaded ")[2].split())
    assert {name for name in loaded if name.startswith("modelward.detect.")} == OF_ONE_DETECTOR
    others = ("asking", "encrypted", "fetch", "grpc", "otlp", "probes", "remote_keys", "shared_limits", "watch")
    assert not {f"modelward.sidecar.{name}" for name in others} & loaded  # who asks for them loads them
    assert not {"pydantic", "kubernetes", "kopf", "click", "yaml", "cel_expr_python"} & loaded
    assert "numpy.random" not in loaded  # two MiB; detectors are fitted elsewhere


def test_keys_come_with_the_certificate_and_are_those_that_the_configuration_names(mounted):
    keys = derive({1: bytes(32)}, "clinic").to_bytes()
    inputs = [*settings()["inputs"], {"name": "patient", "datatype": "BYTES", "shape": [-1]}]
    digest = hashlib.sha256(keys).hexdigest()
    named = {"keys": {"file": "pseudonym.keys", "sha256": digest}, "fields": {"patient": {"treatment": "Pseudonymise"}}}
    document = settings(inputs=inputs, **named)
    mounted.write(document)
    source = mounted.source()
    with pytest.raises(ConfigError, match=r"cannot read .*pseudonym\.keys"):
        source.load(0)
    before = source.fingerprint()
    (mounted.folder / "pseudonym.keys").write_bytes(keys)
    assert source.fingerprint() != before
    assert source.load(0).keys.versions == (1,)
    (mounted.folder / "pseudonym.keys").write_bytes(derive({1: bytes(range(32))}, "clinic").to_bytes())
    with pytest.raises(ConfigError, match=r"pseudonym\.keys has the digest"):
        source.load(0)
    named["keys"]["sha256"] = hashlib.sha256(b"{}").hexdigest()
    (mounted.folder / "pseudonym.keys").write_bytes(b"{}")
    mounted.write(settings(inputs=inputs, **named))
    with pytest.raises(ConfigError, match="not one that the modelward controller wrote"):
        source.load(0)
