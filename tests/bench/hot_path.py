"""What a request costs in Python alone: the real connection, chain, upstream and access log, and no sockets.

    python -m tests.bench.hot_path [--requests 20000] [--rounds 7] [--traced] [--fairness] [--profile]

CPU time of the event loop's thread and of the whole process, the least and the median of several rounds; the difference
is what the access log's thread takes. Also what requests leave to the cycle collector, which is to be nothing.
`--traced`: each request has a `traceparent` of its own. `--fairness`: groups by two columns are counted as well.
`--profile`: where the time goes, by function. Everything is on
that `make bench-sidecar` has on.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import itertools
import os
import pstats
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import uvloop

from modelward.sidecar import setup
from modelward.sidecar.access_log import AccessLog, FileTarget
from modelward.sidecar.chain import Chain
from modelward.sidecar.gateway import Gateway
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.protocol import Connection
from modelward.sidecar.server import Server
from modelward.sidecar.upstream import Upstream, UpstreamConnection
from tests.bench.load import ANSWER, prepare
from tests.bench.page import command_line

MODEL = 18780
FAIRNESS = {"protected": [{"field": "x5", "edges": [0]}, {"field": "x6", "edges": [-1, 1]}]}
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
_FLUSH_EACH = 100  # requests; at 1,000/s that is what the flush each tenth of a second finds


class _Transport:
    """Takes what is written; nothing else happens."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.7", 1) if name == "peername" else None

    def is_closing(self) -> bool:
        return False


class Bench:
    """A sidecar's parts, put together as `Sidecar` does."""

    def __init__(self, folder: Path, descriptor: int, *, traced: bool, fairness: bool) -> None:
        arguments, self.request, _ = prepare(folder, MODEL, **({"fairness": FAIRNESS} if fairness else {}))
        self.traced = traced
        self.traces = itertools.count(1)
        if traced:
            trace = b"traceparent: 00-%032x-00f067aa0ba902b7-01\r\n"
            self.request = self.request.replace(b"content-type:", trace + b"content-type:", 1)
        config_dir, tls_dir, key = (each.partition("=")[2] for each in arguments[:3])
        public = __import__("base64").b64decode(key)
        loaded = setup.SignedFiles(Path(config_dir), Path(tls_dir), public, "bench", "m").load(0)
        loop = asyncio.get_running_loop()
        upstream = Upstream("127.0.0.1", MODEL, loaded.settings.limits, loop)
        instruments = Instruments()
        self.log = AccessLog(FileTarget(descriptor), instruments.telemetry)
        self.log.begin(pod="bench")
        gateway = Gateway(Chain(loaded.settings, loaded.baseline, upstream), instruments, self.log)
        self.model = UpstreamConnection(upstream)
        self.model.connection_made(_Transport())
        upstream.release(self.model)
        self.client = Connection(Server(gateway, loaded.settings.limits, loop.time))
        self.client.connection_made(_Transport())
        self.instruments = instruments

    def run(self, requests: int) -> None:
        ask, answer = self.client.data_received, self.model.data_received
        for index in range(requests):
            ask(self.request if not self.traced else self.request % next(self.traces))
            answer(_ANSWER)
            if index % _FLUSH_EACH == 0:
                self.log.flush()
        self.log.flush()

    def settle(self) -> None:
        """Wait until the access log is written."""
        while self.log._handed:
            time.sleep(0.001)
            self.log.flush()


async def measure(requests: int, rounds: int, *, traced: bool, fairness: bool, profile: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        descriptor = os.open("/dev/null", os.O_WRONLY)
        bench = Bench(Path(name), descriptor, traced=traced, fairness=fairness)
        bench.run(2000)
        gc.collect()
        gc.freeze()
        gc.disable()
        bench.run(1000)
        garbage = gc.collect()
        own, whole = [], []
        for _ in range(rounds):
            before = time.thread_time(), time.process_time()
            bench.run(requests)
            own.append((time.thread_time() - before[0]) / requests * 1e6)
            bench.settle()
            whole.append((time.process_time() - before[1]) / requests * 1e6)
        for what, found in (("event loop", own), ("all threads", whole)):
            print(f"{what}: least {min(found):.2f} us a request, median {statistics.median(found):.2f}")
        print(f"cyclic garbage of 1000 requests: {garbage} objects")
        answered = bench.instruments.requests.value("answered")
        assert answered == 3000 + rounds * requests, answered
        if profile:
            profiler = cProfile.Profile()
            profiler.enable()
            bench.run(requests)
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        bench.log.close()
        os.close(descriptor)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--traced", action="store_true")
    parser.add_argument("--fairness", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    uvloop.run(measure(args.requests, args.rounds, traced=args.traced, fairness=args.fairness, profile=args.profile))


if __name__ == "__main__":
    main()
