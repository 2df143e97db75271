"""What a connection leaves behind: nothing, at once. A TLS connection weighs some hundred KiB, and cycles of objects
wait for a collector that, with so little garbage, hardly ever looks at all of them."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable

import pytest

from modelward.sidecar.config import Tls
from modelward.sidecar.tls import server_context
from tests.unit.sidecar.harness import infer, request
from tests.unit.sidecar.pki import LOCALHOST, Authority

KINDS = ("Connection", "RequestReader", "HttpRequestParser", "SSLProtocol", "_SSLProtocolTransport", "SSLObject",
         "Exchange", "UpstreamConnection", "HttpResponseParser")  # fmt: skip


def alive(kinds: tuple[str, ...]) -> Counter[str]:
    return Counter(name for name in (type(each).__name__ for each in gc.get_objects()) if name in kinds)


def left_by(ask: Callable[[], None], kinds: tuple[str, ...] = KINDS) -> dict[str, int]:
    """What there is more than one more of, after a moment, when it was done twenty times.

    One more connection to the model is kept where the readiness probe had the other when a request came.
    """
    ask()
    time.sleep(0.2)
    gc.collect()
    gc.disable()
    try:
        before = alive(kinds)
        for _ in range(20):
            ask()
        until = time.monotonic() + 30
        while True:
            left = {name: count for name, count in (alive(kinds) - before).items() if count > 1}
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.05)
    finally:
        gc.enable()


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_has_ended_is_freed_without_the_collector(run, tmp_path, tls):
    authority = Authority()
    running = run(server_context(Tls(), *authority.issue(tmp_path, LOCALHOST)) if tls else None)
    context = authority.client_context() if tls else None

    def ask() -> None:
        with running.client(context) as client:
            client.send(request(infer()))
            assert client.read().status == 200

    assert not left_by(ask)


def test_so_is_one_to_the_model(running):
    def behaviour(connection, _):
        connection.answer(b"{}", header=b"connection: close\r\n")
        connection.transport.close()

    running.model.behaviour = behaviour

    def ask() -> None:
        assert running.ask(infer()).status == 200

    assert not left_by(ask, tuple(kind for kind in KINDS if kind != "HttpRequestParser"))  # the test's own model's
