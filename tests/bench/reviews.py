"""Reviews put straight to the admission server, and to kopf's own webhook server: CPU and memory."""

from __future__ import annotations

import copy
import json
import os
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress

from modelward.admission.decide import Surroundings, decide
from modelward.admission.review import decode
from modelward.api.validate import canonical, parse
from modelward.rules.check import baseline_policy
from modelward.rules.prepared import prepare
from tests.bench.creates import SPACE
from tests.bench.http_load import counted, load, request
from tests.bench.report import Row
from tests.corpus import POLICIES
from tests.integration import admission
from tests.integration.admission import Authority, cpu_seconds, memory_mib
from tests.integration.apiserver import ApiServer
from tests.ports import free_port

CONNECTIONS = 8
VIOLATIONS = 15
_MEASURED, _WARM = 4000, 500
_CHUNK = 10_000
_POD = {"group": "", "version": "v1", "kind": "Pod"}
_MODEL = {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"}


def policies() -> list[dict[str, Any]]:
    """The policies in force beside `baseline`: one that asks for the whole catalogue."""
    document = {
        "apiVersion": "modelward.io/v1alpha1",
        "kind": "ClusterDataPolicy",
        "metadata": {"name": "everything"},
        "spec": POLICIES["strict"],
    }
    return [canonical(parse(document))]


def good() -> dict[str, Any]:
    return admission.model("m", SPACE)


def bad() -> dict[str, Any]:
    """A model that breaks fifteen rules: the first so many parts are taken out of a good one."""
    manifest = copy.deepcopy(good())
    around = Surroundings([prepare(policy) for policy in (baseline_policy(), *policies())], {}, None)
    keys = [("metadata", "annotations"), *(("spec", part) for part in sorted(manifest["spec"]) if part != "model")]
    for part, key in keys:
        without = copy.deepcopy(manifest)
        del without[part][key]
        decision = decide(decode(review(without)), around, datetime.now(UTC))
        broken = {violation.rule for violation in decision.verdict.violations}
        if len(broken) <= VIOLATIONS:
            manifest = without
        if len(broken) == VIOLATIONS:
            return manifest
    raise AssertionError(f"no way was found to break {VIOLATIONS} rules: the catalogue has changed")


def review(item: dict[str, Any], kind: dict[str, str] | None = None, *, dry_run: bool = False) -> bytes:
    asked = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": kind or _MODEL,
        "resource": {"group": "modelward.io", "version": "v1alpha1", "resource": "modeldeployments"},
        "name": item["metadata"]["name"],
        "namespace": SPACE,
        "operation": "CREATE",
        "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
        "object": item,
        "oldObject": None,
        "dryRun": dry_run,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked}).encode()


def _cpu_per_review(pid: int, url: str, path: str, body: bytes, context: ssl.SSLContext) -> tuple[float, float]:
    """CPU of the process a review, in microseconds, and reviews a second."""
    payload = [request(path, body)]
    load(url, counted(payload, _WARM), connections=CONNECTIONS, expected=200, context=context)
    before = cpu_seconds(pid)
    done = load(url, counted(payload, _MEASURED), connections=CONNECTIONS, expected=200, context=context)
    return (cpu_seconds(pid) - before) / _MEASURED * 1e6, done.rate


def measure(
    server: ApiServer,
    folder: Path,
    authority: Authority,
    context: ssl.SSLContext,
    count: int,
    progress: Progress,
) -> list[Row]:
    """Return the rows on reviews."""
    bodies = {"no violation": review(good(), dry_run=True), f"{VIOLATIONS} violations": review(bad(), dry_run=True)}
    task = progress.add_task("reviews, CPU", total=2 * len(bodies))
    process = admission.start(server, folder)
    before = process.memory_mib()
    ours, theirs = {}, {}
    try:
        url = f"https://127.0.0.1:{process.port}"
        for name, body in bodies.items():
            ours[name] = _cpu_per_review(process.process.pid, url, "/admit", body, context)
            progress.advance(task)
        after = _soak(process, url, context, count, progress)
    finally:
        process.kill()
    peer, memory = _peer(server, folder, authority)
    try:
        for name, body in bodies.items():
            theirs[name] = _cpu_per_review(peer.pid, f"https://127.0.0.1:{_port(peer)}", "/judge", body, context)
            progress.advance(task)
    finally:
        peer.kill()
        peer.wait()
    rows = _memory(before, after, count)
    rows.append(Row("resident memory of kopf's server, MiB", memory))
    for name in bodies:
        rows.append(Row(f"CPU of a review, us: {name}", ours[name][0], note=f"{ours[name][1]:,.0f}/s on one core"))
        rows.append(
            Row(f"CPU of a review by kopf's server, us: {name}", theirs[name][0], note=f"{theirs[name][1]:,.0f}/s")
        )
        rows.append(Row(f"kopf's CPU over ours: {name}", theirs[name][0] / ours[name][0]))
    return rows


def footprint(server: ApiServer, folder: Path, context: ssl.SSLContext, count: int, progress: Progress) -> list[Row]:
    """Return the rows on memory alone."""
    process = admission.start(server, folder)
    try:
        before = process.memory_mib()
        return _memory(before, _soak(process, f"https://127.0.0.1:{process.port}", context, count, progress), count)
    finally:
        process.kill()


def _memory(before: float, after: float, count: int) -> list[Row]:
    return [
        Row("resident memory of a replica after its start, MiB", before, "<= 64", before <= 64),
        Row(f"resident memory after {count:,} reviews more, MiB", after, "<= 64", after <= 64),
    ]


def _soak(process: admission.Server, url: str, context: ssl.SSLContext, count: int, progress: Progress) -> float:
    """All sorts of reviews, refusals with their Events among them; return the memory afterwards."""
    pods = [admission.pod(f"p{index}", SPACE) for index in range(4)]
    refused = bad()
    mixed = [
        *(request("/admit", review(good())) for _ in range(5)),
        *(request("/admit", review({**refused, "metadata": {"name": f"n{index}"}})) for index in range(100)),
        *(request("/admit", review(pod, _POD)) for pod in pods),
    ]
    task = progress.add_task("reviews, memory", total=count)
    for begun in range(0, count, _CHUNK):
        wanted = min(_CHUNK, count - begun)
        load(url, counted(mixed, wanted), connections=CONNECTIONS, expected=200, context=context)
        progress.advance(task, wanted)
    return process.memory_mib()


_PORTS: dict[int, int] = {}


def _port(peer: subprocess.Popen[bytes]) -> int:
    return _PORTS[peer.pid]


def _peer(server: ApiServer, folder: Path, authority: Authority) -> tuple[subprocess.Popen[bytes], float]:
    """Start kopf's server; return it and its memory once it answers."""
    certificate, key, judged_by = folder / "peer.crt", folder / "peer.key", folder / "policies.json"
    chain, pem = authority.pair(serial=5000)
    certificate.write_bytes(chain)
    key.write_bytes(pem)
    judged_by.write_text(json.dumps([baseline_policy(), *policies()]))
    port = free_port()
    arguments = [str(port), str(certificate), str(key), str(judged_by)]
    log = (folder / "peer.log").open("wb")
    peer = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.kopf_peer", *arguments],
        env=os.environ | {"KUBECONFIG": str(server.kubeconfig)},
        stdout=log,
        stderr=log,
    )
    log.close()
    _PORTS[peer.pid] = port
    context = ssl.create_default_context(cadata=authority.pem.decode())
    payload = [request("/judge", review(good(), dry_run=True))]
    deadline = time.monotonic() + 60
    while True:
        try:
            load(f"https://127.0.0.1:{port}", counted(payload, 1), connections=1, expected=200, context=context)
        except (RuntimeError, OSError) as error:
            if peer.poll() is not None or time.monotonic() > deadline:
                peer.kill()
                text = (folder / "peer.log").read_text()[-2000:]
                raise RuntimeError(f"kopf's server did not come up ({error}): {text}") from None
            time.sleep(0.2)
        else:
            return peer, memory_mib(peer.pid)
