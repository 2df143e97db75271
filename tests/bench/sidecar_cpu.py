"""CPU per request of the sidecar's whole chain, against the same request sent straight to the model server.

    python -m tests.bench.sidecar_cpu [--requests 20000] [--connections 16] [--tls]

A model server of no cost, the sidecar and the client are three processes; CPU time is the kernel's own account of the
sidecar's. On a machine that does other things at the same time, only the ratio of runs in one go means something.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httptools
import jwt
import numpy as np
import uvloop
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from modelward.controller import certificates
from modelward.detect import baseline

ROWS, COLUMNS = 1000, 30
ANSWER = b'{"model_name":"m","outputs":[{"name":"predict","shape":[1,1],"datatype":"INT64","data":[1]}]}'


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


@dataclass
class Measured:
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


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


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


def prepare(folder: Path, model_port: int) -> tuple[list[str], bytes, Path]:
    """Files for a sidecar with everything on; its arguments, a request that passes, and the authority's certificate."""
    config_dir, tls_dir = folder / "config", folder / "tls"
    config_dir.mkdir()
    tls_dir.mkdir()
    signer, issuer = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    rng = np.random.default_rng(0)
    content = baseline.fit(rng.normal(size=(ROWS, COLUMNS))).to_bytes()
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
                        "operations": ["Infer"],
                        "purposes": ["bench"],
                        "rateLimit": {"requests": 1_000_000, "seconds": 1},
                    }
                ],
            },
            "inputs": [
                {"name": "x", "datatype": "FP64", "shape": [-1, COLUMNS], "minimum": -1e6, "maximum": 1e6},
            ],
            "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1, 1]}],
            "screening": {
                "baseline": {"file": "baseline.npz", "sha256": hashlib.sha256(content).hexdigest()},
                "detectors": [{"type": "Mahalanobis"}],
            },
        }
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


_PLAINTEXT = """
import sys
from modelward.sidecar import main, setup
files = setup.SignedFiles.load
def load(self, generation):
    taken = files(self, generation)
    return setup.Setup(taken.settings, taken.baseline, None, None)
setup.SignedFiles.load = load
main.main(sys.argv[1:])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--serve-model", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_model:
        uvloop.run(serve_model(args.serve_model))
        return
    ports = {"model": 18480, "sidecar": 18443, "monitor": 18490}
    with tempfile.TemporaryDirectory() as folder:
        arguments, request, authority = prepare(Path(folder), ports["model"])
        start = ["-m", "modelward.sidecar.main"] if args.tls else ["-c", _PLAINTEXT]
        model = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.sidecar_cpu", "--serve-model", str(ports["model"])]
        )
        sidecar = subprocess.Popen(
            [sys.executable, *start, *arguments, f"--port={ports['sidecar']}", f"--monitor-port={ports['monitor']}"],
            env=os.environ | {"MODELWARD_NAMESPACE": "bench"},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(ports["monitor"])
            context = ssl.create_default_context(cafile=authority) if args.tls else None
            at_start = memory_mib(sidecar.pid)
            uvloop.run(drive(ports["sidecar"], request, 2000, args.connections, context))
            used = cpu_seconds(sidecar.pid)
            chain = uvloop.run(drive(ports["sidecar"], request, args.requests, args.connections, context))
            used = cpu_seconds(sidecar.pid) - used
            direct = uvloop.run(drive(ports["model"], request, args.requests, args.connections, None))
            print(f"sidecar   {used / args.requests * 1e6:.1f} us CPU a request, {'TLS' if args.tls else 'plaintext'}")
            print(f"memory    {at_start:.1f} MiB at start, {memory_mib(sidecar.pid):.1f} after")
            for name, measured in (("chain", chain), ("direct", direct)):
                print(f"{name:9} {measured.rate:,.0f}/s, p50 {measured.p50:.0f} us, p99 {measured.p99:.0f} us")
        finally:
            for process in (sidecar, model):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
