"""What a Job's pod is to the controller: an address that is asked, over TLS 1.3, with one token a request.

It hands one file over. Where it has to be told first what to do, it takes one errand, once. Nothing else is to be had.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from modelward import incidents
from modelward.errand import DIGEST_HEADER
from modelward.signedtoken import PublicKey, TokenError

_SECONDS = 600.0  # the controller looks every few seconds; while it is away another takes over
_SOCKET_SECONDS = 10.0


class HandoverError(Exception):
    """Nobody came, to bring an errand or to fetch what was made."""


class Handover:
    """Serves one file, from when there is one until it is fetched and that is confirmed.

    Args:
        path: of the one thing that is asked for.
        model: namespace/name, which tokens are for.
        key: the public half of what tokens are signed with.
        tls: folder with tls.crt and tls.key.
        port: to listen on; 0: any.
        takes: how many bytes an errand may have; 0: none is taken.
    """

    def __init__(self, path: str, model: str, key: PublicKey, tls: Path, port: int, takes: int = 0) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(tls / "tls.crt", tls / "tls.key")
        self._server = _Server(context, port)
        self._server.path, self._server.takes = path, takes
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

    def errand(self, seconds: float = _SECONDS) -> bytes:
        """Return what the controller brings.

        Raises:
            HandoverError: nobody came.
        """
        if not self._server.told.wait(seconds) or self._server.errand is None:
            raise HandoverError(_nobody("bring its errand", seconds))
        return self._server.errand

    def offer(self, content: bytes, digest: str) -> None:
        """Have a file to be fetched; `digest` is of the request that it was made for."""
        self._server.content = (content, digest)

    def wait(self, seconds: float = _SECONDS) -> None:
        """Return once it was fetched.

        Raises:
            HandoverError: nobody came.
        """
        if not self._server.done.wait(seconds):
            raise HandoverError(_nobody("fetch what was made", seconds))


def _nobody(what: str, seconds: float) -> str:
    return f"the controller did not {what} within {seconds:.0f} s: does it run, and may it reach this namespace's pods?"


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    path: str
    takes: int
    model: str
    key: PublicKey

    def __init__(self, context: ssl.SSLContext, port: int) -> None:
        self._context = context
        self._lock = threading.Lock()
        self.errand: bytes | None = None
        self.content: tuple[bytes, str] | None = None
        self.told = threading.Event()
        self.done = threading.Event()
        super().__init__(("", port), _Handler)

    def take(self, errand: bytes) -> None:
        """Take the first errand, and no other."""
        with self._lock:
            if self.errand is None:
                self.errand = errand
        self.told.set()

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
        if self._asked("GET") is None:
            return
        if self.server.content is not None:
            self._answer(200, *self.server.content)
        else:
            self._answer(404 if self.server.errand is None else 202)

    def do_POST(self) -> None:
        digest = self._asked("POST")
        if digest is None:
            return
        size = self.headers.get("content-length", "")
        if not size.isdigit() or len(size) > 9 or int(size) > self.server.takes:
            self._answer(413)
            return
        body = self.rfile.read(int(size))
        if not incidents.is_body(body, digest):
            self._answer(401)
            return
        self.server.take(body)
        self._answer(202)

    def do_DELETE(self) -> None:
        if self._asked("DELETE") is not None:
            self._answer(204)
            self.server.done.set()

    def _asked(self, method: str) -> str | None:
        """The digest that the body must have, where the controller asks for what there is here."""
        shown = self.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            digest = incidents.check(shown.encode(), self.server.key, self.server.model, method, self.path, time.time())
        except TokenError:
            self._answer(401)
            return None
        if self.path != self.server.path:
            self._answer(404)
            return None
        return digest

    def _answer(self, status: int, content: bytes = b"", digest: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/octet-stream")
        self.send_header(DIGEST_HEADER, digest)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the library
        """Log nothing."""
