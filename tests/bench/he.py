"""The homomorphic path beside raw Pyfhel and, where it is installed, TenSEAL; writes docs/benchmarks/he.md.

    python -m tests.bench.he --out docs/benchmarks/he.md

All sides do the same work in the same run, in turns: 30 features, n = 8192, primes of 60, 40 and 60 bits, scale 2^40.
"raw Pyfhel" is the bare operations on ciphertexts that are loaded already; ours loads, checks, scores and seals.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from Pyfhel import Pyfhel
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from modelward.encrypted import envelope
from modelward.encrypted import score as scoring
from modelward.encrypted.client import Client, ClientKeys
from modelward.encrypted.context import Encryptor, Evaluator
from modelward.encrypted.envelope import Statistic
from modelward.encrypted.model import read
from modelward.encrypted.parameters import Parameters
from modelward.encrypted.score import width_of
from modelward.encrypted.serve import Server

FEATURES, ROWS = 30, 4096
COLUMNS = [f"f{index}" for index in range(FEATURES)]
TENSEAL = """
import json, sys, time, numpy as np, tenseal as ts
context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60])
context.global_scale = 2**40
context.generate_galois_keys()
x, w = np.random.default_rng(0).normal(size=(2, 30))
vector = ts.ckks_vector(context, x)
times = []
for _ in range(int(sys.argv[1])):
    started = time.perf_counter()
    answer = vector.dot(w)
    times.append(time.perf_counter() - started)
print(json.dumps({"times": times, "error": abs(answer.decrypt()[0] - float(x @ w))}))
"""


class Times(NamedTuple):
    """Of runs of one thing: seconds by the clock, and of the processor, which ratios are taken of."""

    clock: list[float]
    processor: list[float]

    @property
    def cost(self) -> float:
        """The median of the processor's seconds."""
        return statistics.median(self.processor)


def timed(work: Callable[[], Any], count: int) -> Times:
    """Run `count` times."""
    clock, processor = [], []
    for _ in range(count):
        began, started = time.process_time(), time.perf_counter()
        work()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - began)
    return Times(clock, processor)


def together(parts: Iterable[Times]) -> Times:
    """All the runs of several rounds."""
    parts = list(parts)
    return Times([t for part in parts for t in part.clock], [t for part in parts for t in part.processor])


def milliseconds(times: Times, quantile: float = 0.5) -> float:
    return float(np.quantile(times.clock, quantile)) * 1e3


def raw_pyfhel(count: int) -> tuple[Times, Times]:
    """Seconds of a score by row, and of a batch by column, with Pyfhel's operations alone."""
    he = Pyfhel()
    he.contextGen(scheme="CKKS", n=8192, scale=2**40, qi_sizes=[60, 40, 60], sec=128)
    he.keyGen()
    he.rotateKeyGen(rot_steps=[1, 2, 4, 8, 16])
    rng = np.random.default_rng(0)
    weights = rng.normal(size=FEATURES)
    row = he.encryptFrac(np.tile(np.pad(rng.normal(size=FEATURES), (0, 2)), 128))
    plain = np.tile(np.pad(weights, (0, 2)), 128)

    def score() -> None:
        product = he.multiply_plain(row, he.encodeFrac(plain), in_new_ctxt=True)
        he.rescale_to_next(product)
        for step in (16, 8, 4, 2, 1):
            product = he.add(product, he.rotate(product, step, in_new_ctxt=True))

    columns = [he.encryptFrac(rng.normal(size=ROWS)) for _ in range(FEATURES)]

    def batch() -> None:
        total = None
        for weight, column in zip(weights, columns, strict=True):
            product = he.multiply_plain(column, he.encodeFrac(np.full(ROWS, weight)), in_new_ctxt=True)
            total = product if total is None else he.add(total, product)
        he.rescale_to_next(total)

    return timed(score, count), timed(batch, max(count // 10, 3))


def ours(count: int) -> dict[str, Any]:
    """What a client and a server do, end to end, in milliseconds, bytes and errors."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=FEATURES)
    model = read(json.dumps({"coef": weights.tolist(), "intercept": 0.1}).encode())
    making = timed(lambda: ClientKeys.generate(columns=64), 3)
    keys = ClientKeys.generate(columns=64)
    client = Client(keys)
    server = Server(model, "m", client.parameters)
    loading = timed(lambda: server.guest(keys.public), 5)
    guest = server.guest(keys.public)
    row = rng.normal(size=(1, FEATURES))
    request = client.encrypt(row, COLUMNS, model="m", now=0, layout="row")
    answer = server.answer(request, guest)
    scores, _ = client.decrypt(answer)
    many = rng.normal(size=(ROWS, FEATURES))
    batch = client.encrypt(many, COLUMNS, model="m", now=0, layout="columns")
    batch_scores, header = client.decrypt(server.answer(batch, guest))
    few = max(count // 10, 3)
    return {
        "keygen": milliseconds(making),
        "load keys": milliseconds(loading),
        "encrypt": milliseconds(timed(lambda: client.encrypt(row, COLUMNS, model="m", now=0, layout="row"), few)),
        "score": timed(lambda: server.answer(request, guest), count),
        "decrypt": milliseconds(timed(lambda: client.decrypt(answer), few)),
        "batch": timed(lambda: server.answer(batch, guest), few),
        "error": float(np.abs(scores[:, 0] - (row @ weights + 0.1)).max()),
        "batch error": float(np.abs(batch_scores[:, 0] - (many @ weights + 0.1)).max()),
        "stated error": header.error,
        "request bytes": len(request),
        "answer bytes": len(answer),
        "rotation bytes": envelope.opened(keys.public, envelope.Keys)[0].sizes[1],
        "keys bytes": len(keys.public),
    }


def bare_score(count: int) -> Times:
    """Our own operations alone, without envelope: what raw Pyfhel's are compared with like for like."""
    rng = np.random.default_rng(0)
    model = read(json.dumps({"coef": rng.normal(size=FEATURES).tolist(), "intercept": 0.1}).encode())
    keys = ClientKeys.generate(columns=32)
    parts = dict(zip(("public", "rotation"), envelope.opened(keys.public, envelope.Keys)[1], strict=True))
    width = width_of(FEATURES)
    content = Encryptor(Parameters(), parts["public"]).encrypt(
        np.tile(np.pad(rng.normal(size=FEATURES), (0, width - FEATURES)), 4096 // width)
    )
    evaluator = Evaluator(Parameters(), rotation_keys=parts["rotation"])
    row = evaluator.load(content)
    return timed(lambda: scoring._by_row(evaluator, model.layers[0], row, 1024.0), count)


def raw_sums(count: int) -> Times:
    """The sums of columns with Pyfhel's operations alone: 12 rotations and additions each, at full level."""
    he = Pyfhel()
    he.contextGen(scheme="CKKS", n=8192, scale=2**40, qi_sizes=[60, 40, 60], sec=128)
    he.keyGen()
    he.rotateKeyGen(rot_steps=[1 << bit for bit in range(12)])
    rng = np.random.default_rng(0)
    columns = [he.encryptFrac(rng.normal(size=ROWS)) for _ in range(FEATURES)]

    def sums() -> None:
        for column in columns:
            for bit in range(12):
                column = he.add(column, he.rotate(column, 1 << bit, in_new_ctxt=True), in_new_ctxt=True)  # noqa: PLW2901

    return timed(sums, count)


def statistics_of(parameters: Parameters, statistic: Statistic, count: int) -> dict[str, Any]:
    """Means or counts of columns, as a sidecar's worker computes them, and how far off they are."""
    rng = np.random.default_rng(0)
    shape = (ROWS, FEATURES)
    rows = rng.normal(size=shape) if statistic == "mean" else rng.integers(0, 2, shape).astype(float)
    keys = ClientKeys.generate(parameters, rows=ROWS)
    client, server = Client(keys), Server(None, "m", parameters, statistics=True)
    guest = server.guest(keys.public)
    request = client.encrypt(rows, COLUMNS, model="m", now=0, statistic=statistic)
    values, header = client.decrypt(server.answer(request, guest))
    truth = rows.mean(axis=0) if statistic == "mean" else rows.sum(axis=0)
    return {
        "times": timed(lambda: server.answer(request, guest), count),
        "error": float(np.abs(values[0] - truth).max()),
        "stated error": header.error,
        "keys": len(keys.public),
    }


def breast_cancer() -> dict[str, Any]:
    """Whether the encrypted classifier agrees with the plain one on the test rows, by margin."""
    features, labels = load_breast_cancer(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    plain = LogisticRegression(max_iter=1000).fit(features[:400], labels[:400])
    weights = {"coef": plain.coef_[0].tolist(), "intercept": float(plain.intercept_[0]), "link": "logistic"}
    keys = ClientKeys.generate(columns=32)
    client = Client(keys)
    server = Server(read(json.dumps(weights).encode()), "m", client.parameters)
    guest = server.guest(keys.public)
    test = features[400:]
    request = client.encrypt(test, COLUMNS, model="m", now=0, layout="columns")
    scores, header = client.decrypt(server.answer(request, guest))
    margin = np.abs(plain.decision_function(test))
    agree = (scores[:, 0] > 0.5) == plain.predict(test).astype(bool)
    beyond = margin > header.error
    return {"rows": len(test), "beyond": int(beyond.sum()), "agree": int(agree[beyond].sum()), "error": header.error}


def tenseal(python: str, count: int) -> dict[str, Any] | None:
    done = subprocess.run([python, "-c", TENSEAL, str(count)], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def report(count: int, python: str) -> str:
    rounds = [(raw_pyfhel(count), bare_score(count), ours(count)) for _ in range(3)]
    raw, raw_batch = (together(one[0][index] for one in rounds) for index in (0, 1))
    bare = together(one[1] for one in rounds)
    score, batch = (together(one[2][name] for one in rounds) for name in ("score", "batch"))
    last = rounds[-1][2]
    peer = tenseal(python, count)
    beside = f"{statistics.median(peer['times']) * 1e3:.2f} ms" if peer else "not installed"
    cancer = breast_cancer()
    few = max(count // 40, 3)
    raw_summed = raw_sums(few)
    mean = statistics_of(Parameters(), "mean", few)
    counted = statistics_of(Parameters("BFV", 4096, (36, 36, 37)), "count", few)
    error = max(max(one[2]["error"], one[2]["batch error"]) for one in rounds)
    lines = [
        "# The homomorphic path, measured",
        "",
        "`make bench-he` wrote this page. 30 features, n = 8192, primes [60, 40, 60], scale 2^40, one process, one"
        " thread; medians over three rounds in turns; ratios, batches and sums by the processor's time. «Whole» is what"
        " a sidecar's worker does for a request whose keys it knows: envelope, signature, every byte of the ciphertext,"
        " score, store, seal.",
        "",
        "| what | measured | goal |",
        "|---|---|---|",
        f"| score of a row, whole, p50 | {milliseconds(score):.2f} ms | |",
        f"| score of a row, whole, p95 | {milliseconds(score, 0.95):.2f} ms | <= 15 ms |",
        f"| raw Pyfhel: multiply, rescale, 5 rotations, p50 | {milliseconds(raw):.2f} ms | |",
        f"| whole over raw Pyfhel | {score.cost / raw.cost:.2f} | <= 1.3 |",
        f"| our operations alone over raw Pyfhel | {bare.cost / raw.cost:.2f} | |",
        f"| TenSEAL's dot, p50 | {beside} | |",
        f"| batch of {ROWS} rows, a row, whole | {batch.cost / ROWS * 1e6:.2f} us | <= 10 us |",
        f"| the same, raw Pyfhel | {raw_batch.cost / ROWS * 1e6:.2f} us | |",
        f"| greatest error of a score | {error:.1e} | <= 1e-6 |",
        f"| error that the answer states | {last['stated error']:.1e} | |",
        f"| means of {FEATURES} columns of {ROWS} rows, whole | {mean['times'].cost * 1e3:.0f} ms | |",
        f"| the same sums, raw Pyfhel | {raw_summed.cost * 1e3:.0f} ms | |",
        f"| greatest error of a mean / that the answer states | {mean['error']:.1e} / {mean['stated error']:.1e} | |",
        f"| exact counts of the same (BFV, n = 4096 [36, 36, 37]), whole | {counted['times'].cost * 1e3:.0f} ms | |",
        f"| counts that are off | {counted['error']:.0f} | 0 |",
        f"| public keys for means / for counts | {mean['keys']:,} / {counted['keys']:,} bytes | |",
        f"| key generation | {last['keygen']:.0f} ms | <= 2,000 ms |",
        f"| loading a client's keys | {last['load keys']:.1f} ms | |",
        f"| client: encrypt a row / read an answer | {last['encrypt']:.1f} / {last['decrypt']:.1f} ms | |",
        f"| rotation keys, for 64 columns | {last['rotation bytes']:,} bytes | <= 5,000,000 |",
        f"| request / answer / public keys | {last['request bytes']:,} / {last['answer bytes']:,} /"
        f" {last['keys bytes']:,} bytes | |",
        f"| breast cancer: test rows with a margin beyond the stated error ({cancer['error']:.1e}) that agree with the"
        f" plain classifier | {cancer['agree']} of {cancer['beyond']} (of {cancer['rows']} rows) | all |",
        "",
        f"Machine: {os.cpu_count()} cores; load when the run ended {os.getloadavg()[0]:.1f}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--tenseal", default=sys.executable, help="a Python that has TenSEAL")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    page = report(arguments.count, arguments.tenseal)
    print(page)
    if arguments.out:
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
