from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509

from modelward.controller import incidents
from modelward.controller.asking import Answer, Asked, Asker, AskingError
from modelward.controller.incidents import Incidents
from modelward.planner.sightings import Seen, Sighting
from tests.unit.planner.test_kept import plainly_seen
from tests.unit.sidecar.pki import Authority


def test_detectors_that_a_sidecar_makes_up_are_one_series() -> None:
    made = Incidents(cast("Any", None), cast("Any", None), cast("Any", None))
    names = ["Ensemble", *(f'made"up{number}' for number in range(1000))]
    moment = "2026-03-01T11:00:00Z"
    made._seen["clinic", "wdbc"] = Seen(
        sightings=tuple(Sighting("user:x", "", name, (), (), 2, moment, moment, "") for name in names)
    )
    assert made.metrics()["modelward_model_anomalies"][1] == {
        '{namespace="clinic",model="wdbc",detector="Ensemble"}': 2,
        '{namespace="clinic",model="wdbc",detector="other"}': 2000,
    }


def test_figures_of_groups_are_no_metric_once_policies_keep_them() -> None:
    kept = set[tuple[str, str]]()
    made = Incidents(
        cast("Any", None), cast("Any", None), cast("Any", None), kept=lambda namespace, name: (namespace, name) in kept
    )
    made._seen["loans", "credit"] = plainly_seen()
    told = ("modelward_model_rows_below_k", "modelward_model_fairness_difference")
    assert all(made.metrics()[name][1] for name in told)
    kept.add(("loans", "credit"))  # though nothing was asked or told since
    assert [made.metrics()[name][1] for name in told] == [{}, {}]
    assert made.metrics()["modelward_model_quarantined_clients"][1] == {'{namespace="loans",model="credit"}': 0}


async def test_ready_pods_beyond_those_that_are_asked_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = {f"p{number}": Asked("127.0.0.1", "clinic/wdbc", "h", b"") for number in range(incidents.MAX_PODS + 7)}

    class Cluster:
        async def get(self, *_: str) -> Any:
            return {"metadata": {"namespace": "clinic", "name": "wdbc"}, "spec": {}}

    async def ready(*_: Any) -> dict[str, Asked]:
        return pods

    async def nothing(*_: Any) -> bool:
        return False

    async def silent(whom: Any, *_: Any) -> list[str]:
        return ["no answer" for _ in whom]

    made = Incidents(cast("Any", Cluster()), cast("Any", None), cast("Any", None))
    for whose, name, does in (
        (made, "_pods", ready),
        (made, "_ask_all", silent),
        (made, "_tell", nothing),
        (made._lineage, "take", nothing),
        (made._aggregates, "take", nothing),
    ):
        monkeypatch.setattr(whose, name, does)
    await made.look("clinic", "wdbc")
    seen = made.of("clinic", "wdbc")
    assert seen is not None
    assert (seen.asked, seen.unasked) == (incidents.MAX_PODS, 7)


async def test_pods_that_keep_still_keep_no_other_model_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidents, "_ROUND_SECONDS", 0.5)

    async def still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other gives up
        writer.close()

    async with await asyncio.start_server(still, "127.0.0.1", 0) as server:
        made = Incidents(cast("Any", None), cast("Any", None), cast("Any", None))
        made._asker = Asker(lambda: lambda _: bytes(64), server.sockets[0].getsockname()[1], seconds=60.0)
        began = time.monotonic()
        pods = [Asked("127.0.0.1", "clinic/wdbc", "wdbc.clinic.svc", Authority().pem.encode())] * incidents.MAX_PODS
        told = await made._ask_all(pods, "GET", "/.modelward/incidents")
    assert time.monotonic() - began < 50
    assert len(told) == incidents.MAX_PODS
    assert all("no answer" in cast("str", one) for one in told)


async def test_what_pods_hand_over_at_one_look_is_bounded_and_every_pod_comes_to_its_turn() -> None:
    content = bytes(2 << 20)

    class Generous:
        async def ask(self, whom: Asked, *_: object) -> Answer:
            return Answer(200, {}, content)

    made = Incidents(cast("Any", None), cast("Any", None), cast("Any", None))
    made._asker = cast("Any", Generous())
    pods = {f"pod-{number}": Asked("127.0.0.1", "clinic/wdbc", "wdbc.clinic.svc", b"") for number in range(50)}
    reached = set[str]()
    for _ in range(200):
        found = await made._collect(pods, dict.fromkeys(pods, b"{}"))
        assert sum(map(len, found.values())) <= (16 + 8 * 2) << 20
        reached |= set(found)
    assert reached == set(pods)


async def test_without_an_authority_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authorities of the machine vouch for nobody here."""
    authority = Authority()
    chain, key = authority.issue(tmp_path, x509.DNSName("wdbc.clinic.svc"))
    (tmp_path / "system.pem").write_text(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        asker = Asker(lambda: lambda _: bytes(64), server.sockets[0].getsockname()[1])
        with pytest.raises(AskingError, match=r"no ca\.crt"):
            await asker.ask(Asked("127.0.0.1", "clinic/wdbc", "wdbc.clinic.svc", b""), "GET", "/.modelward/incidents")
    assert asked == []
