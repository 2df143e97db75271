"""Sends what attacks yield, over sockets: byte for byte where it matters, and to nowhere but what the user named.

Not a client for general use: it follows no redirect, uses no proxy, keeps no cookie, and speaks HTTP as badly as it is
asked to.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from modelward import __version__
from modelward.attack.exchange import Channel, Reply, Request, Trouble
from modelward.cli.attack_answers import Incoming, read

_MAX_FOLLOWING = 4
_SECONDS = 15.0  # for a connection, and for an answer
_RAW_SECONDS = 5.0  # for the answer to a request whose end is ambiguous: some servers wait for more of it
_SECOND_ANSWER = 0.5  # seconds that one is waited for which should not come
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class ClientError(Exception):
    """What the user can mend; the message says how."""


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int


@dataclass(frozen=True)
class Url:
    """Where the endpoint is."""

    text: str
    tls: bool
    place: Place

    @classmethod
    def of(cls, text: str) -> Url:
        """From `https://host[:port]`.

        Raises:
            ClientError: it is something else.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("https", "http") or not parts.hostname or not port:
            raise ClientError("the URL is not https://host[:port]")
        if parts.username or parts.password or parts.query or parts.fragment or parts.path.strip("/"):
            raise ClientError("give the URL as https://host[:port] alone: no path, and no one's name or password")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(f"{parts.scheme}://{host}:{port}", parts.scheme == "https", Place(parts.hostname, port))

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        return self.text.partition("://")[2]

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine."""
        return self.place.host in _LOOPBACK


@dataclass(frozen=True)
class Tls:
    """How the endpoint is trusted and what is shown to it. `ca` None: the system's authorities."""

    ca: Path | None = None
    server_name: str | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self, *, certificate: bool = True, old: bool = False) -> ssl.SSLContext:
        """A context; with the client's certificate unless told otherwise, `old` for TLS below 1.2 alone.

        Raises:
            ClientError: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:  # ssl.SSLError is one
            raise ClientError(f"--ca-file {self.ca}: {error.strerror or 'not certificates in PEM'}") from error
        if self.certificate and certificate:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:
                what = f"--client-cert {self.certificate} with --client-key"
                raise ClientError(f"{what}: {error.strerror or 'they do not load'}") from error
        if old:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is to fail sooner
        return context


class _Connection:
    """A connection, and what has come on it."""

    def __init__(self, raw: socket.socket, seconds: float) -> None:
        self.socket = raw
        self._seconds = seconds
        self.incoming = Incoming(raw, seconds)

    def send(self, content: bytes) -> None:
        self.incoming = Incoming(self.socket, self._seconds)
        self.socket.settimeout(self._seconds)
        self.socket.sendall(content)

    def close(self) -> None:
        self.socket.close()


class Client:
    """Sends to one endpoint, and to the model's own port where one is given."""

    def __init__(self, url: Url, tls: Tls, model: Place | None = None) -> None:
        self._url = url
        self._tls = tls
        self._model = model
        self._context = tls.context() if url.tls else None
        self._bare = tls.context(certificate=False) if url.tls else None
        self._kept: _Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def check(self) -> None:
        """Connect once, so that what is wrong with URL, authority or certificate is told in words.

        Raises:
            ClientError: no connection.
        """
        try:
            self._open("endpoint").close()
        except ssl.SSLCertVerificationError as error:
            raise ClientError(
                f"the certificate of {self._url.text} does not verify ({error.verify_message}): give its authority with"
                " --ca-file, and the name that it has with --server-name where the URL's host is another"
            ) from None
        except ssl.SSLError as error:
            raise ClientError(f"{self._url.text}: no TLS ({error.reason}): is it https?") from None
        except OSError as error:
            raise ClientError(f"{self._url.text} does not answer: {error.strerror or error}") from None

    def send(self, request: Request) -> Reply:
        """Send one request, once, and read its answer; what goes wrong is an answer as well."""
        if request.raw is not None:
            return self._apart(request, request.raw)
        content = self._bytes(request)
        if request.channel != "endpoint":
            return self._apart(request, content, following=False)
        if self._kept is not None:
            kept, self._kept = self._kept, None
            reply = self._exchange(kept, content, request.method)
            return reply._replace(stale=not reply.status and reply.trouble != "timeout")
        try:
            connection = self._open("endpoint")
        except OSError as error:
            return Reply(trouble=_trouble(error))
        return self._exchange(connection, content, request.method)

    def _apart(self, request: Request, content: bytes, *, following: bool = True) -> Reply:
        """Send on a connection of its own, and look whether more than one answer comes."""
        try:
            connection = self._open(request.channel, _SECONDS if request.raw is None else _RAW_SECONDS)
        except ValueError:  # OpenSSL was built without it
            return Reply(trouble="unsupported")
        except OSError as error:
            unsupported = isinstance(error, ssl.SSLError) and error.reason in _NOT_HERE
            return Reply(trouble="unsupported" if unsupported else _trouble(error))
        try:
            return self._talk(connection, content, request.method, following=following)
        finally:
            connection.close()

    def _exchange(self, connection: _Connection, content: bytes, method: str) -> Reply:
        reply = self._talk(connection, content, method, following=False)
        reusable = reply.status and reply.headers.get("connection", "").lower() != "close" and not reply.trouble
        if reusable:
            self._kept = connection
        else:
            connection.close()
        return reply._replace(trouble="") if reply.status else reply

    def _talk(self, connection: _Connection, content: bytes, method: str, *, following: bool) -> Reply:
        broken: OSError | None = None
        try:
            connection.send(content)
        except OSError as error:
            broken = error  # an answer may be there: the other side need not read to the end
        try:
            reply = read(connection.incoming, method)
        except OSError as error:
            return Reply(trouble=_trouble(broken or error))
        except ValueError:
            return Reply(trouble="closed")
        if not following or reply.trouble:
            return reply
        return reply._replace(following=tuple(_more(connection)))

    def _bytes(self, request: Request) -> bytes:
        headers = {"user-agent": f"modelward-attack/{__version__}"} | dict(request.headers)
        if request.body is not None or request.method == "POST":
            headers["content-length"] = str(len(request.body or b""))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{request.method} {request.target} HTTP/1.1\r\nhost: {self._url.authority}\r\n{lines}\r\n"
        return head.encode("latin-1", "replace") + (request.body or b"")

    def _open(self, channel: Channel, seconds: float = _SECONDS) -> _Connection:
        place = self._model if channel == "model" and self._model is not None else self._url.place
        raw = socket.create_connection(place, timeout=seconds)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        context = self._bare if channel == "no-certificate" else self._context
        try:
            if channel == "old-tls":
                context = self._tls.context(old=True)
            if context is None or channel in ("plain", "model"):
                return _Connection(raw, seconds)
            secure = context.wrap_socket(raw, server_hostname=self._tls.server_name or self._url.place.host)
        except BaseException:
            raw.close()
            raise
        return _Connection(secure, seconds)

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


_NOT_HERE = ("NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "UNSUPPORTED_PROTOCOL_VERSION")


def _trouble(error: OSError) -> Trouble:
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLError):
        return "tls"
    return (
        "refused"
        if isinstance(error, ConnectionRefusedError | socket.gaierror) or error.errno in (101, 113)
        else "closed"
    )


def _more(connection: _Connection) -> Iterator[int]:
    """The statuses of answers that come though nothing was asked."""
    for _ in range(_MAX_FOLLOWING):
        try:
            yield read(Incoming(connection.socket, _SECOND_ANSWER, connection.incoming.rest), "GET").status
        except (OSError, ValueError):
            return
