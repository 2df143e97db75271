"""What encrypted counters cost: counting, encrypting, adding, opening, and memory; writes docs/benchmarks/audit.md.

python -m tests.bench.audit --out docs/benchmarks/audit.md
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.audit import auditor
from modelward.audit.aggregate import Sum, added, public_key, sealed
from modelward.audit.layout import Counted, interval_names, layout_of
from modelward.audit.parameters import LEVEL, MAX_WINDOWS, PARAMETERS, RING
from modelward.audit.settings import Audit, Auditor
from modelward.audit.told import Window
from modelward.encrypted import envelope
from modelward.encrypted.context import Decryptor, Encryptor, Evaluator
from modelward.sidecar.auditing import _encrypted
from modelward.sidecar.tally import Tally
from modelward.sidecar.tensors import Tensor, TensorSpec
from tests.unit.sidecar.harness import COLUMNS, Running, infer, settings, token

SECONDS, NOW, REQUESTS = 300, 3_000_000, 3000
EDGES = tuple(float(edge) for edge in range(10, 100, 10))
COUNTED = [
    Counted("a", interval_names(EDGES), EDGES),
    Counted("b", tuple(map(str, range(20)))),
    Counted("c", interval_names(EDGES), EDGES),
    Counted("a", ("young", "old"), (40.0,), outcome=True),
]
LAYOUT = layout_of(COUNTED)


def times(work: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.process_time) -> float:
    """The median, in milliseconds: of the processor, unless another clock is given."""
    found = []
    for _ in range(rounds):
        began = clock()
        work()
        found.append(1000 * (clock() - began))
    return statistics.median(found)


def audit(keys: str = "0" * 64) -> Audit:
    who = Auditor("DataPolicy p", keys, "audit-0.keys", "0" * 64, 3600, 2, 10)
    return Audit([who], COUNTED, SECONDS)


def counting() -> float:
    """Microseconds that a request of one row takes to be counted, in four blocks."""
    spec = TensorSpec(msgspec.convert(settings()["inputs"][0], type(settings_of().inputs[0])))
    tally = Tally(audit(), {"x": spec})
    tensors = [Tensor(spec, [1, COLUMNS], [45.0, 3.0, 71.0])]

    def one() -> None:
        for _ in range(1000):
            rows = tally.begin(tensors)
            tally.treated(rows, tensors)
            tally.count(rows, (True,))

    return times(one, 30)


def settings_of() -> Any:
    from modelward.sidecar import config  # noqa: PLC0415 - slow, and for one figure

    return config.parse(json.dumps(settings()).encode())


def process(keys: bytes) -> tuple[float, float, int]:
    """Of the process that encrypts a window: milliseconds by the clock, of the processor, and its largest memory."""
    counts = [100] * LAYOUT.size
    asyncio.run(_encrypted(counts, [keys]))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = times(lambda: asyncio.run(_encrypted(counts, [keys])), 10, time.perf_counter)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 10
    return clock, 1000 * spent, after.ru_maxrss << 10


def resident(keys: bytes) -> int:
    """Bytes that a sidecar holds after some requests and a window; a process of its own measures it.

    It counts where there are keys, which are made elsewhere: Pyfhel is in no sidecar.
    """
    command = [sys.executable, "-m", "tests.bench.audit", "--resident"]
    return int(subprocess.run(command, input=keys, check=True, capture_output=True).stdout.split()[-1])


def _resident(keys: bytes) -> int:
    audited = bool(keys)
    changes = {"audit": msgspec.to_builtins(audit(envelope.digest(keys)))} if audited else {}

    class Audited(Running):
        def setup(self, *arguments: Any, **more: Any) -> Any:
            made = super().setup(*arguments, **more)
            return type(made)(**{name: getattr(made, name) for name in made.__slots__} | {"audit_keys": (keys,)})

    with tempfile.TemporaryDirectory() as folder:
        running = (Audited if audited else Running)(settings(**changes), Path(folder))
        bearer = token()
        for _ in range(REQUESTS):
            assert running.ask(infer(), bearer=bearer).status == 200
        if audited:
            auditing = running.sidecar._resources.auditing
            assert auditing is not None
            auditing._clock = lambda: time.time() + SECONDS
            while not auditing.told().waiting:
                time.sleep(0.1)
        held = int(running.metric("process_resident_memory_bytes"))
        running.stop()
    return held


def figures() -> list[tuple[str, str]]:
    """Names and figures, in order."""
    with tempfile.TemporaryDirectory() as folder:
        signer = Ed25519PrivateKey.generate()
        began = time.perf_counter()
        keys = auditor.generate(Path(folder), signer.public_key().public_bytes_raw().hex())
        made = 1000 * (time.perf_counter() - began)
        encryptor = Encryptor(PARAMETERS, public_key(keys.public))
        vector = np.full(4096, 100)
        encrypting = times(lambda: encryptor.encrypt_integers(vector), 50)
        left, right = encryptor.encrypt_integers(vector), encryptor.encrypt_integers(vector)
        seal = Evaluator(PARAMETERS)
        loaded = seal.load(left), seal.load(right)
        name, layout = envelope.digest(keys.public), LAYOUT.digest()
        one = encryptor.encrypt_integers(np.array([100, *[0] * (LAYOUT.size - 1)]))
        total = added(Sum(name, layout), Window(name, layout, NOW, left), "a", SECONDS, NOW + SECONDS)
        window = Window(name, layout, NOW, right)
        adding = times(lambda: added(total, window, "b", SECONDS, NOW + SECONDS), 100)
        decryptor = Decryptor(PARAMETERS, keys.secret, public_key(keys.public))
        most = left
        for _ in range(MAX_WINDOWS.bit_length() - 1):
            most = RING.add(most, most)
        empty = encryptor.encrypt_integers(np.zeros(4096, dtype=np.int64))
        genuine = added(Sum(name, layout), Window(name, layout, NOW, empty), "a", SECONDS, NOW + SECONDS)
        content = sealed(genuine, LAYOUT.encode(), signer, model="m/m", policy="p", minimum=10)
        opening = times(lambda: auditor.opened(Path(folder), content), 10)
        clock, spent, memory = process(keys.public)
        budget = decryptor.noise_budget(left, LEVEL), decryptor.noise_budget(most, LEVEL)
        size = len(one), len(keys.public), len(content)
    plain, audited = resident(b""), resident(keys.public)
    return [
        ("counting a row, four blocks, on a request's way", f"{counting():.1f} us"),
        ("encrypting 4,096 cells, Pyfhel alone", f"{encrypting:.2f} ms"),
        ("a window: the process that encrypts, from start to end", f"{clock:.0f} ms ({spent:.0f} ms of the processor)"),
        ("its largest memory, for as long", f"{memory / 2**20:.0f} MiB"),
        ("a ciphertext / the auditor's public key / an aggregate", " / ".join(f"{one:,}" for one in size) + " bytes"),
        ("controller: check and add a window, numpy", f"{adding:.2f} ms"),
        ("the same two ciphertexts, SEAL's addition alone", f"{times(lambda: seal.add(*loaded), 200):.3f} ms"),
        ("noise budget, fresh / a sum of 65,536, the worst case", f"{budget[0]} / {budget[1]} bits"),
        ("auditor: key generation / opening an aggregate", f"{made:.0f} / {opening:.0f} ms"),
        (
            f"sidecar's memory after {REQUESTS:,} requests, without / with counters",
            f"{plain / 2**20:.1f} / {audited / 2**20:.1f} MiB",
        ),
    ]


def page(rows: list[tuple[str, str]]) -> str:
    """docs/benchmarks/audit.md."""
    lines = [
        "# Encrypted counters, measured",
        "",
        "`make bench-audit` wrote this page. BFV, n = 4096, primes of 36, 36 and 37 bits: 4,096 cells of up to 2^39 in"
        " a ciphertext. Medians, of the processor's time where nothing else is said. «Sidecar's memory» is that of a"
        " test's process with a model server in it, in both cases.",
        "",
        "| what | measured |",
        "|---|---|",
        *(f"| {name} | {figure} |" for name, figure in rows),
        "",
        f"Machine: {os.cpu_count()} cores; load when the run ended {os.getloadavg()[0]:.1f}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--resident", action="store_true")
    arguments = parser.parse_args()
    if arguments.resident:
        print(_resident(sys.stdin.buffer.read()))
        return
    text = page(figures())
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
