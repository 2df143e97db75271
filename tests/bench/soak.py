"""A million requests through the sidecar, over TLS and with everything on: none fails, and memory does not grow.

    make soak REQUESTS=1000000      or      python -m tests.bench.soak [--requests 1000000] [--minutes 30]

As fast as 16 clients can. Memory is the kernel's account of the resident set, after every 2 %; it may grow by 4 MiB
from the first 5 % to the end, and be 64 MiB at the most. Ends early, and says so, after `--minutes`. Exit 1 when a goal
is missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import Progress

from tests.bench.load import cpu_seconds, drive, memory_mib, prepare, serve_model, wait_until_ready
from tests.bench.page import command_line

MODEL, PORT, MONITOR = 18680, 18681, 18682
CONNECTIONS, PARTS, WARM_PARTS = 16, 50, 3
MOST_MIB, MOST_GROWTH_MIB = 64, 4


@dataclass
class Told:
    """What a soak has shown; memory in MiB, CPU in seconds."""

    answered: int
    at_start: float
    warm: float
    most: float
    cpu: float
    exit_code: int

    @property
    def fine(self) -> bool:
        return self.exit_code == 0 and self.most <= MOST_MIB and self.most - self.warm <= MOST_GROWTH_MIB


def drive_all(pid: int, request: bytes, context: ssl.SSLContext, requests: int, seconds: float) -> Told:
    """Send them, in parts, between which memory is looked at; raises RuntimeError at the first that fails."""
    told = Told(0, memory_mib(pid), 0.0, 0.0, cpu_seconds(pid), 0)
    part = requests // PARTS // CONNECTIONS * CONNECTIONS
    until = time.monotonic() + seconds
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("requests", total=PARTS * part)
        for index in range(PARTS):
            uvloop.run(drive(PORT, request, part, CONNECTIONS, context))
            told.answered += part
            now = memory_mib(pid)
            told.warm = now if index < WARM_PARTS else told.warm
            told.most = max(told.most, now)
            progress.update(task, advance=part, description=f"requests, RSS {now:.1f} MiB")
            if time.monotonic() > until:
                break
    told.cpu = cpu_seconds(pid) - told.cpu
    return told


def soak(requests: int, seconds: float) -> Told:
    """Start a model and a sidecar, drive them, and end the sidecar as a pod's end would."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments, request, authority = prepare(folder, MODEL)
        model = subprocess.Popen([sys.executable, "-m", "tests.bench.soak", "--serve-model"])
        with (folder / "out").open("wb") as log:
            sidecar = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "modelward.sidecar.main",
                    *arguments,
                    f"--port={PORT}",
                    f"--monitor-port={MONITOR}",
                ],
                env=os.environ | {"MODELWARD_NAMESPACE": "bench"},
                stdout=log,
                stderr=subprocess.DEVNULL,
            )
        try:
            wait_until_ready(MONITOR)
            context = ssl.create_default_context(cafile=authority)
            told = drive_all(sidecar.pid, request, context, requests, seconds)
            sidecar.send_signal(signal.SIGTERM)
            told.exit_code = sidecar.wait(40)
        finally:
            for process in (sidecar, model):
                process.kill()
                process.wait()
        lines = sum(1 for _ in (folder / "out").open("rb"))
        if lines < told.answered:
            raise RuntimeError(f"{told.answered} requests were answered, {lines} are in the access log")
    return told


def main() -> None:
    """Run and tell."""
    parser = command_line(__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--serve-model", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_model:
        uvloop.run(serve_model(MODEL))
        return
    told = soak(args.requests, args.minutes * 60)
    if told.answered < args.requests // PARTS // CONNECTIONS * CONNECTIONS * PARTS:
        print(f"ended early, after {args.minutes:g} minutes")
    print(f"{told.answered} requests over TLS, all answered 200 and in the access log, 0 failed")
    print(f"CPU {told.cpu / told.answered * 1e6:.1f} us a request, all threads")
    print(
        f"RSS {told.at_start:.1f} MiB at start, {told.warm:.1f} after {100 * WARM_PARTS // PARTS} %,"
        f" {told.most:.1f} at most: +{told.most - told.warm:.1f}"
    )
    print("all goals met" if told.fine else f"MISSED: <= {MOST_MIB} MiB, growth <= {MOST_GROWTH_MIB} MiB, exit code 0")
    sys.exit(0 if told.fine else 1)


if __name__ == "__main__":
    main()
