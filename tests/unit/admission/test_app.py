import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.admission import app
from modelward.admission.app import Webhook, health
from modelward.admission.decide import NotReadyError, Settings, Surroundings
from modelward.admission.events import Event
from modelward.admission.metrics import Metrics
from modelward.admission.review import MAX_BODY

JSON = [(b"content-type", b"application/json; charset=utf-8")]
POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": []}}


def review(item: Any = POD, **change: Any) -> bytes:
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    request = {"uid": "u", "kind": kind, "operation": "CREATE", "namespace": "a", "object": item, **change}
    document = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return json.dumps(document).encode()


class Bench:
    """A webhook with a client that speaks ASGI."""

    def __init__(self, failing: Exception | None = None, leaving: bool = False) -> None:
        self.events: list[Event] = []
        self.metrics = Metrics()
        self.failing = failing
        self.webhook = Webhook(
            self.surroundings,
            self.events.extend,
            self.metrics,
            lambda: datetime(2026, 5, 1, tzinfo=UTC),
            lambda: leaving,
        )

    async def surroundings(self, namespace: str) -> Surroundings:
        if self.failing:
            raise self.failing
        return Surroundings((), {}, Settings("i", "k"))

    async def ask(
        self, *chunks: bytes, path: str = "/admit", method: str = "POST", headers: Any = JSON, hang_up: bool = False
    ) -> tuple[int, bytes, dict[bytes, bytes]]:
        incoming: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks) - 1 or hang_up}
            for index, chunk in enumerate(chunks)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            if incoming:
                return incoming.pop(0)
            if hang_up:
                return {"type": "http.disconnect"}
            await asyncio.sleep(3600)
            return None

        async def send(message: Any) -> None:
            sent.append(message)

        await self.webhook({"type": "http", "path": path, "method": method, "headers": headers}, receive, send)
        if not sent:
            return 0, b"", {}
        start, body = sent
        return start["status"], body["body"], dict(start["headers"])


async def test_a_refusal_is_answered_told_and_counted():
    bench = Bench()
    status, body, headers = await bench.ask(review()[:10], review()[10:])
    response = json.loads(body)["response"]
    assert (status, response["uid"], response["allowed"]) == (200, "u", False)
    assert b"connection" not in headers
    assert {event.about.kind for event in bench.events} == {"Pod", "Namespace"}
    assert bench.metrics.reviews == {("Pod", "denied"): 1}
    assert 'outcome="denied"} 1' in bench.metrics.render()


async def test_a_dry_run_is_not_told():
    bench = Bench()
    assert not json.loads((await bench.ask(review(dryRun=True)))[1])["response"]["allowed"]
    assert bench.events == []


async def test_a_server_that_leaves_asks_to_connect_anew():
    assert (await Bench(leaving=True).ask(review()))[2][b"connection"] == b"close"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "/other"}, 404),
        ({"method": "GET"}, 405),
        ({"headers": []}, 415),
        ({"headers": [(b"content-type", b"text/plain")]}, 415),
    ],
)
async def test_what_is_no_review_gets_its_status(change, status):
    bench = Bench()
    assert (await bench.ask(review(), **change))[0] == status
    assert bench.metrics.reviews == {("other", "malformed"): 1}


async def test_a_body_is_bounded_and_given_back():
    bench = Bench()
    megabyte = b" " * (1024 * 1024)
    assert 6 * len(megabyte) == MAX_BODY
    assert (await bench.ask(*[megabyte] * 7))[0] == 413
    assert (await bench.ask(megabyte, hang_up=True))[0] == 0
    assert bench.webhook._held == 0
    assert (await bench.ask(review()))[0] == 200


async def test_bodies_are_bounded_together(monkeypatch):
    monkeypatch.setattr(app, "MAX_HELD", 100)
    bench = Bench()
    status, _, _ = await bench.ask(b" " * 101)
    assert status == 503
    assert bench.metrics.reviews == {("other", "unavailable"): 1}


async def test_a_slow_body_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(app, "BODY_SECONDS", 0.01)
    bench = Bench()
    incoming = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent = []

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await asyncio.sleep(3600)
        return None

    async def send(message: Any) -> None:
        sent.append(message)

    await bench.webhook({"type": "http", "path": "/admit", "method": "POST", "headers": JSON}, receive, send)
    assert sent[0]["status"] == 408


async def test_not_ready_hands_over_to_the_backstop():
    """503 and no answer: failurePolicy Ignore lets the ValidatingAdmissionPolicies judge."""
    bench = Bench(NotReadyError("not yet"))
    status, body, _ = await bench.ask(review())
    assert status == 503
    assert b"allowed" not in body


async def test_a_fault_of_our_own_is_neither_an_allow_nor_a_traceback(caplog):
    bench = Bench(ZeroDivisionError("secret value"))
    status, body, _ = await bench.ask(review())
    assert status == 500
    assert b"allowed" not in body
    assert b"secret" not in body
    assert "ZeroDivisionError at" in caplog.text
    assert "secret" not in caplog.text


def test_strangers_cannot_make_up_labels():
    kind = {"group": "", "version": "v1", "kind": 'x"} 1\nevil'}
    bench = Bench()
    item = {"apiVersion": "v1", "kind": kind["kind"]}
    assert asyncio.run(bench.ask(review(item, kind=kind)))[0] == 400
    assert "evil" not in bench.metrics.render()


@given(st.binary(max_size=300) | st.integers(0, len(review()) - 1).map(lambda cut: review()[:cut]))
def test_no_bytes_get_an_allow(body):
    status, answer, _ = asyncio.run(Bench().ask(body))
    assert status == 400
    assert b"Traceback" not in answer


@given(st.integers(0, len(review()) - 1), st.integers(0, 255))
def test_no_changed_byte_gets_an_allow(place, byte):
    body = bytearray(review())
    body[place] = byte
    status, answer, _ = asyncio.run(Bench().ask(bytes(body)))
    assert status in (200, 400)
    if status == 200:
        response = json.loads(answer)["response"]
        # A pod that names no model is never let in; only the operation can have changed what is asked.
        assert not response["allowed"]


async def get(application: Any, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "http", "path": path}, None, send)
    return sent[0]["status"], sent[1]["body"]


async def test_health():
    state = {"ready": False}
    application = health(lambda: state["ready"], Metrics())
    assert (await get(application, "/healthz"))[0] == 200
    assert (await get(application, "/readyz"))[0] == 503
    state["ready"] = True
    assert (await get(application, "/readyz"))[0] == 200
    assert b"modelward_admission_events_total" in (await get(application, "/metrics"))[1]
    assert (await get(application, "/other"))[0] == 404
