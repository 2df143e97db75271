"""The client of `modelward attack` against a server that ends connections which it had promised to keep."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from modelward.attack.driver import Budget, Driver
from modelward.attack.exchange import Asking, Reply, Request
from modelward.cli.attack_client import Client, Tls, Url

_ANSWER = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers the first request of each connection, and reads the second without a word."""

    def __init__(self) -> None:
        self.read = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                for answer in (_ANSWER, b""):
                    if not self._request(connection):
                        break
                    self.read += 1
                    connection.sendall(answer)

    def _request(self, connection: socket.socket) -> bool:
        came = b""
        while b"\r\n\r\n" not in came:
            piece = connection.recv(4096)
            if not piece:
                return False
            came += piece
        return True


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.socket.shutdown(socket.SHUT_RDWR)
    made.socket.close()
    made.thread.join(10)
    assert not made.thread.is_alive()


def test_what_is_sent_anew_is_counted_and_keeps_to_the_budget(server: Server) -> None:
    def once() -> Asking[Reply]:
        reply: Reply = yield Request("GET", "/v2")
        return reply

    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with Client(Url.of(f"http://127.0.0.1:{server.socket.getsockname()[1]}"), Tls()) as client:
        driver = Driver(client.send, Budget(requests=1000, per_second=10.0), lambda: now[0], sleep)
        for _ in range(4):
            assert driver.ask(once(), "").status == 200
    assert driver.sent == server.read == 7, "each but the first is sent twice"
    assert now[0] == pytest.approx(0.6), "at the rate that is allowed"
