"""The Job that attacks a model, against a sidecar over a real socket; its handover with a client of ours.

With a real controller: `integration/test_security_tests.py`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward import incidents, securitytest
from modelward.attack import report as reports
from modelward.attack.report import SecurityTestReport
from modelward.cli import security_test_job
from modelward.cli.security_test_job import SecurityTestJobError
from modelward.errand import DIGEST_HEADER
from modelward.securitytest import CALLERS, PATH, SUBJECT, Errand, Request
from modelward.sidecar.config import Tls
from modelward.sidecar.tls import server_context
from tests.unit.sidecar.harness import CONTROLLER, settings
from tests.unit.sidecar.pki import LOCALHOST, Authority

REQUEST = Request("clinic/m", "uid", "baseline", "a" * 64, "b" * 64, "first")
MANIFEST = {
    "apiVersion": "modelward.io/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "m", "namespace": "clinic"},
    "spec": {
        "model": {"image": "m@sha256:" + "c" * 64},
        "schema": {"inputs": settings()["inputs"]},
        "access": {"rules": [{"subjects": ["user:alice"]}]},
    },
}


def errand(url: str, authorities: str, **changes: Any) -> Errand:
    tokens = [securitytest.token(CONTROLLER.sign, REQUEST, n, "127.0.0.1", time.time()) for n in range(CALLERS + 1)]
    return msgspec.structs.replace(Errand(REQUEST, url, authorities, tuple(tokens[1:]), tokens[0], MANIFEST), **changes)


def attacked(run: Any, tmp_path: Path, authority: Authority, **changes: Any) -> SecurityTestReport:
    access = settings()["access"]
    access["rules"].append({"subjects": [SUBJECT], "operations": ["Infer", "Metadata"]})
    made = run(server_context(Tls(), *authority.issue(tmp_path, LOCALHOST)), access=access, **changes)
    return reports.read(security_test_job.attack(errand(f"https://localhost:{made.port}", authority.pem), tmp_path))


def test_a_model_behind_its_sidecar_is_attacked_as_the_callers_that_were_brought(
    run: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODELWARD_ATTACK_BUDGET", "400")
    monkeypatch.setenv("MODELWARD_ATTACK_RATE", "1000")
    report = attacked(run, tmp_path, Authority())
    assert report.suite == "baseline"
    found = {attack.id: attack.outcome for attack in report.attacks}
    assert found, report.note
    assert report.outcome in ("Passed", "Failed"), report.note
    assert {found[name] for name in found if name.startswith("bypass.")} <= {"Withstood", "Skipped"}, report


def test_why_there_is_no_report_is_said_in_the_words_of_the_attack(run: Any, tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority("a stranger")
    made = run(server_context(Tls(), *authority.issue(tmp_path, LOCALHOST)))
    with pytest.raises(SecurityTestJobError, match="does not verify"):
        security_test_job.attack(errand(f"https://localhost:{made.port}", stranger.pem), tmp_path)


# --- how it is asked


class Job:
    """The Job's program in a thread, and the controller that asks it."""

    def __init__(self, folder: Path, name: str = "clinic/m") -> None:
        self.key = Ed25519PrivateKey.generate()
        self.authority = Authority()
        certificate, key = self.authority.issue(folder, LOCALHOST)
        certificate.rename(folder / "tls.crt")
        key.rename(folder / "tls.key")
        self.failure: list[str] = []
        self.listens = threading.Event()
        public = base64.b64encode(self.key.public_key().public_bytes_raw()).decode()
        options = argparse.Namespace(tls=folder, config_key=public, model=name, port=0)
        self.thread = threading.Thread(target=self._run, args=(options,), daemon=True)
        self.thread.start()
        assert self.listens.wait(20)

    def _run(self, options: argparse.Namespace) -> None:
        def ready(port: int) -> None:
            self.port = port
            self.listens.set()

        try:
            security_test_job.run(options, ready)
        except SecurityTestJobError as error:
            self.failure.append(str(error))

    def ask(self, method: str, body: bytes = b"", path: str = PATH, **changes: Any) -> tuple[int, bytes, str]:
        sign, signed = changes.pop("sign", self.key.sign), changes.pop("signed", body)
        claims = {"model": "clinic/m", "method": method, "path": path, "now": time.time()} | changes
        bearer = incidents.token(sign, **claims, body=signed)
        context = ssl.create_default_context(cadata=self.authority.pem)
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=context)
        try:
            connection.request(method, path, body or None, {"authorization": f"Bearer {bearer}"})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader(DIGEST_HEADER, "")
        finally:
            connection.close()


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(security_test_job, "MAX_ERRAND_BYTES", 20_000)
    monkeypatch.setattr(security_test_job, "attack", lambda errand, _: errand.request.suite.encode())
    return Job(tmp_path)


def test_it_is_told_once_what_to_do_and_gives_the_report_until_it_is_kept(job: Job) -> None:
    assert job.ask("GET")[0] == 404
    body = msgspec.json.encode(errand("https://m", ""))
    assert job.ask("POST", body)[0] == 202
    other = msgspec.json.encode(errand("https://other", "", request=msgspec.structs.replace(REQUEST, suite="other")))
    assert job.ask("POST", other)[0] == 202
    deadline = time.monotonic() + 20
    while (answer := job.ask("GET"))[0] == 202:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer == (200, b"baseline", REQUEST.digest)
    assert job.ask("DELETE")[0] == 204
    job.thread.join(20)
    assert not job.thread.is_alive()
    assert job.failure == []


def test_nobody_but_the_controller_brings_or_takes_anything(job: Job) -> None:
    body = msgspec.json.encode(errand("https://m", ""))
    for changes in (
        {"sign": Ed25519PrivateKey.generate().sign},
        {"model": "clinic/other"},
        {"now": time.time() - 120},
        {"signed": b"another"},
    ):
        assert job.ask("POST", body, **changes)[0] == 401, changes
    assert job.ask("GET")[0] == 404, "nothing was taken"
    assert job.ask("GET", path="/.modelward/baseline")[0] == 404
    with contextlib.suppress(OSError):  # it may end before all was sent: what is too large is not read
        assert job.ask("POST", b"x" * 20_001)[0] == 413
    assert job.ask("GET")[0] == 404


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{}", "not an errand of this version"),
        (msgspec.json.encode(errand("u", "", request=msgspec.structs.replace(REQUEST, model="x/y"))), "another model"),
    ],
)
def test_an_errand_that_is_none_ends_it_with_the_reason(job: Job, body: bytes, why: str) -> None:
    assert job.ask("POST", body)[0] == 202
    job.thread.join(20)
    assert why in job.failure[0]
