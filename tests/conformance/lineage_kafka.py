"""Lineage events sent to a real broker of Kafka's, by the controller's own emitters: what arrives, and what is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial

from openlineage.client.serde import Serde

from modelward.controller.emitter import MAX_QUEUED
from modelward.controller.emitters import Emitters
from modelward.lineage.events import Event, serving
from modelward.lineage.subject import Subject
from modelward.planner.access import Kafka
from modelward.windows import Window
from tests.conformance.kafka_broker import SCRAM, Broker
from tests.conformance.lineage_samples import largest, life, ordinary
from tests.conformance.told import Told
from tests.unit.controller.test_emitters import Installation
from tests.unit.lineage.manifests import model
from tests.unit.sidecar.pki import Authority

ACCOUNT, PASSWORD = "modelward", "c0nf0rmance-S3cret"
OPTIONS = {
    "security.protocol": "sasl_ssl",
    "sasl.mechanism": SCRAM,
    "sasl.username": ACCOUNT,
    "sasl.password": f"{PASSWORD}\n",  # as `kubectl create secret --from-file` keeps it
}
MODELS = ("wdbc", "triage", "readmission")


class Log(logging.Handler):
    """What the controller says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logger = logging.getLogger("modelward.controller")
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Sender:
    """The emitters of an installation that names a topic, and what became of what they were given."""

    def __init__(self, broker: Broker, servers: str, topic: str, secret: dict[str, str] | None = None) -> None:
        kafka = Kafka(bootstrap_servers=servers, topic=topic, secret_name="kafka" if secret is not None else "")
        installation = Installation(secret, kafka=kafka, authorities=broker.authority.pem)
        self.secret = installation.installed.lineage_secret
        self.emitters: Emitters = installation.emitters()
        self.offered: list[str] = []
        self.dropped = 0
        self.done: list[bool] = []

    def offer(self, events: Sequence[Event], about: str = "") -> None:
        emitter = self.emitters.of(model())
        assert emitter is not None
        if emitter.offer(lambda: events, self.done.append, about):
            self.offered += [Serde.to_json(event) for event in events]
        else:
            self.dropped += 1

    async def settled(self, seconds: float = 120) -> None:
        async with asyncio.timeout(seconds):
            while self.emitters.pending:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def counted(self, offers: int) -> str:
        counts = {**self.emitters.counts, "dropped": self.dropped}
        whole = sum(counts.values()) + self.emitters.pending == offers
        return f"{counts.get('sent', 0)} sent, {counts.get('failed', 0)} failed, {self.dropped} dropped" + (
            "" if whole else f" of {offers}"
        )


def windows(about: Subject, first: int, count: int) -> Iterator[tuple[Event, ...]]:
    for number in range(first, first + count):
        window = Window(number, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 1, 1, 1)
        yield serving(about, "modelward", f"{about.name}-0", "p1", window)


def arrived(broker: Broker, topic: str, offered: Sequence[str]) -> str:
    """How what is in a topic compares with what was offered: each model's in order; twice is allowed, as the same."""
    messages = broker.messages(topic, len(offered))
    found = [message.value().decode() for message in messages]
    partitions: dict[bytes, set[int]] = {}
    for message in messages:
        partitions.setdefault(message.key(), set()).add(message.partition())
    if any(len(several) > 1 for several in partitions.values()):
        return "a key in several partitions"
    for key in {_model(text) for text in offered}:
        mine = [text for text in dict.fromkeys(found) if _model(text) == key]
        if mine != [text for text in dict.fromkeys(offered) if _model(text) == key]:
            return f"{len(mine)} of {key}, others or in another order"
    return "all, whole and in order" if set(found) == set(offered) else "others"


def _model(text: str) -> tuple[str, bool]:
    """The model that an event is about; what is declared of its making is a job without a run, under another key."""
    event = json.loads(text)
    return event["job"]["name"].split(".")[1], "run" in event


async def conformance(broker: Broker) -> AsyncIterator[Told]:
    log = Log()
    for topic, partitions in (("lineage", 3), ("largest", 1), ("open", 1), ("stopped", 3), ("killed", 3)):
        broker.topic(topic, partitions)
        broker.allow(ACCOUNT, topic)
    broker.allow("ANONYMOUS", "open")
    yield await _lives(broker)
    yield await _largest(broker)
    for told in await asyncio.gather(*(case(broker, log) for case in (_topic, _right, _password, _authority, _clear))):
        yield told
    for told in [await one(broker, log) for one in (_option, _secret, _size)]:
        yield told
    async for told in _stopped(broker, log):
        yield told
    yield await _killed(broker)
    told_secrets = [line for line in log.lines if PASSWORD in line or "wrong-S3cret" in line]
    yield Told("secrets in the log", "none", "none" if not told_secrets else told_secrets[0])


async def _lives(broker: Broker) -> Told:
    sender = Sender(broker, broker.secure, "lineage", {**OPTIONS})
    for name in MODELS:
        for event in life(ordinary(name)):
            sender.offer([event], name)
    await sender.settled()
    await sender.emitters.close()
    what = f"every kind of event of {len(MODELS)} models, by {SCRAM} over TLS, into 3 partitions"
    return Told(what, "all, whole and in order", arrived(broker, "lineage", sender.offered))


async def _largest(broker: Broker) -> Told:
    sender = Sender(broker, broker.secure, "largest", {**OPTIONS})
    sender.offer(largest())
    await sender.settled()
    await sender.emitters.close()
    size = max(map(len, sender.offered)) / 2**20
    what = f"the largest window that there can be ({size:.1f} MiB) into a topic of Kafka's own limit (1 MiB)"
    return Told(what, "all, whole and in order", arrived(broker, "largest", sender.offered))


async def _refused(what: str, sender: Sender, log: Log, reason: str, mend: Callable[[], object]) -> Told:
    """Something is wrong, is told, and is mended: what waited is sent then."""
    for name in MODELS[:2]:
        sender.offer(next(windows(ordinary(name), 1, 1)), name)
    try:
        async with asyncio.timeout(40):
            while not any(re.search(reason, line) for line in log.lines):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    except TimeoutError:
        await sender.emitters.close()
        return Told(what, "told", f"not told: {log.lines[-3:]}")
    before = sender.counted(2)
    await asyncio.to_thread(mend)
    with contextlib.suppress(TimeoutError):
        await sender.settled()
    after = sender.counted(2)
    await sender.emitters.close()
    line = next(line for line in log.lines if re.search(reason, line)).partition(": Kafka: ")[2]
    expected = "0 sent, 0 failed, 0 dropped; 2 sent, 0 failed, 0 dropped"
    return Told(f"{what}, then mended: «{line[:110]}»", expected, f"{before}; {after}")


async def _topic(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.plain, "missing")
    return await _refused("no such topic", sender, log, "there is no topic missing", partial(broker.topic, "missing"))


async def _right(broker: Broker, log: Log) -> Told:
    broker.topic("forbidden")
    sender = Sender(broker, broker.secure, "forbidden", {**OPTIONS})
    return await _refused(
        "no right to write", sender, log, "may not write to the topic forbidden",
        partial(broker.allow, ACCOUNT, "forbidden"),
    )  # fmt: skip


async def _password(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.secure, "lineage", {**OPTIONS, "sasl.password": "wrong-S3cret"})
    return await _refused(
        "a wrong password", sender, log, "credentials are not accepted", partial(sender.secret.update, OPTIONS)
    )


async def _authority(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.tls, "open", {"security.protocol": "ssl", "ssl.ca.pem": Authority().pem})
    return await _refused(
        "an authority that is not trusted", sender, log, "no TLS connection.*certificate verify failed",
        partial(sender.secret.pop, "ssl.ca.pem"),
    )  # fmt: skip


async def _clear(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.tls, "open", {"security.protocol": "plaintext"})
    return await _refused(
        "in the clear to a listener that wants TLS", sender, log, "no answer",
        partial(sender.secret.update, {"security.protocol": "ssl"}),
    )  # fmt: skip


async def _option(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.secure, "lineage", {**OPTIONS, "sasl.pasword": "wrong-S3cret"})
    return await _refused(
        "an option that there is none", sender, log, r"there is no option sasl\.pasword",
        partial(sender.secret.pop, "sasl.pasword"),
    )  # fmt: skip


async def _secret(broker: Broker, log: Log) -> Told:
    sender = Sender(broker, broker.secure, "lineage", {})
    return await _refused(
        "the Secret is not there",
        sender,
        log,
        "no Secret kafka of options",
        partial(sender.secret.update, OPTIONS),
    )


async def _size(broker: Broker, log: Log) -> Told:
    broker.topic("small", max_message_bytes="5000")
    sender = Sender(broker, broker.plain, "small")
    sender.offer(largest()[1:], "wide")
    sender.offer(next(windows(ordinary(), 1, 1)), "wdbc")
    await sender.settled()
    told = any("larger than the topic small takes" in line for line in log.lines)
    await sender.emitters.close()
    what = "an event that the topic has no room for, and another model's after it"
    return Told(what, "told; 1 sent, 1 failed, 0 dropped", f"{'told' if told else 'not told'}; {sender.counted(2)}")


async def _stopped(broker: Broker, log: Log) -> AsyncIterator[Told]:
    sender = Sender(broker, broker.secure, "stopped", {**OPTIONS})
    more = 40
    sender.offer(next(windows(ordinary(), 0, 1)), "wdbc")
    await sender.settled()
    await asyncio.to_thread(broker.stop)
    several = [windows(ordinary(name), 1, MAX_QUEUED + more) for name in MODELS]
    for number in range(MAX_QUEUED + more):
        sender.offer(next(several[number % len(MODELS)]), MODELS[number % len(MODELS)])
    said = len(log.lines)
    await asyncio.sleep(25)  # two tries
    while_away = sender.counted(MAX_QUEUED + more + 1)
    yield Told("the broker stops: what waits is bounded", f"1 sent, 0 failed, {more} dropped", while_away)
    yield Told("and is told of", "once", "once" if len(log.lines) - said == 1 else f"{log.lines[said:]}")
    await asyncio.to_thread(broker.start)
    await sender.settled(300)
    await sender.emitters.close()
    expected = f"{MAX_QUEUED + 1} sent, 0 failed, {more} dropped; all, whole and in order"
    found = f"{sender.counted(MAX_QUEUED + more + 1)}; {arrived(broker, 'stopped', sender.offered)}"
    yield Told("it starts again", expected, found)


async def _killed(broker: Broker) -> Told:
    sender = Sender(broker, broker.secure, "killed", {**OPTIONS})
    count = 400
    for events in windows(ordinary(), 1, count):
        sender.offer(events, "wdbc")
    async with asyncio.timeout(60):
        while len(sender.done) < count // 4:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await asyncio.to_thread(broker.stop, signal.SIGKILL)
    before = len(sender.done)
    await asyncio.to_thread(broker.start)
    await sender.settled(300)
    await sender.emitters.close()
    expected = f"{count} sent, 0 failed, 0 dropped; all, whole and in order"
    found = f"{sender.counted(count)}; {arrived(broker, 'killed', sender.offered)}"
    return Told(f"it is killed while it takes events ({before} of {count} windows had been sent)", expected, found)
