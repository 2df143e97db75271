"""CPU, latency and memory of the sidecar with everything on, beside proxies that check nothing, in one run.

    make bench-sidecar        or   python -m tests.bench.sidecar [--requests 20000] [--rounds 3] [--out FILE]

A model server of no cost, each proxy, and the clients are processes of their own; CPU is the kernel's account of the
proxy and its children. Rounds alternate between the proxies, so that what else the machine does hits all alike; the
medians are told, and only their ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.bench import page
from tests.bench.load import PLAINTEXT, cpu_seconds, drive, memory_mib, pace, prepare, serve_model, wait_until_ready
from tests.bench.peers import Peer, peers

MODEL, COLLECTOR, SIDECAR, MONITOR, FIRST_PEER = 18480, 18481, 18443, 18490, 18500
CONNECTIONS = 16
RATE, RATE_SECONDS = 1000, 8
SIDECAR_NAME = "modelward, all checks on"


@dataclass
class Contender:
    """A proxy under measurement, or the model itself (`pid` 0: its CPU is not counted)."""

    name: str
    port: int
    tls: bool
    pid: int
    ready_seconds: float = 0.0
    request: bytes = b""  # where it is not the one that all others get
    cpu: list[float] = field(default_factory=list)  # us a request, as fast as it goes
    cpu_paced: list[float] = field(default_factory=list)  # us a request, at RATE
    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    memory: tuple[float, float] = (0.0, 0.0)

    @property
    def key(self) -> str:
        return f"{self.name}, {'TLS' if self.tls else 'plaintext'}"


@contextlib.contextmanager
def started(command: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(peer: Peer, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError(f"{peer.name} ended: {(process.stderr.read() if process.stderr else b'')[-2000:]!r}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", peer.port), timeout=1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{peer.name} does not listen on {peer.port}")


def measure(contenders: list[Contender], request: bytes, authority: Path, requests: int, rounds: int) -> None:
    """Fill the contenders' lists."""

    def context(contender: Contender) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=authority) if contender.tls else None

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=len(contenders) * (rounds * 2 + 1))
        for contender in contenders:
            uvloop.run(drive(contender.port, contender.request or request, 2000, CONNECTIONS, context(contender)))
            contender.memory = (memory_mib(contender.pid), 0.0) if contender.pid else contender.memory
            progress.advance(task)
        for _ in range(rounds):
            for contender in contenders:
                progress.update(task, description=contender.key)
                before = cpu_seconds(contender.pid) if contender.pid else 0.0
                closed = uvloop.run(
                    drive(contender.port, contender.request or request, requests, CONNECTIONS, context(contender))
                )
                used = cpu_seconds(contender.pid) - before if contender.pid else 0.0
                contender.cpu.append(used / requests * 1e6)
                contender.rate.append(closed.rate)
                progress.advance(task)
                before = cpu_seconds(contender.pid) if contender.pid else 0.0
                paced = uvloop.run(
                    pace(
                        contender.port,
                        contender.request or request,
                        RATE,
                        RATE_SECONDS,
                        CONNECTIONS,
                        context(contender),
                    )
                )
                used = cpu_seconds(contender.pid) - before if contender.pid else 0.0
                contender.cpu_paced.append(used / (RATE * RATE_SECONDS) * 1e6)
                contender.p50.append(paced.p50)
                contender.p99.append(paced.p99)
                progress.advance(task)
        for contender in contenders:
            if contender.pid:
                contender.memory = (contender.memory[0], memory_mib(contender.pid))


@contextlib.contextmanager
def with_collector(folder: Path) -> Iterator[Contender]:
    """The sidecar in plaintext, sending spans and metrics to a collector."""
    url = f"http://127.0.0.1:{COLLECTOR}"
    folder.mkdir()
    arguments, request, _ = prepare(folder, MODEL, telemetry={"endpoint": url, "allow": [url]})
    port, monitor = SIDECAR + 2, MONITOR + 2
    listening = [f"--port={port}", f"--monitor-port={monitor}"]
    collector = [sys.executable, "-m", "tests.bench.dead_sink", "--serve-collector", str(COLLECTOR)]
    begun = time.perf_counter()
    with (
        started(collector),
        started([sys.executable, "-c", PLAINTEXT, *arguments, *listening], MODELWARD_NAMESPACE="bench") as process,
    ):
        wait_until_ready(monitor)
        ready = time.perf_counter() - begun
        yield Contender(
            f"{SIDECAR_NAME}, and OTLP", port, tls=False, pid=process.pid, ready_seconds=ready, request=request
        )


def run(requests: int, rounds: int) -> tuple[list[Contender], list[str]]:
    """Run everything on, both in plaintext and over TLS."""
    contenders: list[Contender] = []
    missing: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arguments, request, authority = prepare(folder, MODEL)
        model = stack.enter_context(started([sys.executable, "-m", "tests.bench.sidecar", "--serve-model", str(MODEL)]))
        wait_for_port(Peer("the model", [], MODEL), model)
        contenders.append(Contender("the model alone", MODEL, tls=False, pid=0))
        for index, tls in enumerate((False, True)):
            own = folder / str(index)
            own.mkdir()
            (own / "tls").symlink_to(folder / "tls")
            found, missing = peers(own, MODEL, FIRST_PEER + 10 * index, tls=tls)
            for peer in found:
                process = stack.enter_context(started(peer.command))
                wait_for_port(peer, process)
                contenders.append(Contender(peer.name, peer.port, tls, process.pid))
            port, monitor = SIDECAR + index, MONITOR + index
            program = ["-m", "modelward.sidecar.main"] if tls else ["-c", PLAINTEXT]
            begun = time.perf_counter()
            process = stack.enter_context(
                started(
                    [sys.executable, *program, *arguments, f"--port={port}", f"--monitor-port={monitor}"],
                    MODELWARD_NAMESPACE="bench",
                )
            )
            wait_until_ready(monitor)
            ready = time.perf_counter() - begun
            contenders.append(Contender(SIDECAR_NAME, port, tls, process.pid, ready))
        contenders.append(stack.enter_context(with_collector(folder / "otlp")))
        measure(contenders, request, authority, requests, rounds)
    return contenders, missing


def rows(contenders: list[Contender]) -> list[tuple[str, ...]]:
    """The table: each contender's medians, and the ratios to Envoy of the same kind."""
    direct = next(each for each in contenders if not each.pid)
    out = []
    for each in contenders:
        envoy = next((peer for peer in contenders if peer.name == "envoy" and peer.tls == each.tls), None)
        own = {part: statistics.median(getattr(each, part)) for part in ("cpu", "cpu_paced", "rate", "p50", "p99")}
        if not each.pid:
            out.append((each.key, "", "", f"{own['rate']:,.0f}", f"({own['p50']:.0f})", f"({own['p99']:.0f})", ""))
            continue
        costs = []
        for part in ("cpu", "cpu_paced"):
            ratio = f" ({own[part] / statistics.median(getattr(envoy, part)):.2f})" if envoy else ""
            costs.append(f"{own[part]:.1f}{ratio}")
        added = [f"{own[part] - statistics.median(getattr(direct, part)):.0f}" for part in ("p50", "p99")]
        memory = f"{each.memory[0]:.0f} / {each.memory[1]:.0f}"
        out.append((each.key, *costs, f"{own['rate']:,.0f}", *added, memory))
    return out


HEAD = (
    "proxy",
    "CPU a request at full speed, us (ratio to Envoy)",
    f"the same at {RATE}/s",
    "requests/s, closed loop",
    f"added p50 at {RATE}/s, us",
    f"added p99 at {RATE}/s, us",
    "RSS at start / after, MiB",
)
_CHECKS = (
    "The sidecar verifies a JWT, matches an access rule with a purpose and a rate limit, decodes and checks a V2"
    " request of 30 features, treats two of them, screens it by a Mahalanobis detector, checks the declared outputs of"
    " the answer, writes an access-log line and counts metrics. The others pass bytes on, with one worker each."
)


def conditions(requests: int, rounds: int) -> str:
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}, Linux "
        f"{platform.release().split('-')[0]}, load {load:.1f} at the end; medians of {rounds} rounds of {requests}"
        f" requests over {CONNECTIONS} connections, and of {RATE_SECONDS} s at {RATE} requests/s."
    )


def markdown(contenders: list[Contender], note: str) -> str:
    """The page under docs/benchmarks."""
    starts = ", ".join(f"{each.ready_seconds:.2f} s ({each.key})" for each in contenders if each.ready_seconds)
    lines = [
        "# The sidecar beside proxies that check nothing",
        "",
        _CHECKS,
        "",
        note,
        "",
        *page.table(HEAD, rows(contenders)),
        "",
        f"Start to ready: {starts}.",
        "",
        "Run it again with `make bench-sidecar`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = page.command_line(__doc__, out=True)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve-model", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_model:
        uvloop.run(serve_model(args.serve_model))
        return
    contenders, missing = run(args.requests, args.rounds)
    table = Table(*HEAD)
    for row in rows(contenders):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for each in contenders:
        if each.ready_seconds:
            console.print(f"start to ready: {each.ready_seconds:.2f} s ({each.key})")
    for line in missing:
        console.print(f"left out: {line}")
    note = conditions(args.requests, args.rounds)
    console.print(note)
    if args.out:
        page.write(markdown(contenders, note), args.out)


if __name__ == "__main__":
    main()
