"""Rate limits counted over replicas, with a real Valkey or Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modelward.sidecar import config, shared_limits
from modelward.sidecar.access import Access
from modelward.sidecar.caller import Caller
from modelward.sidecar.config import ConfigError, SharedLimits
from modelward.sidecar.problems import Refusal
from modelward.sidecar.shared_limits import Counting, Limit
from tests.unit.sidecar import harness
from tests.unit.sidecar.harness import infer, request, settings, token
from tests.unit.sidecar.valkey import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("valkey"))
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a slow server: where patience itself is not the matter, there is plenty."""
    monkeypatch.setattr(shared_limits, "PATIENCE_SECONDS", 10)


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def back(count: Counting) -> None:
    async with asyncio.timeout(60):
        while await take(count, limit(5, 60)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def counting(server: Server, password: str = "", **more: Any) -> AsyncIterator[Counting]:
    count = Counting(SharedLimits(address=server.address, model="clinic/m", **more), password)
    count.start()
    await until(lambda: not count.why)
    try:
        yield count
    finally:
        count.close()


async def take(count: Counting, limit: Limit, caller: bytes = b"alice") -> float | None:
    future: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
    if not count.take(limit, caller, future.set_result):
        return None
    return await future


_names = iter(range(10**9))


def limit(requests: int, seconds: float) -> Limit:
    return Limit.of("clinic/m", b"rule %d" % next(_names), requests, seconds)


async def test_replicas_count_together(server):
    async with counting(server) as one, counting(server) as two:
        shared = limit(5, 3600)
        answers = [await take(count, shared) for count in (one, two, one, two, one, two, one)]
        assert answers[:5] == [0.0] * 5
        assert all(3540 < wait <= 3600 for wait in answers[5:])
        assert await take(two, shared, b"bob") == 0.0  # each caller has a budget of their own
        assert await take(two, limit(5, 60)) == 0.0  # and so has each rule


async def test_the_count_leaves_nothing_behind_and_names_nobody(server):
    async with counting(server) as count:
        short = limit(3, 2)
        await take(count, short, b"issuer\0user:alice")
        kept = server.say("KEYS", "modelward:*")
        assert short.prefix in kept
        assert b"alice" not in kept
        assert b"issuer" not in kept
        await until(lambda: short.prefix not in server.say("KEYS", "modelward:*"))


@hypothesis_settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.integers(1, 6), waits=st.lists(st.floats(0, 0.15), min_size=1, max_size=25))
def test_never_more_than_the_limit_in_any_window_and_never_less(server, requests, waits):
    window = 0.25

    async def run() -> None:
        async with counting(server) as one, counting(server) as two:
            shared = limit(requests, window)
            taken: list[tuple[float, float]] = []  # the server counted it somewhen between these two
            for number, wait in enumerate(waits):
                await asyncio.sleep(wait)
                before = time.monotonic()
                answer = await take((one, two)[number % 2], shared)
                after = time.monotonic()
                surely_inside = sum(begin > after - window for begin, _ in taken)
                perhaps_inside = sum(end > before - window for _, end in taken)
                assert answer is not None
                if answer == 0.0:
                    assert surely_inside < requests
                    taken.append((before, after))
                else:
                    assert perhaps_inside >= requests
                    assert answer <= window

    asyncio.run(run())


async def test_many_at_once_get_exactly_the_limit(server):
    async with counting(server) as one, counting(server) as two:
        shared = limit(700, 60)
        answers = await asyncio.gather(*(take(random.choice((one, two)), shared) for _ in range(2000)))
        assert answers.count(0.0) == 700
        assert None not in answers


async def test_large_limits_take_little_room(server):
    async with counting(server) as count:
        large = limit(100_000, 1)
        for _ in range(20):
            assert set(await asyncio.gather(*(take(count, large) for _ in range(500)))) == {0.0}
        (key,) = [line for line in server.say("KEYS", "modelward:*").split() if large.prefix in line]
        length = int(server.say("LLEN", key.decode())[1:])
        assert length <= 2 * shared_limits.EXACT + 3


async def test_a_server_that_goes_is_told_of_and_found_again(tmp_path, capsys):
    server = Server(tmp_path)
    try:
        async with counting(server) as count:
            shared = limit(5, 60)
            assert await take(count, shared) == 0.0
            server.stop()
            await until(lambda: bool(count.why))
            started = time.monotonic()
            assert [await take(count, shared) for _ in range(100)] == [None] * 100
            assert time.monotonic() - started < 10  # nobody waits for a server that is away, nor loses patience with it
            server.start()
            await back(count)
            server.say("SCRIPT", "FLUSH")  # as after a failover
            await back(count)
    finally:
        server.stop()
    log = capsys.readouterr().err
    assert log.count("as this replica's share") >= 1
    assert "NOSCRIPT" in log
    assert log.count("together with the other replicas") == 3


async def test_a_server_that_hangs_delays_nobody_for_long(server, monkeypatch):
    monkeypatch.setattr(shared_limits, "PATIENCE_SECONDS", 0.1)
    async with counting(server) as count:
        server.say("CLIENT", "PAUSE", "4000")
        started = time.monotonic()
        assert await take(count, limit(5, 60)) is None
        assert 0.09 < time.monotonic() - started < 4
        assert await take(count, limit(5, 60)) is None
        await back(count)


async def test_a_password_is_given_and_never_told(tmp_path, capsys):
    server = Server(tmp_path, "--requirepass", "hunter2")
    try:
        async with counting(server, "hunter2") as count:
            assert await take(count, limit(1, 60)) == 0.0
        for password, code in (("wrong-secret", "WRONGPASS"), ("", "NOAUTH")):
            refused = Counting(SharedLimits(address=server.address, model="clinic/m"), password)
            refused.start()
            await until(lambda refused=refused, code=code: code in refused.why)
            assert await take(refused, limit(1, 60)) is None
            refused.close()
    finally:
        server.stop()
    log = capsys.readouterr().err
    assert "hunter2" not in log
    assert "wrong-secret" not in log


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000, b":\r\n", b":-1\r\n", b"*1\r\n:1\r\n", b"+OK\r\n", b"\r\n"]
)
async def test_answers_that_make_no_sense_end_the_connection(answer):
    class Impostor(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            self.greeted = False

        def data_received(self, data):
            self.transport.write(answer if self.greeted else b"$40\r\n" + b"a" * 40 + b"\r\n")
            self.greeted = True

    listener = await asyncio.get_running_loop().create_server(Impostor, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    count = Counting(SharedLimits(address=f"redis://127.0.0.1:{port}", model="m"))
    count.start()
    await until(lambda: not count.why)
    assert await take(count, limit(1, 60)) is None
    count.close()
    listener.close()
    await asyncio.sleep(0.05)  # for the transports to end


@pytest.mark.parametrize(
    "address", ["http://x:1", "redis://", "x:6379", "redis://:secret@x:1", "redis://x:port", "redis://x:99999"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ConfigError, match="redis://host:port") as error:
        Counting(SharedLimits(address=address, model="m"))
    assert "secret" not in str(error.value)


# --- the share of one replica, and the sidecar as a whole


def rules(requests: int = 10) -> list[dict[str, Any]]:
    return [
        {"subjects": ["user:alice"], "operations": ["Infer"], "rateLimit": {"requests": requests, "seconds": 60}},
    ]


@pytest.mark.parametrize(("requests", "replicas", "share"), [(10, 3, 3), (10, 1, 10), (2, 5, 1)])
def test_without_the_server_each_replica_gives_its_share(requests, replicas, share):
    limited = config.Rule(
        subjects=["user:a"], operations=["Infer"], rate_limit=config.RateLimit(requests=requests, seconds=60)
    )
    away = SharedLimits(address="redis://127.0.0.1:1", model="m", replicas=replicas)
    access = Access(config.Access(rules=[limited], shared_limits=away), counting=Counting(away))
    who = Caller(name="user:a", issuer="i", subjects=frozenset({"user:a"}))
    for _ in range(share):
        assert access.authorise(who, "Infer", None) is None
    with pytest.raises(Refusal) as refused:
        access.authorise(who, "Infer", None)
    assert refused.value.problem.slug == "rate-limited"


def shared_settings(server: Server, requests: int, **more: Any) -> dict[str, Any]:
    limits = {"address": server.address, "model": "clinic/m", "replicas": 2, **more}
    return {"access": settings()["access"] | {"rules": rules(requests), "sharedLimits": limits}}


def ready(running: Any) -> None:
    harness.until(lambda: running.metric("modelward_rate_limits_shared") == 1)


def test_two_sidecars_share_a_limit(run, server):
    server.say("FLUSHALL")
    one, two = run(**shared_settings(server, 10)), run(**shared_settings(server, 10))
    ready(one)
    ready(two)
    answers = [running.ask(infer()) for _ in range(8) for running in (one, two)]
    assert [answer.status for answer in answers] == [200] * 10 + [429] * 6
    assert 1 <= int(answers[-1].header["retry-after"]) <= 60
    assert one.metric('modelward_rate_limit_checks_total{counted="together"}') == 8
    assert one.metric('modelward_requests_total{outcome="rate-limited"}') == 3
    # A pipelined pair on one connection, answered in order.
    with one.client() as client:
        client.send(b"".join(one_request() for _ in range(3)))
        assert [client.read().status for _ in range(3)] == [429] * 3


def one_request() -> bytes:
    return request(infer(), bearer=token())


def test_a_sidecar_outlives_the_server(run, tmp_path):
    server = Server(tmp_path)
    try:
        running = run(**shared_settings(server, 10))
        ready(running)
        assert running.ask(infer()).status == 200
        server.stop()
        statuses = [running.ask(infer()).status for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3  # its share of two replicas
        assert running.metric('modelward_rate_limit_checks_total{counted="alone"}') == 8
        assert running.metric("modelward_rate_limits_shared") == 0
        server.start()
        ready(running)
        assert running.ask(infer()).status == 200
    finally:
        server.stop()


def test_a_client_that_leaves_while_its_limit_is_asked_for_costs_nothing(run, server):
    running = run(**shared_settings(server, 100))
    ready(running)
    server.say("CLIENT", "PAUSE", "3000")
    with running.client() as client:
        client.send(one_request())
    assert running.log(1)[0]["status"] == 499
    assert running.model.asked == []
    assert running.ask(infer()).status == 200
