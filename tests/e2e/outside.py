"""Runs in a pod: what stands outside of the models, an issuer's keys, a collector and a receiver of lineage, over TLS.

    python3 outside.py

Its certificate and `jwks.json` are in /served. It keeps what is posted, byte for byte, and shows it at /kept. Python's
standard library alone: it runs in whatever image there is.
"""

from __future__ import annotations

import base64
import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SERVED = Path("/served")
PORT = 8443
kept: list[tuple[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/jwks.json":
            self._answer(200, (SERVED / "jwks.json").read_bytes())
        elif self.path == "/kept":
            self._answer(200, json.dumps(kept).encode())
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        kept.append((self.path, base64.b64encode(body).decode()))
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SERVED / "tls.crt", SERVED / "tls.key")
    server = ThreadingHTTPServer(("", PORT), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
