"""What a large tensor costs the sidecar: read, checked, seen as numbers and written anew, as JSON and as bytes.

    python -m tests.bench.tensors [--kib 1024]

Milliseconds of one process, the least of several runs: what the machine does besides shows less in the least.
"""

from __future__ import annotations

import json
import struct
import sys
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

from modelward.sidecar import config
from modelward.sidecar.binary import Body
from modelward.sidecar.schema import Schema
from tests.bench.page import command_line

GOAL = 2.0  # milliseconds for a MiB of numbers as bytes
WIDTH = 16
DTYPES = {"UINT8": "u1", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
WORD = b"a word of text"


def bodies(datatype: str, size: int) -> tuple[Body, Body]:
    """One tensor of about `size` bytes, as JSON and as bytes."""
    if datatype == "BYTES":
        rows = size // (len(WORD) + 4) // WIDTH
        raw = (struct.pack("<I", len(WORD)) + WORD) * (rows * WIDTH)
        data: list[Any] = [WORD.decode()] * (rows * WIDTH)
    else:
        dtype = np.dtype(DTYPES[datatype])
        rows = size // dtype.itemsize // WIDTH
        array = np.random.default_rng(1).uniform(0, 100, rows * WIDTH).astype(dtype)
        raw, data = array.tobytes(), array.tolist()
    entry = {"name": "x", "shape": [rows, WIDTH], "datatype": datatype}
    head = json.dumps({"inputs": [entry | {"parameters": {"binary_data_size": len(raw)}}]}).encode()
    as_json = json.dumps({"inputs": [entry | {"data": data}]}, separators=(",", ":")).encode()
    return Body(as_json), Body(head + raw, b"%d" % len(head))


def passing(schema: Schema, content: Body) -> Callable[[], None]:
    """What a request does on its way, with a detector but without what the detector itself computes."""

    def work() -> None:
        checked = schema.check(content)
        (tensor,) = checked.tensors
        if tensor.spec.numeric:
            tensor.numbers()
        checked.encode()

    return work


def main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--kib", type=int, default=1024, help="size of the tensor as bytes")
    kib = parser.parse_args().kib
    failed = False
    print(f"{kib} KiB of{'':<10}{'JSON, KiB':>12}{'JSON, ms':>12}{'bytes, ms':>12}   goal for numbers: {GOAL}")
    for datatype in (*DTYPES, "BYTES"):
        declared = config.TensorDeclaration("x", datatype, [-1, WIDTH], minimum=None if datatype == "BYTES" else 0.0)
        schema = Schema("v2", [declared], "Reject")
        as_json, as_bytes = bodies(datatype, kib << 10)
        times = [
            min(timeit.repeat(passing(schema, content), number=1, repeat=15)) * 1e3 for content in (as_json, as_bytes)
        ]
        missed = datatype != "BYTES" and times[1] > GOAL * kib / 1024
        failed |= missed
        print(
            f"{datatype:<18}{len(as_json.content) >> 10:>12}{times[0]:>12.2f}{times[1]:>12.2f}"
            f"{'   MISSED' if missed else ''}"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
