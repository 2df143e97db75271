"""Receivers of lineage events: the transports of OpenLineage's own client, held to what we want of whatever sends.

The client is imported where something is sent and nowhere else, for it costs memory. Its transports are used alone, not
its `OpenLineageClient`, which would take orders from environment variables and files in the working directory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modelward.lineage.events import Event

_SECONDS = 5.0
_DELIVERY_MILLISECONDS = 10_000
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
        self._transport = http.HttpTransport(
            http.HttpConfig(
                f"{url.rstrip('/')}/", timeout=_SECONDS, auth=key, session=session, retry=once, ssl_context=trusted
            )
        )

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


class KafkaReceiver:
    """A topic of Kafka's. `options` are librdkafka's; those that bound waiting are ours."""

    def __init__(self, servers: str, topic: str, options: Mapping[str, str] | None = None) -> None:
        from openlineage.client.transport import kafka  # noqa: PLC0415

        config = {
            "log_level": "2",
            **(options or {}),
            "bootstrap.servers": servers,
            "message.timeout.ms": str(_DELIVERY_MILLISECONDS),
            "enable.idempotence": "true",
        }
        self._transport = kafka.KafkaTransport(kafka.KafkaConfig(config=config, topic=topic))
        self._producer = _Told(self._transport.producer)
        self._transport.producer = self._producer  # type: ignore[assignment]

    def deliver(self, event: Event) -> None:
        """Write an event and wait until the topic has it; raises UndeliveredError."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        self._producer.why = "it was not delivered"
        try:
            self._transport.emit(event)
        except (KafkaException, BufferError) as error:
            raise UndeliveredError(f"Kafka: {error}", again=True) from None
        if self._producer.why:
            raise UndeliveredError(f"Kafka: {self._producer.why}", again=self._producer.again)

    def close(self) -> None:
        """Give up what is under way."""
        self._transport.close(0)


class _Told:
    """A producer whose deliveries are told of here: the client only logs that one failed."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self.why = ""
        self.again = True

    def produce(self, **message: Any) -> None:
        self._producer.produce(**{**message, "on_delivery": self._delivered})

    def flush(self, timeout: float = -1) -> int:
        return int(self._producer.flush(timeout))

    def _delivered(self, error: Any, _: Any) -> None:
        from confluent_kafka import KafkaError  # noqa: PLC0415

        self.why = error.str() if error is not None else ""
        self.again = error is None or error.code() not in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)


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
