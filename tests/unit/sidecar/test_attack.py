"""`modelward attack` against real sidecars over TLS: what a protected model withstands, and what falls without that."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelward.cli.main import cli
from modelward.detect import fitting
from modelward.sidecar.config import Tls
from modelward.sidecar.tls import server_context
from tests.unit.sidecar import harness
from tests.unit.sidecar.harness import Asked, ModelConnection, Running, settings, token
from tests.unit.sidecar.pki import LOCALHOST, Authority

COLUMNS = ("a", "b", "c")
MIDDLE = np.array([0.0, 10.0, -5.0])
OUTPUTS = [
    {"name": "y", "datatype": "INT64", "shape": [-1]},
    {"name": "p", "datatype": "FP64", "shape": [-1, 2]},
]
CALLERS = ("alice", "bob", "carol", "dave", "erin", "frank")
FAMILIES = ("bypass", "input", "backdoor", "evasion", "extraction", "membership")
WATCHED = [{"type": "Mahalanobis"}, {"type": "Extraction"}, {"type": "Membership"}]


def predict(row: list[float]) -> float:
    """The probability of the class 1: on which side of the data's middle a row is."""
    return float(1 / (1 + np.exp(-2 * (np.array(row) - MIDDLE).sum())))


def outputs(body: bytes) -> bytes:
    return _told(predict(np.nan_to_num(np.resize(json.loads(body)["inputs"][0]["data"], 3)).tolist()))


def _told(share: float) -> bytes:
    told = [
        {"name": "y", "datatype": "INT64", "shape": [1], "data": [int(share >= 0.5)]},
        {"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [1 - share, share]},
    ]
    return json.dumps({"model_name": "m", "outputs": told}).encode()


def behaves(connection: ModelConnection, asked: Asked) -> None:
    if asked.method == "GET":
        about = {"name": "m", "inputs": settings()["inputs"], "outputs": OUTPUTS}
        connection.answer(json.dumps(about).encode())
    else:
        connection.answer(outputs(asked.body))


def protected(**changes: Any) -> dict[str, Any]:
    """A configuration that withstands the suite; `changes` replace parts of it."""
    document = settings()
    rule = {
        "subjects": [f"user:{name}" for name in CALLERS],
        "operations": ["Infer", "Metadata"],
        "purposes": ["diagnosis"],
    }
    bounds = {"minimum": -50, "maximum": 50}
    return {
        "access": document["access"] | {"rules": [rule], "purposeHeader": True},
        "inputs": [document["inputs"][0] | bounds],
        "screening": document["screening"] | {"detectors": WATCHED},
    } | changes


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def place(tmp_path: Path, authority: Authority) -> Path:
    """A folder with what an attacker brings: tokens, rows, and the authority that the certificate is checked by."""
    (tmp_path / "ca.crt").write_text(authority.pem)
    for name in (*CALLERS, "mallory"):
        (tmp_path / name).write_text(token(sub=name) + "\n")
    (tmp_path / "purposeless").write_text(token(purpose=None))
    for name, seed in (("data.csv", 5), ("holdout.csv", 6)):
        rows = np.random.default_rng(seed).normal(loc=MIDDLE, size=(150, 3))
        np.savetxt(tmp_path / name, rows, delimiter=",", header=",".join(COLUMNS), comments="")
    return tmp_path


@pytest.fixture
def start(run: Callable[..., Running], authority: Authority, place: Path) -> Callable[..., Running]:
    def started(**changes: Any) -> Running:
        context = server_context(Tls(min_version="1.2"), *authority.issue(place, LOCALHOST))
        running = run(context, **protected(**changes))
        running.model.behaviour = behaves
        return running

    return started


def attack(place: Path, port: int, *more: str, who: tuple[str, ...] = CALLERS) -> Result:
    arguments = ["attack", f"https://localhost:{port}", "--model", "m", "--ca-file", str(place / "ca.crt")]
    for name in who:
        arguments += ["--token-file", str(place / name)]
    arguments += ["--stranger-token-file", str(place / "mallory"), "--data", str(place / "data.csv")]
    arguments += ["--holdout", str(place / "holdout.csv"), "--rate", "2000", "--seconds", "3600", *more]
    return CliRunner().invoke(cli, arguments)


def report(result: Result, code: int) -> dict[str, Any]:
    assert result.exit_code == code, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["outcome"] for one in document["attacks"]}


class Biopsies(NamedTuple):
    """The Wisconsin diagnostic breast-cancer set, a baseline of half of it, and a logistic regression on that half."""

    train: np.ndarray
    others: np.ndarray
    baseline: bytes
    predict: Callable[[np.ndarray], float]


@pytest.fixture(scope="module")
def biopsies() -> Biopsies:
    rows, classes = load_breast_cancer(return_X_y=True)
    train, others = rows[::2], rows[1::2]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train, classes[::2])
    scale, last = model[0], model[-1]
    weights = last.coef_[0] / scale.scale_
    constant = last.intercept_[0] - float(scale.mean_ @ weights)

    def chance(row: np.ndarray) -> float:
        return float(1 / (1 + np.exp(-np.clip(row @ weights + constant, -500, 500))))

    names = [f"c{index}" for index in range(rows.shape[1])]
    return Biopsies(train, others, fitting.fit(train, names, false_positive_rate=0.01).to_bytes(), chance)


def _answers(predict: Callable[[np.ndarray], float]) -> Callable[[ModelConnection, Asked], None]:
    about = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 30]}], "outputs": OUTPUTS}

    def answer(connection: ModelConnection, asked: Asked) -> None:
        row = np.array(json.loads(asked.body)["inputs"][0]["data"]) if asked.body else np.zeros(0)
        connection.answer(_told(predict(row)) if len(row) else json.dumps(about).encode())

    return answer


def test_a_protected_model_withstands_the_suite(
    start: Callable[..., Running], place: Path, biopsies: Biopsies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made-up rows of 30 columns that go together are unlike the data; each attack is noticed before it has enough."""
    monkeypatch.setattr(harness, "fitted", lambda: biopsies.baseline)
    names = [f"c{index}" for index in range(30)]
    for name, rows in (("data.csv", biopsies.train), ("holdout.csv", biopsies.others)):
        np.savetxt(place / name, rows, delimiter=",", header=",".join(names), comments="")
    running = start(
        inputs=[{"name": "x", "datatype": "FP64", "shape": [-1, 30], "columns": names, "minimum": 0, "maximum": 9999}],
        screening={
            "baseline": {"file": "b.npz", "sha256": hashlib.sha256(biopsies.baseline).hexdigest()},
            "detectors": [{"type": "Ensemble"}, {"type": "Extraction"}, {"type": "Membership"}],
            "quarantine": [{"anomalies": 5, "seconds": 300, "durationSeconds": 3600}],
        },
    )
    running.model.behaviour = _answers(biopsies.predict)
    families = [one for family in FAMILIES for one in ("--only", family)]
    more = ("--model-port", "1", "--purpose", "diagnosis", *families)
    result = attack(place, running.port, "-o", "json", *more)
    document = report(result, 0)
    ended = outcomes(document)
    skipped = {id_ for id_, outcome in ended.items() if outcome == "Skipped"}
    assert skipped <= {"input.identifiers", "bypass.purpose", "bypass.old-tls"}
    assert set(ended.values()) == {"Withstood", "Skipped"}
    assert (document["outcome"], document["kind"]) == ("Passed", "SecurityTestReport")
    asked = [one for one in running.model.asked if one.target.endswith("/infer")]
    assert 0 < len(asked) < document["requests"] <= 2000
    assert "sends to" in result.stderr
    for name in ("alice", "mallory"):
        assert (place / name).read_text().strip() not in result.output


WEAKER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("input.out-of-range", {"inputs": None, "screening": {}}),
    ("input.undeclared", {"inputs": None, "screening": {}}),
    ("extraction.synthetic", {"screening": {}}),
    ("extraction.augmented", {"screening": {}}),
)


@pytest.mark.parametrize(("id_", "changes"), WEAKER, ids=[id_ for id_, _ in WEAKER])
def test_what_the_sidecar_is_not_told_to_guard_falls(
    start: Callable[..., Running], place: Path, id_: str, changes: dict[str, Any]
) -> None:
    document = report(attack(place, start(**changes).port, "-o", "json", "--budget", "900", "--only", id_), 1)
    assert outcomes(document) == {id_: "Succeeded"}
    assert document["outcome"] == "Failed"


def test_without_rules_that_say_who_and_for_what_and_how_often(start: Callable[..., Running], place: Path) -> None:
    access = protected()["access"]
    rules = [{"subjects": ["*"], "operations": ["Infer", "Metadata"]}]
    running = start(access=access | {"rules": rules})
    only = ("--only", "bypass.stranger", "--only", "bypass.purpose", "--only", "rate.limit", "--purpose", "diagnosis")
    document = report(attack(place, running.port, "-o", "json", *only, who=("purposeless",)), 1)
    assert set(outcomes(document).values()) == {"Succeeded"}
    # So few an hour that no machine is too slow to reach it.
    rules = [access["rules"][0] | {"rateLimit": {"requests": 60, "seconds": 3600}}]
    guarded = report(
        attack(place, start(access=access | {"rules": rules}).port, "-o", "json", *only, who=("purposeless",)), 0
    )
    assert set(outcomes(guarded).values()) == {"Withstood"}


def test_the_models_own_port_is_tried_where_it_is_named(start: Callable[..., Running], place: Path) -> None:
    running = start()
    only = ("-o", "json", "--only", "bypass.model-port")
    document = report(attack(place, running.port, *only, "--model-port", str(running.model_port)), 1)
    assert outcomes(document) == {"bypass.model-port": "Succeeded"}
    assert outcomes(report(attack(place, running.port, *only), 2)) == {"bypass.model-port": "Skipped"}


class _Naked(BaseHTTPRequestHandler):
    """A model server that nobody protects, and that is as lax as can be."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet

    def do_GET(self) -> None:
        self._answer(200, json.dumps({"inputs": settings()["inputs"], "outputs": OUTPUTS}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"] or 0))
        try:
            self._answer(200, outputs(body) if "infer" in self.path.lower() else b"{}")
        except Exception:  # noqa: BLE001
            self._answer(500, b'Traceback (most recent call last):\n  File "serve.py", line 7\n' + body[:99])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def naked(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """Its port; over TLS, of any version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(tmp_path, LOCALHOST, name="naked"))
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Naked) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # broken handshakes are the attack's
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_model_that_nobody_protects_falls_to_nearly_everything(naked: int, place: Path) -> None:
    families = [one for family in ("bypass", "input", "extraction", "rate") for one in ("--only", family)]
    document = report(attack(place, naked, "-o", "json", "--budget", "900", *families), 1)
    fallen = {one["id"] for one in document["attacks"] if one["outcome"] == "Succeeded"}
    assert fallen >= {
        "bypass.no-token", "bypass.garbage-token", "bypass.alg-none", "bypass.forged-token", "bypass.changed-claims",
        "bypass.stranger", "bypass.spoofed-identity", "bypass.path", "bypass.override", "bypass.undeclared-model",
        "bypass.admin", "bypass.smuggling", "input.undeclared", "input.not-a-number", "input.out-of-range",
        "input.shape", "input.unreadable", "input.deep", "input.oversized", "extraction.synthetic",
        "extraction.augmented", "rate.limit",
    }  # fmt: skip
    old = next(one for one in document["attacks"] if one["id"] == "bypass.old-tls")
    assert old["outcome"] in ("Succeeded", "Skipped")  # not every OpenSSL speaks it
    assert all(one["fix"] for one in document["attacks"] if one["outcome"] == "Succeeded")


def test_a_plain_server_of_another_machine_is_told_of(naked: int, place: Path) -> None:
    """Plain HTTP on this machine's loopback is for tests; elsewhere it is an attack that needs no request."""
    result = CliRunner().invoke(cli, ["attack", f"http://127.0.0.1:{naked}", "--model", "m", "--only", "bypass"])
    assert result.exit_code == 2  # it speaks TLS there


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("https://localhost:1",), "Connection refused"),
        (("https://localhost:1/v2/models/m",), "no path"),
        (("https://user:secret@localhost:1",), "no one's name or password"),
        (("ftp://localhost",), "not https://"),
        (("https://localhost:PORT", "--only", "nonsense"), "--only nonsense"),
        (("https://localhost:PORT",), "--ca-file"),
        (("https://localhost:PORT", "--ca-file", "PLACE/none.crt"), "none.crt"),
        (("https://localhost:PORT", "--ca-file", "PLACE/ca.crt", "--token-file", "PLACE/none"), "No such file"),
        (("https://localhost:PORT", "--ca-file", "PLACE/ca.crt", "--token-file", "PLACE/data.csv"), "holds no token"),
        (("https://localhost:PORT", "--ca-file", "PLACE/ca.crt", "--token-file", "PLACE/bad"), "401"),
        (("https://localhost:PORT", "--ca-file", "PLACE/ca.crt", "--token-file", "PLACE/mallory"), "403"),
        (("https://localhost:PORT", "--ca-file", "PLACE/ca.crt", "--data", "PLACE/none.csv"), "No such file"),
        (("https://127.0.0.1:PORT", "--ca-file", "PLACE/ca.crt"), "--server-name"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    start: Callable[..., Running], place: Path, arguments: tuple[str, ...], told: str
) -> None:
    (place / "bad").write_text("not.a.token")
    port = start().port
    given = [one.replace("PORT", str(port)).replace("PLACE", str(place)) for one in arguments]
    result = CliRunner().invoke(cli, ["attack", *given, "--model", "m"])
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert result.stdout == ""
    assert "secret" not in result.output


def test_the_report_in_every_format(start: Callable[..., Running], place: Path) -> None:
    port = start(screening={}).port
    only = ("--only", "extraction.synthetic", "--only", "bypass.no-token", "--only", "membership")
    written = {}
    for output in ("table", "json", "sarif", "junit", "html"):
        out = place / f"report.{output}"
        result = attack(place, port, "-o", output, "--out", str(out), *only)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert "Failed: " in result.stderr
        written[output] = out.read_text()
    assert "Succeeded (1)" in written["table"]
    assert "Fix: " in written["table"]
    sarif = json.loads(written["sarif"])["runs"][0]
    assert [one["ruleId"] for one in sarif["results"]] == ["extraction.synthetic"]
    assert sarif["results"][0]["level"] == "error"
    assert '<testsuite name="modelward attack baseline" tests="3" failures="1"' in written["junit"]
    assert "<h1>Security test: Failed</h1>" in written["html"]
    assert "script-src &#x27;sha256-" in written["html"]


def test_flags_can_be_given_in_the_environment(start: Callable[..., Running], place: Path) -> None:
    given = {
        "MODELWARD_ATTACK_MODEL": "m",
        "MODELWARD_ATTACK_ONLY": "bypass.no-token",
        "MODELWARD_ATTACK_OUTPUT": "json",
    }
    files = {"MODELWARD_ATTACK_CA_FILE": str(place / "ca.crt"), "MODELWARD_ATTACK_TOKEN_FILES": str(place / "alice")}
    result = CliRunner().invoke(cli, ["attack", f"https://localhost:{start().port}"], env=given | files)
    assert outcomes(report(result, 0)) == {"bypass.no-token": "Withstood"}


def test_a_model_that_speaks_v1(start: Callable[..., Running], place: Path) -> None:
    """Inputs as the manifest says: V1 has no metadata of them."""
    upstream = {"port": 1, "model": "m", "protocol": "v1", "readyPath": "/v1/models/m"}
    running = start(upstream=upstream, screening={})

    def answers(connection: ModelConnection, asked: Asked) -> None:
        instances = json.loads(asked.body)["instances"] if asked.body else []
        connection.answer(json.dumps({"predictions": [int(predict(row) >= 0.5) for row in instances]}).encode())

    running.model.behaviour = answers
    (place / "model.yaml").write_text(json.dumps(_v1_manifest()))
    only = [one for family in ("bypass", "input", "extraction.augmented") for one in ("--only", family)]
    result = attack(place, running.port, "-o", "json", "--budget", "900", "-f", str(place / "model.yaml"), *only)
    ended = outcomes(report(result, 1))
    assert {id_ for id_, outcome in ended.items() if outcome == "Succeeded"} == {"extraction.augmented"}
    assert {ended[id_] for id_ in ("input.shape", "input.not-a-number", "input.out-of-range")} == {"Withstood"}


def _v1_manifest() -> dict[str, Any]:
    inputs = [
        {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": list(COLUMNS), "minimum": -50, "maximum": 50}
    ]
    served = {"image": f"m@sha256:{'0' * 64}", "port": 8080, "protocol": "v1"}
    return {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "m"},
        "spec": {"model": served, "schema": {"inputs": inputs}},
    }
