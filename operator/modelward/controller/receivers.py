"""Receivers of lineage events: the transports of OpenLineage's own client, held to what we want of whatever sends.

The client is imported where something is sent and nowhere else, for it costs memory. Its transports are used alone, not
its `OpenLineageClient`, which would take orders from environment variables and files in the working directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modelward.lineage.events import Event

_SECONDS = (5.0, 20.0)  # to connect, and to answer: Marquez takes seconds for the columns of a wide model
_MAX_FILE_BYTES = 64 << 20
_REFUSED = (400, 413, 422)  # the event itself is at fault, and would be the next time


class UndeliveredError(Exception):
    """An event was not taken. `again`: it may be the next time."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


class Receiver(Protocol):
    """Where events go. One thread at a time uses it."""

    def deliver(self, event: Event) -> None:
        """Deliver an event; raises UndeliveredError."""

    def close(self) -> None:
        """Let go of what is open."""


class HttpReceiver:
    """A server with OpenLineage's API at `<url>/api/v1/lineage`.

    No redirect is followed, no proxy and no password file of the surroundings is used, and no answer is read: the
    address was allowed, and what it leads to or says was not.
    """

    def __init__(self, url: str, authorities: str = "", api_key: str = "") -> None:
        from openlineage.client.transport import http  # noqa: PLC0415
        from requests import Session  # noqa: PLC0415

        session = Session()
        session.trust_env = False
        session.max_redirects = 0
        session.stream = True
        self._bundle = _file_of(authorities) if authorities else None
        trusted = http.HttpSslContextConfig(ca_cert_path=self._bundle) if self._bundle else None
        key = http.ApiKeyTokenProvider({"apiKey": api_key}) if api_key else http.TokenProvider({})
        once: dict[str, Any] = {"total": 0, "redirect": False}  # what is tried again is not for a thread to wait for
        config = http.HttpConfig(f"{url.rstrip('/')}/", auth=key, session=session, retry=once, ssl_context=trusted)
        config.timeout = _SECONDS  # type: ignore[assignment]  # requests takes two as well
        self._transport = http.HttpTransport(config)

    def deliver(self, event: Event) -> None:
        """Post an event; raises UndeliveredError."""
        from requests import HTTPError, RequestException  # noqa: PLC0415

        try:
            self._transport.emit(event)
        except HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            raise UndeliveredError(f"it answered {status}", again=status not in _REFUSED) from None
        except (RequestException, OSError) as error:  # its text may tell an address that a redirect led to
            raise UndeliveredError(f"no answer ({type(error).__name__})", again=True) from None

    def close(self) -> None:
        """End the connection."""
        self._transport.close()
        if self._bundle:
            Path(self._bundle).unlink(missing_ok=True)


class FileReceiver:
    """A file of JSON lines; at 64 MiB it becomes `<path>.1`, in place of the one before."""

    def __init__(self, path: str, max_bytes: int = _MAX_FILE_BYTES) -> None:
        from openlineage.client.transport import file  # noqa: PLC0415

        self._path = Path(path)
        self._max_bytes = max_bytes
        self._transport = file.FileTransport(file.FileConfig(log_file_path=path, append=True))

    def deliver(self, event: Event) -> None:
        """Append an event; raises UndeliveredError."""
        try:
            if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
                self._path.replace(f"{self._path}.1")
            self._path.touch(mode=0o600)
            self._transport.emit(event)
        except (OSError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            why = cause.strerror if isinstance(cause, OSError) else str(cause)
            raise UndeliveredError(f"{self._path}: {why}", again=True) from None

    def close(self) -> None:
        """Nothing is open."""


def _file_of(text: str) -> str:
    """Write certificates where the client can read them: it takes them from files alone."""
    handle, path = tempfile.mkstemp(prefix="modelward-", suffix=".pem")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return path


def receiver_at(where: str, authorities: str = "", api_key: str = "") -> Receiver:
    """Return the receiver at an address (http:// or https://), or in a file (anything else)."""
    return (
        HttpReceiver(where, authorities, api_key) if where.startswith(("http://", "https://")) else FileReceiver(where)
    )


Made = Callable[[], Receiver]
"""Makes a receiver, once something is to be sent."""
