"""A listening socket whose TLS context can be replaced without losing a connection."""

import asyncio
import socket
import ssl
from collections.abc import Callable

_BACKLOG = 2048
_HANDSHAKE_SECONDS = 10.0
# How long a client has to take note of the end. Many keep connections in a pool and look at them when they need one;
# by default such a one would hold up the end of the sidecar, and of a Job with it, for half a minute.
_SHUTDOWN_SECONDS = 1.0


class Listener:
    """Accepts connections on one address.

    The socket stays open over a change of context: a second acceptor starts on a duplicate of it before the first one
    stops, so that connections in the kernel's queue are served by either. Established connections are not touched.
    """

    def __init__(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._socket = _bind(host, port)
        self._protocol = protocol
        self._server: asyncio.AbstractServer | None = None

    @property
    def port(self) -> int:
        """The port listened on; of use when 0 was asked for."""
        return int(self._socket.getsockname()[1])

    async def accept(self, context: ssl.SSLContext | None) -> None:
        """Accept with `context` (None: plaintext) from now on."""
        loop = asyncio.get_running_loop()
        previous = self._server
        self._server = await loop.create_server(
            self._protocol,
            sock=self._socket.dup(),
            ssl=context,
            backlog=_BACKLOG,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if context else None,
            ssl_shutdown_timeout=_SHUTDOWN_SECONDS if context else None,
        )
        if previous is not None:
            previous.close()

    def close(self) -> None:
        """Accept no more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or "::", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
        bound.listen(_BACKLOG)
        bound.setblocking(False)  # noqa: FBT003
    except OSError:
        bound.close()
        raise
    return bound
