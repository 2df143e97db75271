"""What the benchmarks of the data plane share: a model server of no cost, clients, and the kernel's own accounts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httptools
import jwt
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from modelward.controller import certificates
from modelward.detect import fitting

ROWS, COLUMNS = 1000, 30
ANSWER = b'{"model_name":"m","outputs":[{"name":"predict","shape":[1,1],"datatype":"INT64","data":[1]}]}'
# A program: `modelward-sidecar` without TLS, for which it has no option.
PLAINTEXT = """
import sys
from dataclasses import replace
from modelward.sidecar import main, setup
files = setup.SignedFiles.load
setup.SignedFiles.load = lambda self, generation: replace(files(self, generation), context=None, grpc_context=None)
main.main(sys.argv[1:])
"""


class _Model(asyncio.Protocol):
    """Answers every request alike."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        self.transport.write(self.answer)


async def serve_model(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Model, "127.0.0.1", port)
    await server.serve_forever()


class _Client(asyncio.Protocol):
    """Sends the next request as soon as it has an answer."""

    def __init__(self, payload: bytes, requests: int) -> None:
        self.payload, self.left = payload, requests
        self.latencies: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.started = time.perf_counter()
        self.transport.write(self.payload)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_message_complete(self):
        if self.parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"status {self.parser.get_status_code()}"))
            self.transport.abort()
            return
        self.latencies.append(time.perf_counter() - self.started)
        self.left -= 1
        if self.left:
            self.send()
        else:
            self.done.set_result(None)
            self.transport.close()


class _Paced(_Client):
    """Sends at set times, pipelining nothing: what is late starts late, and its latency counts from when it was due."""

    def begin(self, first: float, every: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.due, self.every = first, every
        self.loop.call_later(first - time.perf_counter(), self.send)

    def connection_made(self, transport):
        self.transport = transport

    def send(self):
        # Timers here fire up to a millisecond late; what the proxy is late by still counts, from the next one on.
        self.started = max(self.due, time.perf_counter() - 0.001)
        self.transport.write(self.payload)

    def on_message_complete(self):
        if self.parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"status {self.parser.get_status_code()}"))
            self.transport.abort()
            return
        now = time.perf_counter()  # the loop's own clock has milliseconds
        self.latencies.append(now - self.started)
        self.left -= 1
        if not self.left:
            self.done.set_result(None)
            self.transport.close()
            return
        self.due += self.every
        if now >= self.due:
            self.send()
        else:
            self.loop.call_later(self.due - now, self.send)


@dataclass
class Measured:
    """Requests a second; microseconds."""

    rate: float
    p50: float
    p99: float


async def drive(port: int, payload: bytes, requests: int, connections: int, context: ssl.SSLContext | None) -> Measured:
    loop = asyncio.get_running_loop()
    clients = []
    started = time.perf_counter()
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: _Client(payload, requests // connections),
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="localhost" if context else None,
        )
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - started
    latencies = np.concatenate([client.latencies for client in clients]) * 1e6
    return Measured(len(latencies) / seconds, *np.percentile(latencies, [50, 99]))


async def pace(port: int, payload: bytes, rate: float, seconds: float, connections: int, context) -> Measured:
    """Send `rate` requests a second whatever the answers take, over `connections`; the clock starts when one is due."""
    loop = asyncio.get_running_loop()
    share = int(rate * seconds / connections)
    clients = []
    for index in range(connections):
        _, client = await loop.create_connection(
            lambda: _Paced(payload, share),
            "127.0.0.1",
            port,
            ssl=context,
            server_hostname="localhost" if context else None,
        )
        client.begin(time.perf_counter() + 0.1 + index / rate, connections / rate)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    latencies = np.concatenate([client.latencies for client in clients]) * 1e6
    return Measured(rate, *np.percentile(latencies, [50, 99]))


def processes(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == pid:
            found.append(int(folder.name))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children."""
    total = 0
    for each in processes(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    total = 0
    for each in processes(pid):
        status = Path(f"/proc/{each}/status").read_text().splitlines()
        total += int(next(line for line in status if line.startswith("VmRSS")).split()[1])
    return total / 1024


def wait_until_ready(port: int) -> None:
    """Return when /readyz says so; within half a minute, or fail."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the sidecar was not ready within 30 seconds")


def payload(token: str, body: bytes) -> bytes:
    head = (
        "POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n"
        f"content-type: application/json\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def prepare(folder: Path, model_port: int, **sections: Any) -> tuple[list[str], bytes, Path]:
    """Files for a sidecar with everything on; its arguments, a request that passes, and the authority's certificate.

    `sections`: further ones of the configuration.
    """
    config_dir, tls_dir = folder / "config", folder / "tls"
    config_dir.mkdir()
    tls_dir.mkdir()
    signer, issuer = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    rng = np.random.default_rng(0)
    content = fitting.fit(rng.normal(size=(ROWS, COLUMNS))).to_bytes()
    (config_dir / "baseline.npz").write_bytes(content)
    key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(issuer.public_key())) | {"kid": "k"}
    document = json.dumps(
        {
            "binding": {"namespace": "bench", "name": "m", "generation": 1},
            "upstream": {"port": model_port, "model": "m", "protocol": "v2", "readyPath": "/v2/models/m/ready"},
            "access": {
                "issuers": [{"name": "i", "issuer": "https://i", "audiences": ["m"], "jwks": {"keys": [key]}}],
                "rules": [
                    {
                        "subjects": ["user:a"],
                        "operations": ["Infer", "Explain"],
                        "purposes": ["bench"],
                        "rateLimit": {"requests": 1_000_000, "seconds": 1},
                    }
                ],
            },
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP64",
                    "shape": [-1, COLUMNS],
                    "columns": [f"x{index}" for index in range(COLUMNS)],
                    "minimum": -1e6,
                    "maximum": 1e6,
                },
            ],
            "fields": {
                "x3": {"treatment": "Generalise", "step": 0.25},
                "x7": {"treatment": "Round", "digits": 2},
            },
            "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1, 1]}],
            "screening": {
                "baseline": {"file": "baseline.npz", "sha256": hashlib.sha256(content).hexdigest()},
                "detectors": [{"type": "Mahalanobis"}],
            },
        }
        | sections
    ).encode()
    (config_dir / "config.json").write_bytes(document)
    (config_dir / "config.sig").write_bytes(base64.b64encode(signer.sign(document)))
    authority = certificates.new_authority(datetime.now(UTC))
    pair = certificates.issue(authority, ["localhost"], datetime.now(UTC))
    (tls_dir / "tls.crt").write_bytes(pair.chain)
    (tls_dir / "tls.key").write_bytes(pair.key)
    (folder / "ca.crt").write_bytes(authority.bundle)
    claims = {"iss": "https://i", "aud": "m", "sub": "a", "purpose": "bench", "exp": time.time() + 36000}
    token = jwt.encode(claims, issuer, "ES256", headers={"kid": "k"})
    data = [round(float(value), 6) for value in rng.normal(size=COLUMNS)]
    body = json.dumps(
        {"id": "42", "inputs": [{"name": "x", "shape": [1, COLUMNS], "datatype": "FP64", "data": data}]}
    ).encode()
    arguments = [
        f"--config-dir={config_dir}",
        f"--tls-dir={tls_dir}",
        f"--config-key={base64.b64encode(signer.public_key().public_bytes_raw()).decode()}",
        "--model=m",
        "--host=127.0.0.1",
    ]
    return arguments, payload(token, body), folder / "ca.crt"
