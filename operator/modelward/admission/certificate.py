"""The serving certificate, replaced without dropping a connection."""

from __future__ import annotations

import asyncio
import os
import ssl


class Certificate:
    """A TLS context for a listener, whose certificate can change while it listens.

    Each new connection is handed to the context of the newest certificate. Loading a second certificate into one live
    context would keep the first beside it whenever the type of key differs, and could leave half of a bad pair there.
    """

    def __init__(self) -> None:
        self.context = _context()
        self.context.sni_callback = self._hand_over
        self.loaded = asyncio.Event()
        self._newest: ssl.SSLContext | None = None

    def use(self, chain: bytes, key: bytes) -> None:
        """Serve this certificate from now on.

        Args:
            chain: certificates (PEM), the leaf first.
            key: the leaf's private key (PEM); it touches no disk.

        Raises:
            ValueError: they are no certificate and its key; what was served is served on.
        """
        context = _context()
        try:
            _load(context, chain, key)
        except OSError as error:  # ssl.SSLError
            raise ValueError(error.strerror or str(error)) from None
        self._newest = context
        if not self.loaded.is_set():
            _load(self.context, chain, key)  # or there would be no cipher to begin a handshake with
            self.loaded.set()

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if self._newest is not None:
            connection.context = self._newest


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # every API server since 1.30 speaks it
    context.set_alpn_protocols(["http/1.1"])
    context.num_tickets = (
        0  # an API server keeps its connections; sessions to come back to would only be kept for nobody
    )
    return context


def _load(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """Load a pair from memory: `load_cert_chain` knows files only."""
    file = os.memfd_create("certificate")
    try:
        os.write(file, key + b"\n" + chain)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
