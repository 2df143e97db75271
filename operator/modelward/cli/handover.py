"""Hands a file over to the controller, which asks for it: TLS 1.3, one token a request, and nothing else to be had."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from modelward import incidents
from modelward.errand import BASELINE, DIGEST_HEADER
from modelward.signedtoken import PublicKey, TokenError

_SECONDS = 600.0  # the controller looks every few seconds; while it is away another takes over
_SOCKET_SECONDS = 10.0


class HandoverError(Exception):
    """Nobody came to fetch it."""


class Handover:
    """Serves one file until it is fetched and that is confirmed.

    Args:
        content: the file.
        digest: of the request that it was made for.
        model: namespace/name, which tokens are for.
        key: the public half of what tokens are signed with.
        tls: folder with tls.crt and tls.key.
        port: to listen on; 0: any.
    """

    def __init__(self, content: bytes, digest: str, model: str, key: PublicKey, tls: Path, port: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        self._server = _Server(context, port)
        self._server.content, self._server.digest = content, digest
        self._server.model, self._server.key = model, key
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()  # waits for the answer under way

    def wait(self, seconds: float = _SECONDS) -> None:
        """Return once it was fetched.

        Raises:
            HandoverError: nobody came.
        """
        if not self._server.done.wait(seconds):
            raise HandoverError(
                f"the controller did not fetch the baseline within {seconds:.0f} s: does it run, and may it reach this "
                "namespace's pods?"
            )


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    content: bytes
    digest: str
    model: str
    key: PublicKey

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context = context
        self.done = threading.Event()
        super().__init__(("", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # The handshake is the first read's, in the connection's own thread and within its time.
        return self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: whoever breaks off, or speaks no TLS, is not the controller."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SOCKET_SECONDS
    server_version = "modelward"
    sys_version = ""

    def do_GET(self) -> None:
        if self._is_the_controller("GET"):
            self._answer(200, self.server.content)

    def do_DELETE(self) -> None:
        if self._is_the_controller("DELETE"):
            self._answer(204)
            self.server.done.set()

    def _is_the_controller(self, method: str) -> bool:
        shown = self.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            incidents.check(shown.encode(), self.server.key, self.server.model, method, self.path, time.time())
        except TokenError:
            self._answer(401)
            return False
        if self.path != BASELINE:
            self._answer(404)
        return self.path == BASELINE

    def _answer(self, status: int, content: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/octet-stream")
        self.send_header(DIGEST_HEADER, self.server.digest)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the library
        """Log nothing."""
