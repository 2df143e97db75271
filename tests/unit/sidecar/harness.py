"""A sidecar over real sockets, on an event loop of its own in a thread, with a real model server behind it.

The tests are plain clients: they speak through blocking sockets, byte for byte where it matters.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self
from unittest import mock

import httptools
import jwt
import numpy as np
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from modelward import incidents
from modelward.detect import fitting
from modelward.sidecar import config, sidecar
from modelward.sidecar.setup import Given, Setup
from modelward.sidecar.sidecar import Address, Sidecar

COLUMNS = 3
ANSWER = {"model_name": "m", "outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [1]}]}
ISSUER, AUDIENCE = "https://issuer.example", "m"
KEY = ec.generate_private_key(ec.SECP256R1())
CONTROLLER = ed25519.Ed25519PrivateKey.generate()


def jwk(key: ec.EllipticCurvePrivateKey, kid: str = "k1") -> dict[str, Any]:
    return json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid}


def token(key: Any = KEY, *, kid: str | None = "k1", algorithm: str = "ES256", **claims: Any) -> str:
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": time.time() + 600,
        "purpose": "diagnosis",
    } | claims
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"kid": kid} if kid else {})


@cache
def fitted() -> bytes:
    """A baseline of three columns around (0, 10, -5), deviations 1."""
    rows = np.random.default_rng(7).normal(loc=[0, 10, -5], size=(400, COLUMNS))
    return fitting.fit(rows, ["a", "b", "c"], false_positive_rate=0.01).to_bytes()


WEIGHTS = json.dumps({"coef": [1.5, -0.25, 0.5], "intercept": 0.75}).encode()
NORMAL = [0.1, 10.2, -5.3]
STRANGE = [0.1, 99.0, -5.3]


def settings(**changes: Any) -> dict[str, Any]:
    """A configuration with everything on; `changes` replace parts of it."""
    document = {
        "binding": {"namespace": "clinic", "name": "m", "generation": 1},
        "upstream": {"port": 1, "model": "m", "protocol": "v2", "readyPath": "/v2/models/m/ready"},
        "access": {
            "issuers": [{"name": "issuer", "issuer": ISSUER, "audiences": [AUDIENCE], "jwks": {"keys": [jwk(KEY)]}}],
            "rules": [
                {"subjects": ["user:alice"], "operations": ["Infer", "Metadata"], "purposes": ["diagnosis"]},
                {"subjects": ["user:limited"], "operations": ["Infer"], "rateLimit": {"requests": 2, "seconds": 60}},
            ],
        },
        "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, COLUMNS], "columns": ["a", "b", "c"]}],
        "screening": {
            "baseline": {"file": "baseline.npz", "sha256": hashlib.sha256(fitted()).hexdigest()},
            "detectors": [{"type": "Mahalanobis"}],
        },
        "limits": {"drainSeconds": 5},
    }
    document |= changes
    document["limits"] = {
        "connectSeconds": 30,
        **document["limits"],
    }  # while the machine is busy with others, both wait
    return document


@dataclass
class Asked:
    """A request as the model server got it."""

    method: str
    target: str
    header: dict[str, str]
    body: bytes


Behaviour = Callable[["ModelConnection", Asked], None]


class ModelConnection(asyncio.Protocol):
    """A model server's connection; answers as the model's behaviour says."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parser = httptools.HttpRequestParser(self)
        self.header: dict[str, str] = {}
        self.parts: list[bytes] = []

    def connection_made(self, transport):
        self.transport = transport
        self.model.connections.append(self)
        self.model.opened += 1

    def connection_lost(self, exc):
        self.model.connections.remove(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.target = url.decode()

    def on_header(self, name, value):
        self.header[name.decode()] = value.decode()

    def on_body(self, body):
        self.parts.append(body)

    def on_message_complete(self):
        asked = Asked(self.parser.get_method().decode(), self.target, self.header, b"".join(self.parts))
        self.header, self.parts = {}, []
        if asked.target.endswith("/ready") and not self.model.unready:
            self.answer(b"", status=b"200 OK")
            return
        self.model.asked.append(asked)
        self.model.behaviour(self, asked)

    def answer(self, body: bytes, *, status: bytes = b"200 OK", header: bytes = b"") -> None:
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b"
            % (status, header, len(body), body)
        )


def answers(connection: ModelConnection, _: Asked) -> None:
    connection.answer(json.dumps(ANSWER).encode())


class Model:
    """The model server: what it was asked, and how it behaves."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections: list[ModelConnection] = []
        self.opened = 0
        self.behaviour: Behaviour = answers
        self.unready = False


@dataclass
class Answer:
    status: int
    header: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        assert self.header["content-type"] == "application/problem+json"
        document = self.json
        assert document["status"] == self.status
        assert document["instance"] == self.header["x-modelward-request-id"]
        return document["type"].removeprefix("https://modelward.io/problems/")


class Client:
    """A blocking connection that sends bytes as they are and reads answers one by one."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, timeout: float = 60) -> None:
        raw = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket = context.wrap_socket(raw, server_hostname="localhost") if context else raw
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _until(self, length: int) -> bytes:
        while len(self.buffer) < length:
            assert self._more(), f"closed after {self.buffer!r}"
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def read(self, *, head: bool = False) -> Answer:
        interim = []
        while True:
            while b"\r\n\r\n" not in self.buffer:
                assert self._more(), f"closed after {self.buffer!r}"
            text, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            first, *lines = text.decode("latin-1").split("\r\n")
            version, status = first.split(" ")[:2]
            assert version == "HTTP/1.1"
            if status != "100":
                break
            interim.append(100)
        header = dict(line.split(": ", 1) for line in lines)
        body = b"" if head else self._until(int(header["content-length"]))
        return Answer(int(status), header, body, interim)

    def closed(self) -> bool:
        """Wait for the other side to close; whether it did so without another byte."""
        try:
            return not self.buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def request(
    body: Any = None,
    *,
    method: str = "POST",
    target: str = "/v2/models/m/infer",
    bearer: str | None = "",
    header: dict[str, str] | None = None,
) -> bytes:
    """A request as bytes; `bearer` empty: a good token, None: none."""
    lines = {"host": "localhost"}
    if bearer is not None:
        lines["authorization"] = f"Bearer {bearer or token()}"
    payload = b""
    if body is not None:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines |= {"content-type": "application/json", "content-length": str(len(payload))}
    lines |= header or {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + payload


def infer(data: Any = NORMAL, **changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, COLUMNS], "datatype": "FP64", "data": data} | changes]}


def until(holds: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something, as long as the busiest machine may take: what never comes fails the test all the same."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.02)


class Running:
    """A sidecar that runs, and what a test needs of it."""

    def __init__(self, document: dict[str, Any], folder: Path, context: ssl.SSLContext | None = None) -> None:
        self._folder = folder
        self._context = context
        self.model = Model()
        self._thread = threading.Thread(target=self._run, name="sidecar", daemon=True)
        self._loop = uvloop.new_event_loop()
        self._thread.start()
        self.log_path = folder / "access.log"
        self._log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.call(self._start_model())
        self.source = Given(self.setup(document))
        self.sidecar = self.call(self._start(self.source))

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, Any], timeout: float = 60) -> Any:
        """Run a coroutine on the sidecar's loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def setup(self, document: dict[str, Any], context: ssl.SSLContext | None = None) -> Setup:
        document = json.loads(json.dumps(document))
        document["upstream"]["port"] = self.model_port
        parsed = config.parse(json.dumps(document).encode())
        content = fitted() if parsed.screening.baseline else None
        return Setup(
            parsed,
            content,
            context or self._context,
            None,
            controller=CONTROLLER.public_key().public_bytes_raw(),
            weights=WEIGHTS if parsed.in_use else None,
            explained_weights=WEIGHTS if parsed.explanations else None,
        )

    async def _start_model(self) -> None:
        self._model_server = await self._loop.create_server(lambda: ModelConnection(self.model), "127.0.0.1", 0)
        self.model_port = self._model_server.sockets[0].getsockname()[1]

    async def _start(self, source: Given) -> Sidecar:
        anywhere = Address("127.0.0.1", 0)
        sidecar = Sidecar(source, anywhere, anywhere, self._log, grpc=anywhere)
        await sidecar.start()
        return sidecar

    @property
    def port(self) -> int:
        return self.sidecar.listener.port

    def client(self, context: ssl.SSLContext | None = None, timeout: float = 60) -> Client:
        return Client(self.port, context, timeout)

    def ask(self, body: Any = None, **changes: Any) -> Answer:
        """One request on a connection of its own."""
        with self.client() as client:
            client.send(request(body, **changes))
            return client.read(head=changes.get("method") == "HEAD")

    def order(self, path: str = incidents.INCIDENTS, body: Any = None, **changes: Any) -> Answer:
        """One request of the controller's; `changes` are of its token (`sign`, and what was `signed`, too)."""
        method = "GET" if body is None else "POST"
        content = b"" if body is None else json.dumps(body).encode()
        sign, signed = changes.pop("sign", CONTROLLER.sign), changes.pop("signed", content)
        claims = {"model": "clinic/m", "method": method, "path": path, "now": time.time()} | changes
        bearer = incidents.token(sign, **claims, body=signed)
        return self.ask(content or None, method=method, target=path, bearer=bearer)

    def monitor(self, target: str) -> Answer:
        with Client(self.sidecar.monitor.port) as client:
            client.send(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            return client.read()

    def metric(self, line: str) -> float:
        """The value of the series that `line` names, labels included."""
        for each in self.monitor("/metrics").body.decode().splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        raise AssertionError(f"no series {line}")

    def log(self, lines: int = 0) -> list[dict[str, Any]]:
        """The records of the access log, once it has at least so many."""
        until(lambda: len(self._records()) >= lines)
        return self._records()

    def _records(self) -> list[dict[str, Any]]:
        whole, _, _ = self.log_path.read_text().rpartition("\n")
        return [record for record in map(json.loads, whole.splitlines()) if "request" in record]

    def close_model(self) -> None:
        """The model server goes away."""

        async def close() -> None:
            self._model_server.close()
            await asyncio.sleep(0.05)  # it closes in the loop's next turns, and may accept until then
            for connection in list(self.model.connections):
                connection.transport.abort()

        self.call(close())

    def stop(self) -> None:
        try:
            # At a test's end nobody is at the handshake; tests of the end itself stop the sidecar themselves.
            with mock.patch.object(sidecar, "_LAST_SECONDS", 0.0):
                self.call(self.sidecar.stop())
        finally:
            self.close_model()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            os.close(self._log)


@contextmanager
def several(folder: Path, make: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """What starts sidecars, each with a folder of its own, and stops them all: `make(folder, ...)` makes one."""
    started: list[Running] = []

    def start(*args: Any, **changes: Any) -> Any:
        own = folder / str(len(started))
        own.mkdir()
        started.append(make(own, *args, **changes))
        return started[-1]

    yield start
    for running in started:
        running.stop()
