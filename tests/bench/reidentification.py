"""What counting combinations costs a request, and how far its estimates are from exact counts.

    python -m tests.bench.reidentification

On the way: what is done while the caller waits. Afterwards: hashing and counting, when the answer is out. Microseconds
of CPU, the least of several runs; four quasi-identifiers (two numbers, two texts) and a patient.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
import timeit
from collections import Counter
from typing import Any

import msgspec

from modelward.privacy.keys import derive
from modelward.reidentification.figures import figures
from modelward.reidentification.sample import MAX_KEPT, Sample
from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.reidentification import Reidentification, Rows
from modelward.sidecar.schema import Schema

GOAL = 5.0
"""Microseconds for a request of one row, on the way and afterwards: as two treated fields may take."""
K = 5
INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 30], "columns": [*(f"f{n}" for n in range(28)), "age", "income"]},
    {"name": "city", "datatype": "BYTES", "shape": [-1]},
    {"name": "sex", "datatype": "BYTES", "shape": [-1]},
    {"name": "patient", "datatype": "BYTES", "shape": [-1]},
]


def body(rows: int, seed: int) -> bytes:
    draw = random.Random(seed)
    texts = {
        "city": [f"city-{draw.randrange(50)}" for _ in range(rows)],
        "sex": [draw.choice("fm") for _ in range(rows)],
        "patient": [f"patient-{draw.randrange(10**6)}" for _ in range(rows)],
    }
    data = [float(draw.randrange(100)) for _ in range(30 * rows)]
    inputs: list[dict[str, Any]] = [{"name": "x", "shape": [rows, 30], "datatype": "FP64", "data": data}]
    inputs += [{"name": name, "shape": [rows], "datatype": "BYTES", "data": cells} for name, cells in texts.items()]
    return json.dumps({"inputs": inputs}).encode()


def least(work: Any, number: int) -> float:
    return min(timeit.repeat(work, number=number, repeat=15, timer=time.process_time)) / number * 1e6


def looked(made: Reidentification, tensors: Any) -> Rows:
    rows = made.begin(tensors)
    made.treated(rows, tensors)
    return rows


def costs() -> bool:
    schema = Schema("v2", [msgspec.convert(one, config.TensorDeclaration) for one in INPUTS], "Reject")
    settings = config.Reidentification(K, ["age", "income", "city", "sex"], "patient")
    made = Reidentification(settings, schema.declared, {}, derive({1: bytes(32)}, "bench"), "m")
    failed = False
    print(f"{'rows':>6}{'on the way':>12}{'afterwards':>12}   us; goal for one row, both together: {GOAL}")
    for rows, number in ((1, 5000), (64, 200), (1024, 20)):
        sent = [schema.check(Body(body(rows, seed))).tensors for seed in range(50)]
        taken = [looked(made, tensors) for tensors in sent]
        turn = {"at": 0}

        def later(taken: list[Any] = taken, turn: dict[str, int] = turn) -> None:
            turn["at"] = (turn["at"] + 1) % len(taken)
            made.count(taken[turn["at"]])

        on_the_way = least(lambda tensors=sent[0]: looked(made, tensors), number)
        afterwards = least(later, number)
        missed = rows == 1 and on_the_way + afterwards > GOAL
        failed |= missed
        print(f"{rows:>6}{on_the_way:>12.2f}{afterwards:>12.2f}{'   MISSED' if missed else ''}")
    report = made.report()
    size = len(msgspec.json.encode(report))
    print(
        f"a report of {len(report.sample.hashes) // 8:,} combinations: {least(made.report, 20) / 1000:.2f} ms,"
        f" {size:,} bytes"
    )
    return failed


def estimates() -> None:
    print(
        f"\n{'combinations':>13}{'kept':>7}{'rows below k':>14}{'mean error':>12}{'within 95 %':>13}"
        f"{'combinations, rms':>20}"
    )
    for there in (1000, 3000, 20_000, 100_000):
        draw = random.Random(there)
        weights = [1 / (rank + 1) for rank in range(there)]
        counts = list(Counter(draw.choices(range(there), weights, k=60_000)).values())
        share = sum(count for count in counts if count < K) / 60_000
        below, many, within, kept = [], [], 0, 0
        for _ in range(200):
            sample = Sample()
            for count in counts:
                sample.add(draw.getrandbits(64), 1, count)
            found = figures(sample, K, people=False)
            kept = len(sample.kept)
            below.append(abs(found.below - share) / share)
            many.append(found.combinations / len(counts) - 1)
            within += found.low <= share <= found.high
        rms = math.sqrt(sum(error * error for error in many) / len(many))
        mean = sum(below) / len(below)
        print(f"{len(counts):>13,}{kept:>7,}{share:>14.4f}{mean:>12.3f}{within / 2:>11.1f} %{rms:>20.3f}")
    print(
        f"exact up to {MAX_KEPT:,} combinations; above, the standard error of their number is"
        f" 1/sqrt({MAX_KEPT // 2:,}) at most"
    )


def main() -> int:
    failed = costs()
    estimates()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
