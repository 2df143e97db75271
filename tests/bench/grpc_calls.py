"""What a call over gRPC costs: the sidecar with everything on, beside Envoy's gRPC pass-through, in one run.

    make bench-grpc       or   python -m tests.bench.grpc_calls [--requests 5000] [--rounds 3] [--out FILE]

The model server (grpc.aio), each proxy and the client (grpc.aio, 16 channels) are processes of their own; CPU is the
kernel's account of the proxy. Rounds alternate between the proxies; the medians are told, and only their ratios mean
something on another machine. A client that spends more than a proxy makes no sharp latencies: p50 is told, and no tail.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.bench import page, peers
from tests.bench.load import COLUMNS, PLAINTEXT, cpu_seconds, memory_mib, prepare, wait_until_ready
from tests.bench.sidecar import CONNECTIONS, started, wait_for_port
from tests.bench.sidecar import conditions as rest_conditions
from tests.unit.sidecar.oip_messages import PACKAGE, SERVICE, answer, infer

MODEL, MODEL_REST, COLLECTOR, FIRST = 18610, 18611, 18612, 18620
RATE, RATE_SECONDS = 500, 8
METHOD = f"/{PACKAGE}.{SERVICE}/ModelInfer"


@dataclass
class Contender:
    """A proxy, or the model itself (`pid` 0: its CPU is not counted), and what was measured of it."""

    name: str
    port: int
    pid: int
    token: str = ""
    memory: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu_paced: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)


async def serve_model(port: int) -> None:
    """A model of no cost: one answer, made before."""
    told = answer({"name": "predict", "datatype": "INT64", "shape": [1, 1], "contents": {"int64_contents": [1]}})
    content = told.SerializeToString()

    class _All(grpc.GenericRpcHandler):
        def service(self, _: Any) -> Any:
            async def handle(*_: Any) -> bytes:
                return content

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server(handlers=(_All(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def drive(contender: Contender, requests: int, rate: float = 0) -> tuple[float, list[float]]:
    """Calls on `CONNECTIONS` channels, as fast as they come or `rate` a second; how many a second, and latencies."""
    content = infer(
        np.random.default_rng(0).normal(size=COLUMNS).round(6).tolist(), shape=[1, COLUMNS]
    ).SerializeToString()
    metadata = (("authorization", f"Bearer {contender.token}"),)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{contender.port}", options) for _ in range(CONNECTIONS)]
    took: list[float] = []

    async def ask(channel: grpc.aio.Channel, first: float) -> None:
        call = channel.unary_unary(METHOD)
        for index in range(requests // CONNECTIONS):
            if rate:
                at = first + index * CONNECTIONS / rate
                await asyncio.sleep(max(at - time.perf_counter(), 0))
            begun = time.perf_counter()
            await call(content, metadata=metadata, timeout=20)
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    begun = time.perf_counter()
    await asyncio.gather(*(ask(each, begun + index / (rate or 1e9)) for index, each in enumerate(channels)))
    seconds = time.perf_counter() - begun
    await asyncio.gather(*(channel.close() for channel in channels))
    return len(took) / seconds, took


def measure(contenders: list[Contender], requests: int, rounds: int) -> None:
    """Fill the contenders' lists."""
    for each in contenders:
        if each.pid:
            each.memory.append(memory_mib(each.pid))
        asyncio.run(drive(each, 1000))
    for _ in range(rounds):
        for each in contenders:
            for rate in (0, RATE):
                count = RATE * RATE_SECONDS if rate else requests
                before = cpu_seconds(each.pid) if each.pid else 0.0
                reached, took = asyncio.run(drive(each, count, rate))
                used = (cpu_seconds(each.pid) - before) / len(took) * 1e6 if each.pid else 0.0
                (each.cpu_paced if rate else each.cpu).append(used)
                if rate:
                    each.p50.append(statistics.median(took) * 1e6)
                else:
                    each.rate.append(reached)
    for each in contenders:
        if each.pid:
            each.memory.append(memory_mib(each.pid))


@contextlib.contextmanager
def sidecar(folder: Path, name: str, port: int, **sections: Any) -> Any:
    """The sidecar with everything on, in plaintext."""
    folder.mkdir()
    upstream = {"port": MODEL_REST, "model": "m", "readyPath": "/v2/models/m/ready", "grpcPort": MODEL}
    arguments, request, _ = prepare(folder, MODEL_REST, upstream=upstream, **sections)
    token = request.partition(b"Bearer ")[2].partition(b"\r\n")[0].decode()
    listening = [f"--port={port}", f"--grpc-port={port + 1}", f"--monitor-port={port + 2}"]
    command = [sys.executable, "-c", PLAINTEXT, *arguments, *listening]
    with started(command, MODELWARD_NAMESPACE="bench") as process:
        wait_until_ready(port + 2)
        yield Contender(name, port + 1, process.pid, token)


def run(requests: int, rounds: int) -> list[Contender]:
    """Run everything on."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = stack.enter_context(
            started([sys.executable, "-m", "tests.bench.grpc_calls", "--serve-model", str(MODEL)])
        )
        wait_for_port(peers.Peer("the model", [], MODEL), model)
        rest = [sys.executable, "-m", "tests.bench.sidecar", "--serve-model", str(MODEL_REST)]
        wait_for_port(peers.Peer("the model", [], MODEL_REST), stack.enter_context(started(rest)))
        stack.enter_context(
            started([sys.executable, "-m", "tests.bench.dead_sink", "--serve-collector", str(COLLECTOR)])
        )
        contenders = [Contender("the model alone", MODEL, 0)]
        program = peers.find("envoy")
        if program:
            peer = peers.Peer("envoy", peers.envoy(program, folder, MODEL, FIRST, grpc=True), FIRST)
            process = stack.enter_context(started(peer.command))
            wait_for_port(peer, process)
            contenders.append(Contender("envoy, gRPC passed through", FIRST, process.pid))
        url = f"http://127.0.0.1:{COLLECTOR}"
        for index, (name, sections) in enumerate(
            {"modelward": {}, "modelward, and OTLP": {"telemetry": {"endpoint": url, "allow": [url]}}}.items()
        ):
            contenders.append(
                stack.enter_context(sidecar(folder / str(index), name, FIRST + 10 * index + 10, **sections))
            )
        measure(contenders, requests, rounds)
    return contenders


HEAD = (
    "proxy", "CPU a call at full speed, us (ratio to Envoy)", f"the same at {RATE}/s", "calls/s, closed loop",
    f"added p50 at {RATE}/s, us", "RSS at start / after, MiB",
)  # fmt: skip


def table(contenders: list[Contender]) -> list[tuple[str, ...]]:
    envoy = next((each for each in contenders if each.name.startswith("envoy")), None)
    direct = statistics.median(contenders[0].p50)

    def cost(each: Contender, part: str) -> str:
        own = statistics.median(getattr(each, part))
        return f"{own:.0f} ({own / statistics.median(getattr(envoy, part)):.2f})" if envoy else f"{own:.0f}"

    rows = []
    for each in contenders:
        rate, p50 = f"{statistics.median(each.rate):,.0f}", statistics.median(each.p50)
        if each.pid:
            memory = " / ".join(f"{one:.0f}" for one in each.memory)
            rows.append((each.name, cost(each, "cpu"), cost(each, "cpu_paced"), rate, f"{p50 - direct:.0f}", memory))
        else:
            rows.append((each.name, "", "", rate, f"({p50:.0f})", ""))
    return rows


def markdown(contenders: list[Contender], note: str) -> str:
    """The page under docs/benchmarks."""
    return "\n".join(
        (
            "# gRPC through the sidecar, beside Envoy that checks nothing",
            "",
            "A ModelInfer of 30 features as typed contents, with the checks of [the REST benchmark](sidecar.md): token,"
            " rule, purpose, rate limit, schema, two treated fields, a detector, declared outputs, record and metrics."
            " In plaintext.",
            "",
            note,
            "",
            *page.table(HEAD, table(contenders)),
            "",
            "HTTP/2 is spoken in Python here ([why](../adr/0015-grpc-by-h2-and-the-same-chain.md)), in C++ there:"
            " a call costs more than Envoy's pass-through, and more than a request over HTTP/1.1.",
            "Run it again with `make bench-grpc`.",
            "",
        )
    )


def main() -> None:
    parser = page.command_line(__doc__, out=True)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve-model", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve_model:
        asyncio.run(serve_model(args.serve_model))
        return
    contenders = run(args.requests, args.rounds)
    note = rest_conditions(args.requests, args.rounds).replace("1000 requests/s", f"{RATE} requests/s")
    page.publish(markdown(contenders, note), args.out)


if __name__ == "__main__":
    main()
