"""A receiver of lineage events that is a topic of Kafka's: OpenLineage's transport, over librdkafka.

librdkafka says of nearly everything that a message timed out, and why to its error callback alone. Here the two are
put together, so that the log tells what is to be mended, and no value of an option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelward.controller.receivers import UndeliveredError

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

    from modelward.lineage.events import Event

_DELIVERY_MILLISECONDS = 10_000
_TOPIC_MILLISECONDS = 5_000  # a topic that is not known by then is not there; it must be shorter than the delivery
_MAX_BYTES = 8 << 20  # more than the largest event has; what the topic takes, the broker says
_MAX_TOLD = 300
_SECRET = ("password", "secret", "key", "config")
_DEFAULTS = {
    "log_level": "2",
    "client.id": "modelward",
    "compression.type": "gzip",  # field names repeat: the largest event is a tenth then, and fits Kafka's own limit
    "message.max.bytes": str(_MAX_BYTES),
}

_PLACE = re.compile(r"^(\w+://)?[^ /]+/\w+: ")
_UNKNOWN = re.compile(r'No such configuration property: "([^"]{1,100})"')
_UNUSABLE = re.compile(r'[Cc]onfiguration property "([^"]{1,100})"')
_TELLING = 6  # characters: a shorter value is a number or the name of something


class KafkaReceiver:
    """A topic. `options` are librdkafka's, and go before our own but for those that bound waiting.

    Args:
        servers: `host:port`, with commas between.
        topic: its name.
        options: of librdkafka's, as a Secret has them: a line's end after a value is none of it.
        authorities: PEM bundle that is trusted, where the options name none; empty: the public authorities.

    Raises:
        UndeliveredError: an option cannot be used; it may be mended.
    """

    def __init__(
        self, servers: str, topic: str, options: Mapping[str, str] | None = None, authorities: str = ""
    ) -> None:
        from confluent_kafka import KafkaException  # noqa: PLC0415
        from openlineage.client.transport import kafka  # noqa: PLC0415

        self._topic = topic
        self._options = {name.strip(): value.strip("\r\n") for name, value in (options or {}).items()}
        self._heard: list[KafkaError] = []
        self._failed: KafkaError | None = None
        config: dict[str, Any] = {
            **_DEFAULTS,
            **_trusted(self._options, authorities),
            **self._options,
            "bootstrap.servers": servers,
            "message.timeout.ms": str(_DELIVERY_MILLISECONDS),
            "topic.metadata.propagation.max.ms": str(min(_TOPIC_MILLISECONDS, _DELIVERY_MILLISECONDS // 2)),
            "enable.idempotence": "true",
            "error_cb": self._hear,
        }
        try:
            self._transport = kafka.KafkaTransport(kafka.KafkaConfig(config=config, topic=topic))
        except (KafkaException, TypeError, ValueError) as error:
            raise UndeliveredError(f"Kafka: {self._unusable(error)}", again=True) from None
        self._producer = _Told(self._transport.producer, self._settle)
        self._transport.producer = self._producer  # type: ignore[assignment]

    def deliver(self, event: Event) -> None:
        """Write an event and wait until the topic has it; raises UndeliveredError."""
        from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415

        self._heard.clear()
        self._failed = KafkaError(KafkaError._MSG_TIMED_OUT)  # noqa: SLF001 - its name
        try:
            self._transport.emit(event)
        except KafkaException as error:
            self._failed = error.args[0]
        except BufferError as error:
            raise UndeliveredError(f"Kafka: {error}", again=True) from None
        if self._failed is not None:
            raise self._undelivered(self._failed)

    def close(self) -> None:
        """Give up what is under way."""
        self._transport.close(0)

    def _settle(self, error: KafkaError | None) -> None:
        self._failed = error

    def _hear(self, error: KafkaError) -> None:
        self._heard.append(error)
        del self._heard[:-20]

    def _undelivered(self, failed: KafkaError) -> UndeliveredError:
        from confluent_kafka import KafkaError  # noqa: PLC0415

        told = failed
        if failed.code() in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT):  # noqa: SLF001
            vague = {KafkaError._TRANSPORT: 1, KafkaError._ALL_BROKERS_DOWN: 2}  # noqa: SLF001
            told = min(self._heard, key=lambda one: vague.get(one.code(), 0), default=failed)
        again = failed.code() not in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
        text = _PLACE.sub("", " ".join(told.str().split())).partition(" (after ")[0]
        what = self._what(told.code())
        why = f"{what} ({text})" if what else text
        return UndeliveredError(f"Kafka: {self._without_secrets(why)[:_MAX_TOLD]}", again=again)

    def _what(self, code: int) -> str:
        """What a code of librdkafka's means here; empty: no more than its own text."""
        from confluent_kafka import KafkaError  # noqa: PLC0415

        return {
            KafkaError.UNKNOWN_TOPIC_OR_PART: f"there is no topic {self._topic}, or this account may not see it",
            KafkaError._UNKNOWN_TOPIC: f"there is no topic {self._topic}",  # noqa: SLF001
            KafkaError.TOPIC_AUTHORIZATION_FAILED: f"this account may not write to the topic {self._topic}",
            KafkaError._AUTHENTICATION: "these credentials are not accepted",  # noqa: SLF001
            KafkaError.SASL_AUTHENTICATION_FAILED: "these credentials are not accepted",
            KafkaError._SSL: "no TLS connection",  # noqa: SLF001
            KafkaError._TRANSPORT: "no answer",  # noqa: SLF001
            KafkaError._ALL_BROKERS_DOWN: "no answer",  # noqa: SLF001
            KafkaError._MSG_TIMED_OUT: "no answer",  # noqa: SLF001
            KafkaError.MSG_SIZE_TOO_LARGE: f"the event is larger than the topic {self._topic} takes: max.message.bytes",
        }.get(code, "")

    def _without_secrets(self, text: str) -> str:
        for name, value in self._options.items():
            if value and any(part in name for part in _SECRET):
                text = text.replace(value, "...")
        return text

    def _unusable(self, error: Exception) -> str:
        """What of the options cannot be used: their names, for a value may be anything that stands in a Secret."""
        text = error.args[0].str() if error.args and hasattr(error.args[0], "str") else type(error).__name__
        if unknown := _UNKNOWN.search(text):
            return f"there is no option {unknown[1]}: the Secret's keys are librdkafka's names"
        if unusable := _UNUSABLE.search(text):
            return f"the option {unusable[1]} has a value that it does not take"
        for value in self._options.values():
            text = text.replace(value, "...") if len(value) >= _TELLING else text
        return f"the options cannot be used: {' '.join(text.split())[:_MAX_TOLD]}"


class _Told:
    """A producer whose deliveries are told of here: the client only logs that one failed."""

    def __init__(self, producer: Any, settle: Any) -> None:
        self._producer = producer
        self._settle = settle

    def produce(self, **message: Any) -> None:
        self._producer.produce(**{**message, "on_delivery": lambda error, _: self._settle(error)})

    def flush(self, timeout: float = -1) -> int:
        return int(self._producer.flush(timeout))


def _trusted(options: Mapping[str, str], authorities: str) -> dict[str, str]:
    """Whom to trust: librdkafka's own search finds nothing in an image without the system's certificates."""
    if any(name.startswith("ssl.ca.") for name in options):
        return {}
    if authorities:
        return {"ssl.ca.pem": authorities}
    from certifi import where  # noqa: PLC0415

    return {"ssl.ca.location": where()}
