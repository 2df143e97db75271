"""The connection to an OpenTelemetry collector: OTLP over HTTP, protobuf, from a thread of its own.

Written on `http.client`: a redirect is not followed (whoever answers must not choose where this pod connects to), no
proxy is taken from the environment, and of the answer no more than a little is read. A server that takes its time byte
by byte is cut off by `enforce`, which the event loop calls.
"""

import http.client
import os
import socket
import ssl
import time
from urllib.parse import urlsplit

from modelward import allowlist
from modelward.sidecar.config import ConfigError, Telemetry

PLACE = "the chart's value telemetry.allow"
SECONDS = 10.0  # for one request and its answer
_HURRY_SECONDS = 2.0  # at the end
_CONNECT_SECONDS = 3.0
_ANSWER_BYTES = 64 << 10
_AGAIN = frozenset((429, 502, 503, 504))  # as the OTLP specification has it


class UndeliveredError(Exception):
    """What was sent was not taken, or nobody knows; the message says why. `again`: another attempt may help."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


class Collector:
    """One connection, kept open between requests.

    Raises:
        ConfigError: the endpoint is not among those allowed, or the authorities are not certificates.
    """

    def __init__(self, settings: Telemetry) -> None:
        if why := allowlist.problem(settings.endpoint, settings.allow, place=PLACE, plain=True):
            raise ConfigError(f"telemetry.endpoint {settings.endpoint}: {why}")
        parts = urlsplit(settings.endpoint)
        self._host, self._port = parts.hostname or "", parts.port
        self._path = parts.path.rstrip("/")
        self._context = _context(settings.authorities) if parts.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._seconds = SECONDS
        self._ends = float("inf")

    def post(self, signal: str, body: bytes) -> None:
        """Send a request of `signal` (traces, metrics, logs).

        Raises:
            UndeliveredError: it was not taken.
        """
        self._ends = time.monotonic() + self._seconds
        try:
            status = self._post(f"{self._path}/v1/{signal}", body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            late = time.monotonic() >= self._ends
            raise UndeliveredError("no answer in time" if late else _reason(error), again=True) from None
        finally:
            self._ends = float("inf")
        if not 200 <= status < 300:
            raise UndeliveredError(f"it answers with status {status}", again=status in _AGAIN)

    def enforce(self) -> None:
        """Cut off a request that has taken too long; called from another thread."""
        if time.monotonic() >= self._ends:
            self.abort()

    def hurry(self) -> None:
        """Give requests, the one under way as well, less time; called from another thread."""
        self._seconds = _HURRY_SECONDS
        self._ends = min(self._ends, time.monotonic() + _HURRY_SECONDS)

    def abort(self) -> None:
        """Cut off whatever is under way; called from another thread."""
        held = getattr(self._connection, "sock", None)
        if held is not None:
            try:
                # Of the plain socket: the TLS layer's own would be used by two threads at once.
                socket.socket.shutdown(held, socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """End the connection; from the thread that posts."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _post(self, target: str, body: bytes) -> int:
        connection = self._connection or self._connect()
        header = {"content-type": "application/x-protobuf", "user-agent": "modelward-sidecar"}
        connection.request("POST", target, body, header)
        with connection.getresponse() as answer:
            rest = answer.read(_ANSWER_BYTES)
            if len(rest) == _ANSWER_BYTES or answer.will_close:
                self.close()
            return answer.status

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_CONNECT_SECONDS)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=_CONNECT_SECONDS, context=self._context
            )
        self._connection = connection
        connection.connect()
        connection.sock.settimeout(self._seconds)
        return connection


def _reason(error: Exception) -> str:
    """Why nothing was taken, in words of ours alone."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate does not verify: {error.verify_message}"
        case TimeoutError():
            return "no answer in time"
        case socket.gaierror():
            return "its host name does not resolve"
        case OSError():
            return os.strerror(error.errno) if error.errno else "the connection fails"
        case _:
            return "its answer is not HTTP"


def _context(authorities: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=authorities or None)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError("telemetry.authorities is not a bundle of PEM certificates") from error
