"""What the access log costs a request: on the event loop, and in the thread that links and writes.

python -m tests.bench.access_log
"""

from __future__ import annotations

import os
import time

import msgspec

from modelward.logchain import Linker
from modelward.sidecar.access_log import AccessLog, FileTarget
from modelward.sidecar.caller import Caller
from modelward.sidecar.exchange import Exchange
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.record import Recorder

LINES, ROUNDS = 10_000, 7


def exchange() -> Exchange:
    made = Exchange("0123456789ab-00000001")
    made.method, made.address, made.status, made.operation, made.model = b"POST", "10.0.0.7", 200, "Infer", "wdbc"
    made.caller = Caller("user:alice", "https://issuer.example", frozenset())
    made.purpose, made.fields, made.rows, made.received, made.sent = "diagnosis", ("x",), 1, 430, 93
    return made


def best(work, lines: int = LINES) -> float:
    """Microseconds a line, the best of some rounds: what else the machine does is not ours."""
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times) / lines * 1e6


def main() -> None:
    one, recorder, linker, encode = exchange(), Recorder(), Linker(), msgspec.json.Encoder().encode
    target = os.open("/dev/null", os.O_WRONLY)
    log = AccessLog(FileTarget(target), Instruments().telemetry, max_pending=10 * LINES)

    def append() -> None:
        for _ in range(LINES):
            log.append(recorder.record(one, 1.7e9, 1000, 30))
        list(map(encode, log._records))
        log._records.clear()

    append_us = best(append)
    line = encode(recorder.record(one, 1.7e9, 1000, 30))
    lines = [line] * LINES
    link_us = best(lambda: linker.link(lines))
    log.close()
    os.close(target)
    print(
        f"a line of {len(line)} bytes: made and encoded on the event loop {append_us:.2f} us, linked {link_us:.2f} us"
    )


if __name__ == "__main__":
    main()
