"""What changes or ends while requests come without a pause: certificates, keys, configuration, the process itself."""

from __future__ import annotations

import resource
import signal
import ssl
import sys
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from modelward.sidecar.config import Tls
from modelward.sidecar.tls import server_context
from tests.bench.load import memory_mib
from tests.unit.sidecar.harness import Client, infer, jwk, request, settings, token, until
from tests.unit.sidecar.pki import LOCALHOST, Authority
from tests.unit.sidecar.test_reload import changed, mounted, process, signed  # noqa: F401 - fixtures


class Load:
    """Clients that ask again as soon as they are answered, on connections that they keep or make anew."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, *, threads: int = 4, every: int = 0) -> None:
        self._port = port
        self.context = context
        self.bearer = token()
        self._every = every  # requests on one connection; 0: as many as it takes
        self.answered = 0
        self.failed: list[str] = []
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                client = Client(self._port, self.context)
            except ConnectionError:  # nobody listens any more: no request was sent
                return
            with client:
                self._ask(client)

    def _ask(self, client: Client) -> None:
        count = 0
        while not self._done.is_set():
            try:
                client.send(request(infer(), bearer=self.bearer))
                answer = client.read()
            except (AssertionError, OSError) as error:
                self.failed.append(f"{type(error).__name__} {error}")
                return
            if answer.status != 200:
                self.failed.append(str(answer.status))
                return
            self.answered += 1
            count += 1
            if answer.header.get("connection") == "close" or count == self._every:
                return

    def wait_for(self, answers: int) -> None:
        wanted = self.answered + answers
        until(lambda: self.answered >= wanted or self.failed)

    def end(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)


@pytest.mark.parametrize("every", [0, 3], ids=["kept connections", "new connections"])
def test_certificates_rotated_under_load_fail_no_request(run, tmp_path, every):
    authority = Authority()
    running = run(server_context(Tls(), *authority.issue(tmp_path, LOCALHOST)))
    load = Load(running.port, authority.client_context(), every=every)
    for _ in range(6):
        load.wait_for(20)
        running.source._setup = running.setup(settings(), server_context(Tls(), *authority.issue(tmp_path, LOCALHOST)))
        assert running.call(running.sidecar.reload()) is True
    load.wait_for(20)
    load.end()
    assert load.failed == []


def test_keys_rotated_under_load_fail_no_request(signed, mounted):  # noqa: F811
    """An issuer publishes its new key beside the old one, signs with it, and withdraws the old one."""
    access = settings()["access"]
    new = ec.generate_private_key(ec.SECP256R1())
    (old,) = access["issuers"][0]["jwks"]["keys"]
    load = Load(signed.port)
    for generation, keys in enumerate(([old], [old, jwk(new, "k2")], [jwk(new, "k2")]), 2):
        if keys[0] is not old:
            load.bearer = token(new, kid="k2")
            load.wait_for(40)  # every client has taken the new token
        issuer = access["issuers"][0] | {"jwks": {"keys": keys}}
        mounted.write(changed(signed, access=access | {"issuers": [issuer]}, generation=generation))
        assert signed.call(signed.sidecar.reload()) is True
        load.wait_for(20)
    load.end()
    assert load.failed == []
    assert signed.ask(infer()).status == 401  # the old key is forgotten


def test_a_bad_configuration_under_load_fails_no_request(signed, mounted):  # noqa: F811
    load = Load(signed.port)
    for _ in range(5):
        mounted.write(changed(signed), signature=mounted.signer.sign(b"something else"))
        assert signed.call(signed.sidecar.reload()) is False
        load.wait_for(20)
    load.end()
    assert load.failed == []
    assert signed.metric('modelward_configuration_reloads_total{outcome="refused"}') == 5


@pytest.mark.parametrize("every", [0, 3], ids=["kept connections", "new connections"])
def test_sigterm_under_load_fails_no_request(process, mounted, every):  # noqa: F811
    sidecar, _ = process()
    sidecar.wait_until_ready()
    load = Load(sidecar.ports[0], mounted.authority.client_context(), every=every)
    load.wait_for(100)
    begun = time.monotonic()
    sidecar.process.send_signal(signal.SIGTERM)
    sidecar.process.communicate(timeout=60)
    taken = time.monotonic() - begun
    load.end()
    assert sidecar.process.returncode == 0
    assert load.failed == []
    assert taken < 30, "it waited as long as it may for what is under way"


_PLAINTEXT = """
import dataclasses, sys
from modelward.sidecar import main, setup
load = setup.SignedFiles.load
setup.SignedFiles.load = lambda *given: dataclasses.replace(load(*given), context=None)
main.main(sys.argv[1:])
"""
IDLE = 10_000


def test_ten_thousand_idle_connections(process, capsys):  # noqa: F811
    """Each has been answered, is kept, and asks no more; in plaintext: what TLS costs beside is OpenSSL's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 500:
        pytest.fail(f"{hard} open files are allowed and {IDLE + 500} are needed: raise the limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sidecar, _ = process(program=(sys.executable, "-c", _PLAINTEXT))
    sidecar.wait_until_ready()
    before = memory_mib(sidecar.process.pid)
    whole = request(infer())
    clients = []
    try:
        for _ in range(IDLE):
            clients.append(Client(sidecar.ports[0]))
            clients[-1].send(whole)
            if len(clients) >= 100:  # some are under way at a time
                assert clients[-100].read().status == 200
        for client in clients[-99:]:
            assert client.read().status == 200
        after = memory_mib(sidecar.process.pid)
        with Client(sidecar.ports[0]) as one_more:
            begun = time.monotonic()
            one_more.send(whole)
            assert one_more.read().status == 200
            taken = time.monotonic() - begun
    finally:
        for client in clients:
            client.socket.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with capsys.disabled():
        print(
            f"\n{IDLE} idle connections: RSS {before:.0f} MiB before, {after:.0f} MiB with them,"
            f" {(after - before) * 1024 / IDLE:.1f} KiB each; one more is answered in {taken * 1000:.0f} ms"
        )
    assert after - before < 120
