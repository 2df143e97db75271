"""What the backstop costs the API server: creates a second by 16 clients, and CPU a create, with and without it.

    python -m tests.bench.backstop [--seconds 4] [--rounds 3]

Dry runs of one good model against a real kube-apiserver, the ways taken in turn, so that a busy machine slows all of
them alike. `empty` has the same admission policies with nothing to judge, so that what the rules cost can be told from
what having policies with parameters costs; `baseline` is what a fresh install asks; `strict` has a DataPolicy that asks
for everything as well; `refused` breaks a rule of baseline. The CPU is the API server's own, as the kernel counts it.
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import json
import os
import ssl
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelward.api.crd import KINDS, crd
from modelward.rules.admission_policy import catalogue_policies
from modelward.rules.check import baseline_policy
from modelward.rules.fixtures import good_model, strict_policy
from tests.corpus import policy
from tests.integration.admission import cpu_seconds, namespace
from tests.integration.apiserver import ApiServer, started

CLIENTS = 16
POLICY = "ValidatingAdmissionPolicy"


async def _client(server: ApiServer, request: bytes, status: bytes, until: float, waits: list[float]) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), ssl=context)
    while (began := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 " + status):
            raise SystemExit(f"the API server answered {head.splitlines()[0]!r}")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if length:
            await reader.readexactly(int(length[0].split(b":")[1]))
        else:  # chunked, and JSON has no empty line in it
            await reader.readuntil(b"\r\n0\r\n\r\n")
        waits.append(time.perf_counter() - began)
    writer.close()


async def _load(server: ApiServer, space: str, manifest: dict[str, Any], status: str, seconds: float) -> list[float]:
    body = json.dumps(manifest).encode()
    path = f"/apis/modelward.io/v1alpha1/namespaces/{space}/modeldeployments?dryRun=All"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {server.token}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    waits: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(server, request, status.encode(), until, waits) for _ in range(CLIENTS)))
    return waits


@contextmanager
def _apiserver(bin_dir: Path) -> Iterator[ApiServer]:
    server = started(bin_dir)
    try:
        result = server.apply(*(crd(kind) for kind in KINDS))
        assert result.ok, result.stderr
        assert server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s").ok
        spaces = [namespace("plain"), namespace("strict")]
        deadline = time.monotonic() + 30
        while not server.apply(*spaces, policy(strict_policy(), "strict", "strict"), baseline_policy()).ok:
            assert time.monotonic() < deadline, "the resources were never served"
            time.sleep(0.5)
        yield server
    finally:
        server.stop()


def _emptied(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same policies, whose one validation always holds."""
    emptied = copy.deepcopy(objects)
    for item in emptied:
        if item["kind"] == POLICY:
            item["spec"] |= {"variables": [], "validations": [{"expression": "object.metadata.name != ''"}]}
    return emptied


def _in_force(server: ApiServer, objects: list[dict[str, Any]], *, judges: bool) -> None:
    """Put these admission policies in place of what is there, and wait until they, and no others, are in force."""
    server.delete(*catalogue_policies())
    if objects:
        assert server.apply(*objects).ok
    bare = {**good_model(), "spec": {"model": {"image": "x"}}}
    deadline = time.monotonic() + 30
    for space in ("plain", "strict"):
        while True:
            create = server.kubectl("create", "--dry-run=server", "-n", space, "-f", "-", input=json.dumps(bare))
            if create.ok is not judges:
                break
            assert time.monotonic() < deadline, "the backstop never came into force, or never left it"
            time.sleep(0.3)
    time.sleep(2)  # what it compiles in the background is not to be counted


def main() -> None:
    """Measure, and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=4, help="of each measurement")
    arguments.add_argument("--rounds", type=int, default=3, help="in which every way has its turn")
    given = arguments.parse_args()
    open_model = good_model()
    refused = {**open_model, "spec": {**open_model["spec"], "securityTest": {}, "access": {"rules": []}}}
    backstop = catalogue_policies()
    ways: dict[str, tuple[list[dict[str, Any]], str, dict[str, Any], str]] = {
        "without": ([], "plain", open_model, "201"),
        "empty": (_emptied(backstop), "plain", open_model, "201"),
        "baseline": (backstop, "plain", open_model, "201"),
        "strict": (backstop, "strict", open_model, "201"),
        "refused": (backstop, "plain", refused, "403"),
    }
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    slowest: dict[str, list[float]] = defaultdict(list)
    with _apiserver(Path(os.environ["MODELWARD_TEST_BIN"])) as server:
        pid = server.processes[1].pid
        for turn in range(given.rounds + 1):
            for name, (objects, space, manifest, status) in ways.items():
                _in_force(server, objects, judges=objects is backstop)
                before = cpu_seconds(pid)
                waits = asyncio.run(_load(server, space, manifest, status, given.seconds))
                if turn:  # the first is to warm up
                    rates[name].append(len(waits) / given.seconds)
                    cpu[name].append(1000 * (cpu_seconds(pid) - before) / len(waits))
                    slowest[name].append(1000 * statistics.quantiles(waits, n=100)[98])
            print(".", end="", flush=True, file=sys.stderr)
    print(f"\n{CLIENTS} clients, {given.rounds} rounds of {given.seconds:g} s, medians, {os.cpu_count()} cores")
    print(f"{'':<18}{'creates/s':>10}{'ratio':>8}{'CPU ms':>9}{'added':>8}{'p99 ms':>9}")
    for name in ways:
        rate, used = statistics.median(rates[name]), statistics.median(cpu[name])
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates["without"], strict=True))
        added = statistics.median(a - b for a, b in zip(cpu[name], cpu["without"], strict=True))
        print(f"{name:<18}{rate:>10.0f}{ratio:>8.2f}{used:>9.2f}{added:>8.2f}{statistics.median(slowest[name]):>9.0f}")


if __name__ == "__main__":
    main()
