"""What treatments cost: a request of 30 numbers and two texts, its fields treated, against the same one untreated.

    python -m tests.bench.treatments

Microseconds of CPU, the least of several runs: what the machine does besides shows less in the least.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import timeit
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from modelward.privacy.keys import derive
from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.schema import Schema
from modelward.sidecar.treatment import Treatments

GOAL = 5.0  # two treated fields
COLUMNS = [f"f{index}" for index in range(28)] + ["age", "salary"]
INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 30], "columns": COLUMNS},
    {"name": "name", "datatype": "BYTES", "shape": [-1]},
    {"name": "patient", "datatype": "BYTES", "shape": [-1]},
    {"name": "visit", "datatype": "BYTES", "shape": [-1]},
]
RECIPIENT = base64.b64encode(X25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
PSEUDONYM, STEP = {"treatment": "Pseudonymise"}, {"treatment": "Generalise", "step": 5}
CASES: dict[str, dict[str, Any]] = {
    "Pseudonymise and Generalise": {"name": PSEUDONYM, "age": STEP},
    "two of Pseudonymise": {"name": PSEUDONYM, "patient": PSEUDONYM},
    "Drop and Bucket": {"name": {"treatment": "Drop"}, "age": {"treatment": "Bucket", "edges": [0, 18, 65]}},
    "Mask and Round": {"name": {"treatment": "Mask", "keepLast": 4}, "age": {"treatment": "Round", "digits": 1}},
    "Pseudonymise and DateShift": {
        "name": PSEUDONYM,
        "visit": {"treatment": "DateShift", "maxDays": 30, "subject": "name"},
    },
    "Tokenise alone": {"name": {"treatment": "Tokenise", "recipient": RECIPIENT}},
}


def body(rows: int) -> bytes:
    return json.dumps(
        {
            "inputs": [
                {"name": "x", "shape": [rows, 30], "datatype": "FP64", "data": [37.5] * 30 * rows},
                {"name": "name", "shape": [rows], "datatype": "BYTES", "data": ["Ada Lovelace"] * rows},
                {"name": "patient", "shape": [rows], "datatype": "BYTES", "data": ["078-05-1120"] * rows},
                {"name": "visit", "shape": [rows], "datatype": "BYTES", "data": ["2026-03-31"] * rows},
            ]
        }
    ).encode()


def least(work: Any, number: int) -> float:
    return min(timeit.repeat(work, number=number, repeat=15, timer=time.process_time)) / number * 1e6


def main() -> int:
    failed = False
    keys = derive({1: bytes(32)}, "bench")
    print(
        f"{'treatments':<30}{'1 row':>10}{'64 rows':>10}   us, without decoding; goal for two fields and a row: {GOAL}"
    )
    for name, fields in CASES.items():
        document = {
            "binding": {"namespace": "bench", "name": "m", "generation": 1},
            "upstream": {"port": 1, "model": "m"},
            "inputs": INPUTS,
            "fields": fields,
        }
        settings = config.parse(json.dumps(document).encode())
        schema = Schema("v2", settings.inputs, "Reject")
        treatments = Treatments.build(settings, schema.declared, keys)
        assert treatments is not None
        times = []
        for rows, number in ((1, 5_000), (64, 100)):
            tensors = schema.check(Body(body(rows))).tensors
            raw = [list(tensor.data) for tensor in tensors]

            def restored(tensors: Any = tensors, raw: Any = raw) -> None:
                for tensor, data in zip(tensors, raw, strict=True):
                    tensor.data[:] = data

            def treated(tensors: Any = tensors, restored: Any = restored, apply: Any = treatments.apply) -> None:
                restored()
                apply(tensors)

            times.append(least(treated, number) - least(restored, number))
        missed = times[0] > GOAL
        failed |= missed
        print(f"{name:<30}{times[0]:>10.2f}{times[1]:>10.1f}{'   MISSED' if missed else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
