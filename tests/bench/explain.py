"""Explanations beside the package shap, and inference while a sidecar explains; writes docs/benchmarks/explain.md.

    python -m tests.bench.explain --peers build/explain-peers/bin/python --out docs/benchmarks/explain.md

What is compared with shap runs in an environment of its own: `tests.bench.explain_peers`. Then a model, a sidecar and
clients, each a process of its own: `infer` at a steady rate, with and without somebody who asks for one explanation
after the other, in turns. Where the machine has other work, run it under `chrt -r 5`, or that is what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import uvloop

from tests.bench.load import COLUMNS, PLAINTEXT, Measured, cpu_seconds, pace, prepare, wait_until_ready
from tests.bench.sidecar import started

MODEL, SIDECAR, MONITOR = 18580, 18543, 18590
RATE, SECONDS, CONNECTIONS, ROUNDS = 250, 6.0, 16, 5
BUDGET = 2048
WEIGHTS = np.random.default_rng(3).normal(size=COLUMNS)


class _Model(asyncio.Protocol):
    """Answers V2 with a number for each row."""

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.body += body

    def on_message_complete(self):
        body, self.body = self.body, b""
        document: dict[str, Any] = {}
        if body:
            tensor = json.loads(body)["inputs"][0]
            values = np.array(tensor["data"]).reshape(tensor["shape"]) @ WEIGHTS
            output = {"name": "y", "datatype": "FP64", "shape": [len(values)], "data": values.tolist()}
            document = {"model_name": "m", "outputs": [output]}
        content = json.dumps(document).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content)
        self.transport.write(head + content)


async def serve_model(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Model, "127.0.0.1", port)
    await server.serve_forever()


class Asker(threading.Thread):
    """Asks for explanations, one after the other, until it is told to end; over plain HTTP."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(daemon=True)
        self._payload = payload
        self.ends = threading.Event()
        self.seconds: list[float] = []
        self.failure = ""

    def run(self) -> None:
        with socket.create_connection(("127.0.0.1", SIDECAR), timeout=60) as connection:
            while not self.ends.is_set():
                began = time.perf_counter()
                connection.sendall(self._payload)
                answer = b""
                while b"\r\n\r\n" not in answer:
                    answer += connection.recv(65536)
                head, _, rest = answer.partition(b"\r\n\r\n")
                length = int(
                    next(line for line in head.split(b"\r\n") if line.startswith(b"content-length")).split()[1]
                )
                while len(rest) < length:
                    rest += connection.recv(65536)
                if not head.startswith(b"HTTP/1.1 200"):
                    self.failure = rest.decode()
                    return
                self.seconds.append(time.perf_counter() - began)


@contextlib.contextmanager
def serving() -> Iterator[tuple[bytes, int]]:
    """A sidecar that explains; a request to infer that passes, and its process."""
    with tempfile.TemporaryDirectory() as text:
        asked = {"method": "PermutationSHAP", "extraCalls": BUDGET}
        arguments, request, _ = prepare(Path(text), MODEL, explanations=asked, outputs=None)
        model = [
            sys.executable,
            "-c",
            f"import uvloop; from tests.bench.explain import *; uvloop.run(serve_model({MODEL}))",
        ]
        sidecar = [sys.executable, "-c", PLAINTEXT, *arguments, f"--port={SIDECAR}", f"--monitor-port={MONITOR}"]
        with started(model), started(sidecar, MODELWARD_NAMESPACE="bench") as process:
            wait_until_ready(MONITOR)
            yield request, process.pid


def beside() -> dict[str, Any]:
    """Latencies of inference with and without explanations beside it, in microseconds; and what those took."""
    found: dict[str, list[Measured]] = {"alone": [], "beside": []}
    explanations: list[float] = []
    with serving() as (request, pid):
        explain = request.replace(b"/v2/models/m/infer", b"/v2/models/m/explain")
        uvloop.run(pace(SIDECAR, request, RATE, 2.0, CONNECTIONS, None))
        for _ in range(ROUNDS):
            found["alone"].append(uvloop.run(pace(SIDECAR, request, RATE, SECONDS, CONNECTIONS, None)))
            asker = Asker(explain)
            asker.start()
            found["beside"].append(uvloop.run(pace(SIDECAR, request, RATE, SECONDS, CONNECTIONS, None)))
            asker.ends.set()
            asker.join(60)
            if asker.failure or not asker.seconds:
                raise RuntimeError(f"an explanation failed: {asker.failure}")
            explanations += asker.seconds
        quiet = Asker(explain)
        before = cpu_seconds(pid)
        quiet.start()
        time.sleep(3)
        quiet.ends.set()
        quiet.join(60)
        used = (cpu_seconds(pid) - before) / len(quiet.seconds)
    latencies = {
        f"{name} {which}": statistics.median(getattr(one, which) for one in each)
        for name, each in found.items()
        for which in ("p50", "p99")
    }
    return latencies | {
        "explanations": len(explanations),
        "a second": len(explanations) / (ROUNDS * SECONDS),
        "explained p50": statistics.median(explanations) * 1e3,
        "explained alone p50": statistics.median(quiet.seconds) * 1e3,
        "cpu": used * 1e3,
    }


def compared(python: str) -> dict[str, Any]:
    """What `tests.bench.explain_peers` prints."""
    environment = os.environ | {"PYTHONPATH": "operator"}
    command = [python, "-m", "tests.bench.explain_peers"]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def page(peers: dict[str, Any], sidecar: dict[str, Any]) -> str:
    lines = [
        "# Explanations, measured",
        "",
        "`make bench-explain` wrote this page.",
        "",
        f"## LinearSHAP beside shap {peers['shap']}'s LinearExplainer",
        "",
        "Models of scikit-learn, 400 training rows as the reference, the rest explained. The goal: equal to 1e-9, at"
        " most 50 µs a row. A row's time is that of its contributions, base and value.",
        "",
        "| data | columns | rows | greatest difference | of the base | base + contributions - value | a row, p50 |"
        " p99 | shap, p50 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['name']} | {one['columns']} | {one['rows']} | {one['apart']:.1e} | {one['base apart']:.1e} |"
        f" {one['sum apart']:.1e} | {one['p50']:.1f} µs | {one['p99']:.1f} µs | {one['shap p50']:.1f} µs |"
        for one in peers["linear"]
    ]
    lines += [
        "",
        f"## PermutationSHAP within {peers['budget']:,} rows, beside shap's at one permutation",
        "",
        "How far from the exact Shapley values (shap's TreeExplainer and Exact) over the same reference rows: the root"
        " of the mean square of the difference, over the mean size of a contribution. shap walks one permutation there"
        " and back over as many reference rows as the budget buys (and asks about more than it counts); ours has a"
        " permutation of its own for each reference row. «Within» is the share of contributions that are within twice"
        " the standard error that the answer tells.",
        "",
        "| model | columns | reference rows | rows asked | difference | shap: rows asked | difference | within | base +"
        " contributions - value |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['name']} | {one['columns']} | {one['references']} | {one['asked']:,.0f} | {one['apart']:.1%} |"
        f" {one['shap asked']:,.0f} | {one['shap apart']:.1%} | {one['within']:.1%} | {one['sum apart']:.1e} |"
        for one in peers["any"]
    ]
    lines += [
        "",
        "The last has few reference rows for its columns: with many columns, more `extraCalls` are worth their price.",
        "",
        "## Inference while a sidecar explains",
        "",
        f"{RATE} requests a second to `infer`, in plain text over {CONNECTIONS} connections, alone and beside one"
        f" caller who asks for explanations of {BUDGET:,} rows one after the other: medians of {ROUNDS} rounds of"
        f" {SECONDS:g} seconds in turns. The model is one process with one thread: what it computes for an explanation,"
        f" others wait for. The sidecar asks it about at most 64 rows at a time, and rests twice as long as they took."
        f" {COLUMNS} columns.",
        "",
        "| | alone | beside explanations |",
        "|---|---|---|",
        f"| `infer`, p50 | {sidecar['alone p50']:.0f} µs | {sidecar['beside p50']:.0f} µs |",
        f"| `infer`, p99 | {sidecar['alone p99']:.0f} µs | {sidecar['beside p99']:.0f} µs |",
        f"| `explain`, p50 | {sidecar['explained alone p50']:.1f} ms | {sidecar['explained p50']:.1f} ms |",
        f"| explanations a second | | {sidecar['a second']:.1f} |",
        "",
        f"The sidecar's own processor time for an explanation: {sidecar['cpu']:.1f} ms.",
        "",
        f"Machine: {os.cpu_count()} cores; load when the run ended {os.getloadavg()[0]:.1f}"
        + ("; scheduled in real time, before other work (`chrt -r`)." if os.sched_getscheduler(0) else "."),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="build/explain-peers/bin/python", help="a Python that has shap")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = page(compared(arguments.peers), beside())
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
