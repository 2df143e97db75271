"""An issuer that publishes its keys over HTTPS, well or badly."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.sidecar.pki import LOCALHOST, Authority

Answer = bytes | Callable[[ssl.SSLSocket], None]


def ok(document: Any, *, header: str = "", status: str = "200 OK") -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/jwk-set+json\r\n{header}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class IdentityProvider:
    """Answers every request with `answer`: bytes as they are, or a function that has the connection."""

    def __init__(self, folder: Path, answer: Answer, authority: Authority | None = None) -> None:
        self.authority = authority or Authority()
        self.answer = answer
        self.asked: list[bytes] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.issue(folder, LOCALHOST, name="idp"))
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/keys"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._one, args=(raw,), daemon=True).start()

    def _one(self, raw: socket.socket) -> None:
        raw.settimeout(10)
        with contextlib.suppress(OSError), self._context.wrap_socket(raw, server_side=True) as client:
            asked = b""
            while b"\r\n\r\n" not in asked:
                data = client.recv(65536)
                if not data:
                    return
                asked += data
            self.asked.append(asked)
            answer = self.answer
            if callable(answer):
                answer(client)
            else:
                client.sendall(answer)

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):  # closed before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
