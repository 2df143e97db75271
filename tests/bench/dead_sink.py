"""The sidecar at 1,000 requests/s while nobody takes its records: none fails, memory stays, every one is counted.

    make soak-sink MINUTES=10      or      python -m tests.bench.dead_sink [--minutes 10] [--sink hang]

The collector accepts connections and never answers (hang), answers after five seconds (slow), refuses them (refuse), or
does what it should (live, for comparison; off: none is configured). With `--access-log Stdout` the log goes into a pipe
that nobody reads. Exit 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.load import PLAINTEXT, cpu_seconds, drive, memory_mib, pace, prepare, serve_model, wait_until_ready
from tests.bench.page import command_line

MODEL, PORT, MONITOR = 18580, 18581, 18582
RATE, CONNECTIONS, WARM = 1000, 16, 5000
MOST_GROWTH_MIB = 32
_CHUNK_SECONDS = 10


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.delay)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def collector(port: int, delay: float = 0) -> ThreadingHTTPServer:
    """A collector that takes everything, after `delay` seconds."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Answers)
    server.delay = delay
    return server


def sink(kind: str) -> int:
    """The port of a collector of this kind."""
    if kind in ("slow", "live"):
        server = collector(0, 5 if kind == "slow" else 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port
    silent = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = silent.getsockname()[1]
    if kind == "refuse":
        silent.close()
    else:
        _HELD.append(silent)  # the system accepts, nobody reads
    return port


_HELD: list[socket.socket] = []


def section(kind: str, access_log: str) -> dict[str, Any]:
    """The configuration's section for it."""
    if kind == "off":
        return {}
    url = f"http://127.0.0.1:{sink(kind)}"
    return {"telemetry": {"endpoint": url, "allow": [url], "accessLog": access_log}}


def soak(minutes: float, kind: str, access_log: str) -> bool:
    """Run it and tell; whether all goals were met."""
    reading, writing = os.pipe()  # nobody reads it; closed at the end alone
    with tempfile.TemporaryDirectory() as name, (Path(name) / "err").open("w+b") as errors:
        arguments, request, _ = prepare(Path(name), MODEL, **section(kind, access_log))
        model = subprocess.Popen([sys.executable, "-m", "tests.bench.dead_sink", "--serve-model"])
        sidecar = subprocess.Popen(
            [sys.executable, "-c", PLAINTEXT, *arguments, f"--port={PORT}", f"--monitor-port={MONITOR}"],
            env=os.environ | {"MODELWARD_NAMESPACE": "bench"},
            stdout=subprocess.DEVNULL if kind in ("live", "off") else writing,
            stderr=errors,
        )
        try:
            wait_until_ready(MONITOR)
            at_start = memory_mib(sidecar.pid)
            uvloop.run(drive(PORT, request, WARM, CONNECTIONS, None))
            sent = WARM // CONNECTIONS * CONNECTIONS
            before, used = memory_mib(sidecar.pid), cpu_seconds(sidecar.pid)
            until = time.monotonic() + minutes * 60
            slow: list[float] = []  # the p99 of each 10 s, in microseconds
            most = 0.0
            while time.monotonic() < until:
                measured = uvloop.run(pace(PORT, request, RATE, _CHUNK_SECONDS, CONNECTIONS, None))
                sent += int(RATE * _CHUNK_SECONDS / CONNECTIONS) * CONNECTIONS
                slow.append(measured.p99)
                most = max(most, memory_mib(sidecar.pid))
            used = cpu_seconds(sidecar.pid) - used
            sidecar.send_signal(signal.SIGTERM)
            code = sidecar.wait(40)
        finally:
            sidecar.kill()
            model.kill()
            sidecar.wait()
            model.wait()
            os.close(reading)
            os.close(writing)
        errors.seek(0)
        told = [json.loads(line) for line in errors.read().splitlines()]
    totals = next(line for line in told if line["message"] == "what became of records")
    sums = {name: sum(totals[name].values()) for name in ("access-log", *(["otlp-traces"] * (kind != "off")))}
    print(f"sink {kind}, access log {access_log}: {sent} requests, all 200")
    print(f"p99 over 10 s: median {statistics.median(slow):.0f} us, worst {max(slow):.0f} us")
    print(f"CPU {used / (sent - WARM) * 1e6:.1f} us a request, all threads")
    print(
        f"RSS {at_start:.1f} MiB at start, {before:.1f} after {WARM} requests, {most:.1f} at most: +{most - before:.1f}"
    )
    for name, together in sums.items():
        print(f"{name}: {totals[name]}, together {together}")
    fine = code == 0 and most - before <= MOST_GROWTH_MIB and all(each == sent for each in sums.values())
    print("all goals met" if fine else f"MISSED: exit code {code}, growth <= {MOST_GROWTH_MIB} MiB, sums == {sent}")
    return fine


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sink", choices=["hang", "slow", "refuse", "live", "off"], default="hang")
    parser.add_argument("--access-log", choices=["Stdout", "OTLP"], default="Stdout")
    parser.add_argument("--serve-model", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--serve-collector", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_collector:
        collector(args.serve_collector).serve_forever()
    if args.serve_model:
        uvloop.run(serve_model(MODEL))
        return
    sys.exit(0 if soak(args.minutes, args.sink, args.access_log) else 1)


if __name__ == "__main__":
    main()
