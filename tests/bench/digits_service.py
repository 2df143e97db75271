"""A classifier of scikit-learn's digits as a service: asked in the process, or through the real sidecar over TLS.

Either way it answers one row with the probabilities of ten classes and tells which detectors found something.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import httptools
import jwt
import numpy as np
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from modelward.controller import certificates
from modelward.detect import fitting
from modelward.detect.baseline import from_bytes
from modelward.detect.clients import Caller
from modelward.detect.extraction import Extraction
from modelward.detect.membership import Membership
from modelward.detect.space import Space
from tests.bench.load import wait_until_ready
from tests.bench.sidecar import started
from tests.ports import free_port

WIDTH, WHITE = 64, 16.0
ISSUERS = ("clinic", "partner", "lab", "agency")
DETECTORS = ("Extraction", "Membership")


class Digits(NamedTuple):
    """Rows of scikit-learn's digits: the owner's, a thief's, honest callers', and those that a copy is judged by."""

    train: np.ndarray
    labels: np.ndarray
    pool: np.ndarray
    honest: np.ndarray
    honest_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @classmethod
    def split(cls) -> Digits:
        rows, labels = load_digits(return_X_y=True)
        order = np.random.default_rng(0).permutation(len(rows))
        rows, labels = rows[order], labels[order]
        return cls(
            rows[:700], labels[:700], rows[700:1100], rows[1100:1500], labels[1100:1500], rows[1500:], labels[1500:]
        )

    def model(self) -> MLPClassifier:
        """The owner's model; the same each time."""
        return MLPClassifier((64, 64), max_iter=300, random_state=0).fit(self.train / WHITE, self.labels)


class Told(NamedTuple):
    """An answer, None where it was refused, and what found the request strange."""

    answer: np.ndarray | None
    found: frozenset[str]


class Service(Protocol):
    """What a thief or an honest caller talks to."""

    def ask(self, caller: Caller, row: np.ndarray) -> Told: ...


class InProcess:
    """The model and the detectors, with nothing between."""

    def __init__(self, model: MLPClassifier, baseline: bytes) -> None:
        fitted = from_bytes(baseline)
        space = Space.of(fitted.summary, fitted.encoding.features)
        self.extraction, self.membership = Extraction(space), Membership(space)
        self._model = model

    def ask(self, caller: Caller, row: np.ndarray) -> Told:
        found = {f"{each.test} ({each.scope})" for each in self.extraction.add(caller, row[np.newaxis], 0.0)}
        if self.membership.add(caller, row[np.newaxis], 0.0):
            found.add("membership (client)")
        return Told(self._model.predict_proba(row[np.newaxis] / WHITE)[0], frozenset(found))


@dataclass
class Compared:
    """Of how many requests the sidecar and the detectors alone said the same."""

    rows: int = 0
    same: int = 0


class Both:
    """The sidecar, and the detectors beside it, which tell the tests of what the sidecar flags."""

    def __init__(self, sidecar: ThroughSidecar, alone: InProcess, compared: Compared) -> None:
        self._sidecar, self._alone, self._compared = sidecar, alone, compared

    def ask(self, caller: Caller, row: np.ndarray) -> Told:
        told, alone = self._sidecar.ask(caller, row), self._alone.ask(caller, row)
        self._compared.rows += 1
        self._compared.same += bool(told.found) == bool(alone.found)
        return Told(told.answer, told.found and (alone.found or told.found))


class ThroughSidecar:
    """The sidecar's own process with a model server behind it; each network is an address of the loopback's."""

    def __init__(self, port: int, authority: Path, key: ec.EllipticCurvePrivateKey) -> None:
        self._port, self._key = port, key
        self._context = ssl.create_default_context(cafile=authority)
        self._connections: dict[str, http.client.HTTPSConnection] = {}
        self._tokens: dict[Caller, str] = {}

    def ask(self, caller: Caller, row: np.ndarray) -> Told:
        address = caller.network.removesuffix(".0/24") + ".1"
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = http.client.HTTPSConnection(
                "localhost", self._port, timeout=30, context=self._context, source_address=(address, 0)
            )
        if caller not in self._tokens:
            claims = {"iss": f"https://{caller.issuer}", "aud": "m", "sub": caller.client, "exp": time.time() + 36000}
            self._tokens[caller] = jwt.encode(claims, self._key, "ES256", headers={"kid": "k"})
        body = {"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP64", "data": row.tolist()}]}
        header = {"content-type": "application/json", "authorization": f"Bearer {self._tokens[caller]}"}
        connection.request("POST", "/v2/models/m/infer", json.dumps(body), header)
        response = connection.getresponse()
        content = response.read()
        verdict = response.getheader("x-modelward-verdict")
        if response.status != 200:
            raise RuntimeError(f"the sidecar answered {response.status}: {content[:300]!r}")
        (output,) = json.loads(content)["outputs"]
        return Told(np.array(output["data"]), frozenset({verdict} if verdict else ()))

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def baseline(digits: Digits) -> bytes:
    """Fitted on the owner's rows."""
    return fitting.fit(digits.train, [f"x{at}" for at in range(WIDTH)], detectors=["Mahalanobis"]).to_bytes()


@contextlib.contextmanager
def model_server() -> Iterator[int]:
    """The owner's model in a process of its own, by the Open Inference Protocol."""
    port = free_port()
    with started([sys.executable, "-m", "tests.bench.digits_service", "--serve-model", str(port)]) as process:
        for _ in range(300):  # it is trained first
            if process.poll() is not None:
                raise RuntimeError(f"the model ended: {(process.stderr.read() if process.stderr else b'')[-2000:]!r}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.2)
        yield port


@contextlib.contextmanager
def behind_sidecar(content: bytes, model_port: int) -> Iterator[ThroughSidecar]:
    """A sidecar that has just been started, and flags."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = ec.generate_private_key(ec.SECP256R1())
        arguments = _files(folder, content, model_port, key)
        port, monitor = free_port(), free_port()
        listening = [f"--port={port}", f"--monitor-port={monitor}"]
        command = [sys.executable, "-m", "modelward.sidecar.main", *arguments, *listening]
        with started(command, MODELWARD_NAMESPACE="bench"):
            wait_until_ready(monitor)
            with contextlib.closing(ThroughSidecar(port, folder / "ca.crt", key)) as service:
                yield service


def _files(folder: Path, content: bytes, model_port: int, key: ec.EllipticCurvePrivateKey) -> list[str]:
    signer = ed25519.Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": "k"}
    document = json.dumps(
        {
            "binding": {"namespace": "bench", "name": "m", "generation": 1},
            "upstream": {"port": model_port, "model": "m", "protocol": "v2", "readyPath": "/v2/health/ready"},
            "access": {
                "issuers": [
                    {"name": each, "issuer": f"https://{each}", "audiences": ["m"], "jwks": {"keys": [public]}}
                    for each in ISSUERS
                ],
                "rules": [{"subjects": ["*"], "operations": ["Infer"]}],
            },
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [-1, WIDTH],
                    "columns": [f"x{at}" for at in range(WIDTH)],
                    "minimum": 0,
                    "maximum": WHITE,
                }
            ],
            "screening": {
                "baseline": {"file": "baseline.npz", "sha256": hashlib.sha256(content).hexdigest()},
                "detectors": [{"type": each} for each in DETECTORS],
                "onAnomaly": "Flag",
            },
        }
    ).encode()
    authority = certificates.new_authority(datetime.now(UTC))
    pair = certificates.issue(authority, ["localhost"], datetime.now(UTC))
    (folder / "ca.crt").write_bytes(authority.bundle)
    for part, files in {
        "config": {
            "config.json": document,
            "config.sig": base64.b64encode(signer.sign(document)),
            "baseline.npz": content,
        },
        "tls": {"tls.crt": pair.chain, "tls.key": pair.key},
    }.items():
        (folder / part).mkdir()
        for name, text in files.items():
            (folder / part / name).write_bytes(text)
    public_key = base64.b64encode(signer.public_key().public_bytes_raw()).decode()
    return [
        f"--config-dir={folder / 'config'}",
        f"--tls-dir={folder / 'tls'}",
        f"--config-key={public_key}",
        "--model=m",
        "--host=127.0.0.1",
    ]


class _Connection(asyncio.Protocol):
    """One connection to the model server."""

    def __init__(self, model: MLPClassifier) -> None:
        self._model, self._parser, self._body = model, httptools.HttpRequestParser(self), b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._parser.feed_data(data)

    def on_body(self, body):
        self._body += body

    def on_message_complete(self):
        answer, body, self._body = b"{}", self._body, b""
        if body:
            (tensor,) = json.loads(body)["inputs"]
            rows = np.array(tensor["data"], dtype=np.float64).reshape(-1, WIDTH)
            told = self._model.predict_proba(rows / WHITE)
            output = {"name": "proba", "datatype": "FP64", "shape": list(told.shape), "data": told.ravel().tolist()}
            answer = json.dumps({"model_name": "m", "outputs": [output]}).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
        self._transport.write(head + answer)


async def _serve(port: int) -> None:
    model = Digits.split().model()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(model), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve-model", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().serve_model))
