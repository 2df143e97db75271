"""What access control costs a request: python -m tests.bench.access_cost [--rounds 15].

CPU time of this process, the least and the median of several rounds: a token known already, a rule with a rate limit
counted here, and the same counted in a Valkey or Redis that is started for it (with the time until it has answered).
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop

from modelward.sidecar import config, shared_limits
from modelward.sidecar.access import Access
from modelward.sidecar.shared_limits import Counting, Limit
from tests.bench.page import command_line
from tests.unit.sidecar.harness import AUDIENCE, ISSUER, KEY, jwk, token
from tests.unit.sidecar.valkey import Server

CALLS = 20_000
ASKED = 5000


def cpu(work: Callable[[], object], rounds: int) -> str:
    """Microseconds of CPU time a call."""
    taken = []
    for _ in range(rounds):
        before = time.process_time()
        for _ in range(CALLS):
            work()
        taken.append((time.process_time() - before) / CALLS * 1e6)
    return f"{min(taken):6.2f} {statistics.median(taken):6.2f}"


async def shared(server: Server) -> str:
    """Microseconds until the server has counted, median and 99th percentile, and of our CPU."""
    shared_limits.PATIENCE_SECONDS = 10  # the machine may be busy: that is not what is measured
    counting = Counting(config.SharedLimits(address=server.address, model="bench/m"))
    counting.start()
    while counting.why:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    limit = Limit.of("bench/m", b"rule", 1000, 60)
    loop = asyncio.get_running_loop()
    waits = []
    before = time.process_time()
    for number in range(ASKED):
        answer: asyncio.Future[float | None] = loop.create_future()
        asked = time.perf_counter()
        assert counting.take(limit, b"caller %d" % (number % 50), answer.set_result)
        assert await answer is not None
        waits.append((time.perf_counter() - asked) * 1e6)
    used = (time.process_time() - before) / ASKED * 1e6
    counting.close()
    waits.sort()
    return f"p50 {waits[ASKED // 2]:.0f} us, p99 {waits[ASKED * 99 // 100]:.0f} us, CPU {used:.1f} us"


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    limit = {"requests": 1_000_000, "seconds": 1}
    issuer = {"name": "i", "issuer": ISSUER, "audiences": [AUDIENCE], "jwks": {"keys": [jwk(KEY)]}}
    rule = {"subjects": ["user:alice"], "operations": ["Infer"], "purposes": ["diagnosis"], "rateLimit": limit}
    document = json.dumps({"issuers": [issuer], "rules": [rule]}).encode()
    access = Access(msgspec.json.decode(document, type=config.Access))
    header = b"Bearer " + token().encode()
    caller = access.authenticate(header, None)
    print("us of CPU                     least median")
    print(f"a token that is known       {cpu(lambda: access.authenticate(header, None), rounds)}")
    print(f"rule and rate limit         {cpu(lambda: access.authorise(caller, 'Infer', 'diagnosis'), rounds)}")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            print(f"counted together, one by one: {uvloop.run(shared(server))}")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
