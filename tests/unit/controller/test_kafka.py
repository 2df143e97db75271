"""Events into a topic, and what is told of one that does not take them.

`make conformance-lineage` asks the same of Apache Kafka's own broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest
from certifi import where
from confluent_kafka import KafkaError
from openlineage.client.serde import Serde

from modelward.controller import kafka
from modelward.controller.kafka import KafkaReceiver
from modelward.controller.receivers import UndeliveredError
from tests.conformance.lineage_samples import largest
from tests.unit.controller.test_receivers import events
from tests.unit.sidecar.pki import Authority

NOWHERE = "127.0.0.1:1"
PASSWORD = "correct-horse"


@pytest.fixture
def broker() -> Iterator[tuple[str, Any]]:
    """librdkafka's own broker for tests, in another client: what passes is Kafka's protocol over TCP."""
    holder = confluent_kafka.Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": "1", "log_level": "0"})
    (node,) = holder.list_topics(timeout=5).brokers.values()
    yield f"{node.host}:{node.port}", holder
    holder.flush(1)


def test_a_topic_gets_events_in_order_under_their_jobs_key(broker: tuple[str, Any]) -> None:
    receiver = KafkaReceiver(broker[0], "lineage")
    for sequence in (1, 2):
        for event in events(sequence):
            receiver.deliver(event)
    settings = {"bootstrap.servers": broker[0], "group.id": "g", "auto.offset.reset": "earliest", "log_level": "0"}
    consumer = confluent_kafka.Consumer(settings)
    consumer.subscribe(["lineage"])
    messages: list[Any] = []
    while len(messages) < 4:
        message = consumer.poll(10)
        assert message is not None
        assert message.error() is None
        messages.append(message)
    consumer.close()
    receiver.close()
    assert {one.key() for one in messages} == {b"run:modelward/clinic.wdbc"}
    assert [json.loads(one.value())["eventType"] for one in messages] == ["START", "COMPLETE"] * 2


def test_a_topic_that_nobody_serves_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "_DELIVERY_MILLISECONDS", 300)
    receiver = KafkaReceiver("127.0.0.1:1", "lineage", {"sasl.username": "u"})
    with pytest.raises(UndeliveredError, match="Kafka: ") as caught:
        receiver.deliver(events()[0])
    assert caught.value.again
    receiver.close()


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What librdkafka is asked for."""
    asked: dict[str, Any] = {}

    class Producer:
        def __init__(self, given: dict[str, Any]) -> None:
            asked.update(given)

    monkeypatch.setattr(confluent_kafka, "Producer", Producer)
    return asked


def test_options_go_before_what_we_choose_but_not_before_what_bounds_waiting(config: dict[str, Any]) -> None:
    KafkaReceiver(
        NOWHERE,
        "lineage",
        {
            "client.id": "east\n",
            "bootstrap.servers": "elsewhere:1",
            "message.timeout.ms": "0",
            "compression.type": "zstd",
        },
    )
    assert (config["client.id"], config["compression.type"]) == ("east", "zstd")
    assert config["bootstrap.servers"] == NOWHERE
    assert int(config["topic.metadata.propagation.max.ms"]) < int(config["message.timeout.ms"]) == 10_000


def test_a_line_s_end_after_a_password_is_none_of_it(config: dict[str, Any]) -> None:
    KafkaReceiver(NOWHERE, "lineage", {"sasl.password": f"{PASSWORD} \r\n"})
    assert config["sasl.password"] == f"{PASSWORD} "


@pytest.mark.parametrize(
    ("options", "authorities", "trusted"),
    [
        ({}, "PEM", {"ssl.ca.pem": "PEM"}),
        ({}, "", {"ssl.ca.location": where()}),
        ({"ssl.ca.location": "/etc/ca.pem"}, "PEM", {"ssl.ca.location": "/etc/ca.pem"}),
        ({"ssl.ca.pem": "other"}, "PEM", {"ssl.ca.pem": "other"}),
    ],
)
def test_whom_it_trusts(config: dict[str, Any], options: dict[str, str], authorities: str, trusted: Any) -> None:
    KafkaReceiver(NOWHERE, "lineage", options, authorities)
    assert {name: value for name, value in config.items() if name.startswith("ssl.")} == trusted


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"sasl.pasword": PASSWORD}, "there is no option sasl.pasword"),
        ({"security.protocol": PASSWORD}, "the option security.protocol has a value that it does not take"),
        ({"acks": PASSWORD}, "the option request.required.acks has a value that it does not take"),
        ({"security.protocol": "ssl", "ssl.key.pem": PASSWORD}, "the options cannot be used: "),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": PASSWORD}, "the options cannot be used: "),
    ],
)
def test_options_that_cannot_be_used_are_told_by_name_and_may_be_mended(options: dict[str, str], why: str) -> None:
    with pytest.raises(UndeliveredError) as caught:
        KafkaReceiver(NOWHERE, "lineage", options)
    assert caught.value.again
    assert str(caught.value).startswith(f"Kafka: {why}")
    assert PASSWORD not in str(caught.value)


def told(failed: KafkaError, *heard: KafkaError) -> UndeliveredError:
    receiver = KafkaReceiver(NOWHERE, "lineage", {"sasl.username": "modelward", "sasl.password": PASSWORD})
    for one in heard:
        receiver._hear(one)
    return receiver._undelivered(failed)


TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
REFUSED = KafkaError(
    KafkaError._TRANSPORT, "k:9092/bootstrap: Connect failed: Connection refused (after 0ms in state X)"
)
CREDENTIALS = KafkaError(
    KafkaError._AUTHENTICATION,
    f"sasl_ssl://k:9093/1: SASL authentication error: {PASSWORD}?\nno (after 31ms in state Y)",
)


@pytest.mark.parametrize(
    ("failed", "heard", "why"),
    [
        (TIMED_OUT, (), "no answer (Local: Message timed out)"),
        (TIMED_OUT, (DOWN, REFUSED), "no answer (Connect failed: Connection refused)"),
        (
            TIMED_OUT,
            (DOWN, REFUSED, CREDENTIALS, DOWN),
            "these credentials are not accepted (SASL authentication error: ...? no)",
        ),
        (
            KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART),
            (DOWN,),
            "there is no topic lineage, or this account may not see it (",
        ),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), (), "this account may not write to the topic lineage ("),
        (KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION), (), "Broker: Not leader for partition"),
    ],
)
def test_the_reason_is_told_and_not_that_time_ran_out(failed: KafkaError, heard: Any, why: str) -> None:
    found = told(failed, *heard)
    assert str(found).startswith(f"Kafka: {why}")
    assert found.again
    assert len(str(found)) < 320


def test_the_same_trouble_is_told_in_the_same_words() -> None:
    later = KafkaError(KafkaError._TRANSPORT, REFUSED.str().replace("0ms", "173ms"))
    assert str(told(TIMED_OUT, REFUSED)) == str(told(TIMED_OUT, later))


def test_an_event_that_is_too_large_is_not_tried_again() -> None:
    receiver = KafkaReceiver(NOWHERE, "lineage", {"message.max.bytes": "1000"})
    with pytest.raises(UndeliveredError, match="larger than the topic lineage takes") as caught:
        receiver.deliver(events()[1])
    assert not caught.value.again
    receiver.close()


def test_the_largest_event_has_room(config: dict[str, Any]) -> None:
    KafkaReceiver(NOWHERE, "lineage", {}, Authority().pem)
    assert int(config["message.max.bytes"]) > max(len(Serde.to_json(one)) for one in largest())
