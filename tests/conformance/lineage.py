"""Lineage events before programs of others: `make conformance-lineage`.

A broker of Apache Kafka's takes them from the controller's emitters; Kafka's consumer and OpenLineage's Java client
read them; a Marquez that runs already, if its address is given, keeps them and is asked what it made of them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from modelward.controller.kafka import KafkaReceiver
from modelward.lineage.events import Event
from tests.conformance import lineage_kafka, marquez
from tests.conformance.kafka_broker import Broker, running
from tests.conformance.lineage_samples import largest, life, ordinary, strange
from tests.conformance.told import Told, differences

READER = Path(__file__).with_name("java") / "ReadEvents.java"
STRANGE = 300


def read_by_java(broker: Broker, jars: Path) -> Iterator[Told]:
    """Every event as Apache Kafka's consumer and OpenLineage's Java client read it."""
    for what, events in (
        ("every kind of event of a model's life", life(ordinary())),
        ("the largest window that there can be", [*largest()]),
        (f"{STRANGE} manifests drawn at random", strange(STRANGE)),
    ):
        topic = f"read-{len(events)}"
        broker.topic(topic)
        receiver = KafkaReceiver(broker.plain, topic)
        for event in events:
            receiver.deliver(event)
        receiver.close()
        found = _read(broker, jars, topic, events)
        yield Told(f"{what}, read by OpenLineage's Java client", f"{len(events)} same", found)


def _read(broker: Broker, jars: Path, topic: str, events: list[Event]) -> str:
    command = ["java", "-Xmx256m", "-cp", f"{jars}/*", str(READER), broker.plain, topic]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return done.stderr[-2000:]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    names = [line[3] for line in lines]
    if names != [event.job.name for event in events]:
        return f"{len(lines)} in another order"
    return ", ".join(f"{count} {verdict}" for verdict, count in Counter(line[4] for line in lines).most_common())


def sent_to_kafka(broker: Broker) -> Iterator[Told]:
    """The cases of `lineage_kafka`, one after another."""
    cases = lineage_kafka.conformance(broker)
    with asyncio.Runner() as runner:
        while told := runner.run(anext(cases, None)):  # type: ignore[arg-type]
            yield told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jars", type=Path, required=True, help="folder of Kafka's and OpenLineage's jars")
    parser.add_argument("--marquez", default="", help="address of a Marquez that events may be written to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        accounts = {lineage_kafka.ACCOUNT: lineage_kafka.PASSWORD}
        with running(given.jars.resolve(), Path(folder), accounts) as broker:
            wrong = differences(read_by_java(broker, given.jars.resolve()))
            wrong += differences(sent_to_kafka(broker))
    if given.marquez:
        wrong += differences(marquez.conformance(given.marquez))
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
