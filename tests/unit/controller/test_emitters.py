"""Which receiver a model's events go to, and what is shown to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from modelward.controller import emitters
from modelward.controller.emitters import Emitters
from modelward.controller.kafka import KafkaReceiver
from modelward.planner.access import AccessSettings, Kafka, Lineage
from tests.unit.controller.lineage_receiver import LineageServer, until
from tests.unit.controller.test_receivers import events
from tests.unit.lineage.manifests import model


def naming(receiver: str) -> dict[str, Any]:
    return model(monitoring={"telemetry": {"lineageEndpoint": receiver}})


class Installation:
    """The part of an installation that lineage needs."""

    def __init__(self, secret: dict[str, str] | None = None, **lineage: Any) -> None:
        settings = SimpleNamespace(access=AccessSettings(lineage=Lineage(**lineage)))
        self.installed = SimpleNamespace(settings=settings, lineage_secret=secret or {})

    def emitters(self) -> Emitters:
        return Emitters(lambda: cast("Any", self.installed))


@pytest.fixture
async def servers() -> AsyncIterator[tuple[LineageServer, LineageServer]]:
    made = LineageServer(), LineageServer()
    yield made
    for one in made:
        one.stop()


async def sent(made: Emitters, raw: dict[str, Any]) -> None:
    emitter = made.of(raw)
    assert emitter is not None
    done: list[bool] = []
    assert emitter.offer(lambda: events(1), done.append)
    await until(lambda: done == [True])


async def test_the_key_is_shown_to_the_installations_receiver_and_to_no_other(
    servers: tuple[LineageServer, LineageServer],
) -> None:
    own, named = servers
    made = Installation({"apiKey": "s3cret\n"}, url=own.url, allow=(f"{named.url}/",)).emitters()
    await sent(made, model())
    await sent(made, naming(named.url))
    assert {one.get("authorization") for one in own.headers} == {"Bearer s3cret"}
    assert {one.get("authorization") for one in named.headers} == {None}
    await made.close()


@pytest.mark.parametrize("named", ["https://elsewhere.example", "http://169.254.169.254/latest", "/etc/passwd"])
def test_what_is_not_allowed_is_nobodys_receiver(named: str) -> None:
    made = Installation(url="https://marquez.example", allow=("https://other.example/",)).emitters()
    assert made.of(naming(named)) is None


def test_without_any_nothing_is_emitted() -> None:
    assert Installation().emitters().of(model()) is None


async def test_models_share_a_receiver_and_there_are_not_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emitters, "MAX_RECEIVERS", 2)
    made = Installation(url="http://127.0.0.1:2", allow=("http://127.0.0.1:1/",)).emitters()
    first = made.of(naming("http://127.0.0.1:1/a"))
    assert first is made.of(naming("http://127.0.0.1:1/a"))
    for path in "bcd":  # those that have nothing to do make room
        assert made.of(naming(f"http://127.0.0.1:1/{path}")) is not None
    busy = [made.of(naming(f"http://127.0.0.1:1/{path}")) for path in "xy"]
    for one in busy:
        assert one is not None
        one.offer(lambda: events(1), lambda _: None)
    assert made.of(naming("http://127.0.0.1:1/z")) is None
    assert made.pending == 2
    assert made.of(model()) is not None, "whoever names many receivers keeps the installation's own from nobody"
    await made.close()


async def test_a_receiver_that_makes_room_leaves_nothing_open(
    servers: tuple[LineageServer, LineageServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emitters, "MAX_RECEIVERS", 1)
    closed: list[str] = []
    monkeypatch.setattr(emitters.HttpReceiver, "close", lambda _: closed.append("closed"))
    named, other = (one.url for one in servers)
    made = Installation(allow=(f"{named}/", f"{other}/")).emitters()
    await sent(made, naming(named))
    assert made.of(naming(other)) is not None
    assert closed == ["closed"]
    await made.close()


async def test_a_key_that_is_mended_is_used_without_a_restart(
    servers: tuple[LineageServer, LineageServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward.controller.emitter.FIRST_WAIT_SECONDS", 0.01)
    own, _ = servers
    installation = Installation({"apiKey": "old"}, url=own.url)
    made = installation.emitters()
    own.answers = [401]
    emitter = made.of(model())
    assert emitter is not None
    done: list[bool] = []
    emitter.offer(lambda: events(1), done.append)
    await until(lambda: own.headers)
    installation.installed.lineage_secret = {"apiKey": "new"}
    await until(lambda: done == [True])
    assert own.headers[-1]["authorization"] == "Bearer new"
    await made.close()


async def test_a_file_and_a_topic_are_receivers_as_well(tmp_path: Path) -> None:
    made = Installation(file=str(tmp_path / "events.jsonl")).emitters()
    await sent(made, model())
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 2
    await made.close()
    kafka = Kafka(bootstrap_servers="127.0.0.1:1", topic="lineage")
    made = Installation({"client.id": "east"}, kafka=kafka).emitters()
    receiver = made._receiver("127.0.0.1:1")
    assert isinstance(receiver, KafkaReceiver)
    receiver.close()


async def test_nothing_goes_to_a_topic_in_the_clear_for_want_of_the_secret_that_says_to_encrypt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modelward.controller.emitter.FIRST_WAIT_SECONDS", 0.01)
    delivered: list[Any] = []
    monkeypatch.setattr(KafkaReceiver, "deliver", lambda _, event: delivered.append(event))
    kafka = Kafka(bootstrap_servers="127.0.0.1:1", topic="lineage", secret_name="kafka")
    installation = Installation(kafka=kafka)
    made = installation.emitters()
    emitter = made.of(model())
    assert emitter is not None
    done: list[bool] = []
    emitter.offer(lambda: events(1), done.append)
    await until(lambda: "there is no Secret kafka of options" in caplog.text)
    assert delivered == []
    installation.installed.lineage_secret = {"client.id": "east"}
    await until(lambda: done == [True])
    assert len(delivered) == 2
    await made.close()
