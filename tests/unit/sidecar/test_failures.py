"""What a model says when it fails reaches no caller, whatever it is; its status does. And what the record keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar.exchange import REDIRECTS, Response
from modelward.sidecar.failures import Failure, instead_of
from modelward.sidecar.grpc import status
from modelward.sidecar.problems import STATUS_LINES
from tests.unit.sidecar.harness import ANSWER, STRANGE, Answer, Behaviour, Running, infer, request, settings, several
from tests.unit.sidecar.oip import GrpcModel, call, details, grpc, port_of, with_grpc
from tests.unit.sidecar.oip_messages import infer as grpc_infer

Code = grpc.StatusCode
CANARY = "Alice Meier, 078-05-1120"
TEXTS = (
    json.dumps({"error": f"row 17 ({CANARY}) is out of range"}),
    f"<html><h1>Internal Server Error</h1><pre>Traceback (most recent call last): {CANARY}</pre></html>",
    f"psycopg.errors.UndefinedColumn: SELECT * FROM patients WHERE name = '{CANARY}'",
    "",
)
HEADER = (
    f"server: gunicorn/{CANARY}\r\nx-powered-by: {CANARY}\r\nset-cookie: session={CANARY}\r\nx-debug: {CANARY}\r\n"
    f"www-authenticate: Basic realm={CANARY}\r\nlocation: http://10.0.0.7/{CANARY}\r\nretry-after: {CANARY}\r\n"
).encode()
OURS = {"content-type", "content-length", "cache-control", "x-modelward-request-id"}


def failing(code: int, text: str = TEXTS[0], header: bytes = HEADER) -> Behaviour:
    line = STATUS_LINES[code].removeprefix(b"HTTP/1.1 ").strip()
    return lambda connection, _: connection.answer(text.encode(), status=line, header=header)


def told(answer: Answer) -> tuple[int, str]:
    """Status and problem of an answer that has nothing of the model's."""
    assert CANARY not in repr((answer.header, answer.body))
    assert set(answer.header) == OURS
    return answer.status, answer.problem


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_that_a_model_says_when_it_fails_is_passed_on(running, text):
    for code, problem in ((400, "model-refused"), (404, "model-refused"), (422, "model-refused"),
                          (500, "model-failed"), (501, "model-failed"), (503, "model-failed")):  # fmt: skip
        running.model.behaviour = failing(code, text)
        assert told(running.ask(infer())) == (code, problem)
    assert CANARY not in running.log_path.read_text()


def test_of_no_route_either(running, run):
    running.model.behaviour = failing(500)
    for target in ("/v2", "/v2/models/m", "/v2/health/live"):
        assert told(running.ask(method="GET", target=target)) == (500, "model-failed")
    head = running.ask(method="HEAD", target="/v2/models/m")
    assert (head.status, set(head.header)) == (500, OURS)
    assert told(running.ask(infer(), target="/v2/models/m/infer_stream")) == (500, "model-failed")
    explaining = settings()["access"] | {"rules": [{"subjects": ["user:alice"], "operations": ["Explain", "Infer"]}]}
    other = run(access=explaining)
    other.model.behaviour = failing(404)
    assert told(other.ask(infer(), target="/v2/models/m/explain")) == (404, "model-refused")
    first = run(upstream={"port": 1, "model": "m", "protocol": "v1", "readyPath": "/v1/models/m"})
    first.model.behaviour = failing(500)
    assert told(first.ask({"instances": [[0.1, 10.2, -5.3]]}, target="/v1/models/m:predict")) == (500, "model-failed")


@pytest.mark.parametrize("code", [300, 301, 302, 303, 307, 308])
def test_redirects_are_neither_followed_nor_passed_on(running, code):
    running.model.behaviour = failing(code)
    with running.client() as client:
        client.send(request(infer()))
        assert told(client.read()) == (502, "bad-upstream")
        running.model.behaviour = failing(400)  # and the connection is still good for others
        client.send(request(infer()))
        assert client.read().status == 400
    assert len(running.model.asked) == 2
    assert [line["reason"] for line in running.log(2)] == ["upstream-redirect", "model-refused"]


@pytest.mark.parametrize("code", [401, 407, 408, 421, 426, 431, 511])
def test_what_is_between_the_sidecar_and_the_model_is_nothing_for_callers(running, code):
    running.model.behaviour = failing(code)
    assert told(running.ask(infer())) == (502, "bad-upstream")
    line = running.log(1)[0]
    assert (line["status"], line["reason"], line["model_status"]) == (502, "upstream-status", code)
    assert running.metric('modelward_access_denied_total{reason="unauthenticated"}') == 0


def test_when_to_try_again_is_passed_on_as_a_number_and_nothing_else(running):
    for sent, passed in ((b"7", "7"), (b" 30 ", "30"), (b"Thu, 26 Nov 2026 01:00:00 GMT", None), (b"99999", None)):
        running.model.behaviour = failing(503, header=b"Retry-After: " + sent + b"\r\n")
        answer = running.ask(infer())
        assert (answer.status, answer.header.get("retry-after")) == (503, passed)


def test_the_record_tells_how_it_failed_and_nothing_of_what_it_said(running):
    for code, text in ((500, TEXTS[0]), (500, TEXTS[0]), (400, TEXTS[1])):
        running.model.behaviour = failing(code, text)
        running.ask(infer())
    first, second, third = running.log(3)
    assert (first["status"], first["reason"], third["reason"]) == (500, "model-failed", "model-refused")
    assert (first["model_status"], first["model_bytes"]) == (500, len(TEXTS[0].encode()))
    assert first["model_digest"] == second["model_digest"] != third["model_digest"]
    plain = {hashlib.new(name, TEXTS[0].encode()).hexdigest() for name in ("sha256", "blake2b", "md5", "sha1")}
    assert not any(digest.startswith(first["model_digest"]) for digest in plain)  # nobody tries texts out
    assert CANARY not in running.log_path.read_text()
    assert running.metric('modelward_requests_total{outcome="model-failed"}') == 2
    assert running.metric('modelward_requests_total{outcome="answered"}') == 0


def test_an_answer_has_no_header_of_the_models_but_what_its_body_needs(running):
    header = HEADER.replace(b"retry-after", b"x-other") + b"cache-control: no-cache\r\n"
    running.model.behaviour = lambda connection, _: connection.answer(b"{}", header=header)
    answer = running.ask(infer())
    assert (answer.status, set(answer.header)) == (200, OURS)
    assert CANARY not in repr(answer.header)


def test_a_flagged_request_is_still_marked(run):
    running = run(screening=settings()["screening"] | {"onAnomaly": "Flag"})
    running.model.behaviour = failing(500)
    answer = running.ask(infer(STRANGE))
    assert (answer.problem, answer.header["x-modelward-verdict"]) == ("model-failed", "anomalous")


@given(st.sampled_from([code for code in STATUS_LINES if code >= REDIRECTS]), st.binary(), st.binary())
def test_whatever_it_is_two_failures_of_a_status_look_alike(code, body, value):
    lines = b"x-a: " + value.replace(b"\n", b"") + b"\r\n"
    refusal, other = instead_of(Response(code, lines, body)), instead_of(Response(code, b"", b""))
    assert (refusal.status, refusal.detail, refusal.headers) == (other.status, other.detail, other.headers)
    assert refusal.status >= 400
    assert refusal.status // 100 == max(code // 100, 4) or refusal.problem.slug == "bad-upstream"


def test_a_digest_is_of_the_text_and_of_bounded_work() -> None:
    assert Failure.of(500, b"a").digest != Failure.of(500, b"b").digest
    assert Failure.of(500, b"a" * (1 << 16) + b"b").digest == Failure.of(500, b"a" * (1 << 16) + b"c").digest


# --- over gRPC


@pytest.fixture
def model() -> Iterator[GrpcModel]:
    model = GrpcModel()
    yield model
    model.server.stop(None)


@pytest.fixture
def serve(model: GrpcModel, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    with several(tmp_path, lambda folder, **changes: Running(with_grpc(model, **changes), folder)) as start:
        yield start


def aborting(code: Any) -> Callable[[Any, Any], Any]:
    def behave(_: Any, context: Any) -> Any:
        context.set_trailing_metadata([("x-debug", CANARY), ("grpc-status-details-bin", CANARY.encode())])
        context.abort(code, f"{CANARY}\n")

    return behave


def test_over_grpc_the_code_stays_and_the_words_are_ours(serve, model):
    running = serve()
    expected = {
        Code.FAILED_PRECONDITION: (9, 400, "MODEL_REFUSED"),
        Code.NOT_FOUND: (5, 404, "MODEL_REFUSED"),
        Code.INTERNAL: (13, 500, "MODEL_FAILED"),
        Code.UNKNOWN: (2, 500, "MODEL_FAILED"),
        Code.UNAVAILABLE: (14, 503, "MODEL_FAILED"),
    }
    for code in expected:
        model.behaviour = aborting(code)
        found = call(port_of(running), grpc_infer())
        assert CANARY not in repr((found.detail, found.metadata))
        assert (found.code, details(found)[0], details(found)[2]) == (code, code.value[0], expected[code][2])
    lines = running.log(len(expected))
    assert [(line["grpc_status"], line["status"]) for line in lines] == [each[:2] for each in expected.values()]
    assert [line["model_status"] for line in lines] == [each[0] for each in expected.values()]
    assert {line["model_bytes"] for line in lines} == {len(CANARY) + 1}
    assert CANARY not in running.log_path.read_text()


@pytest.mark.parametrize("code", [Code.UNAUTHENTICATED, Code.CANCELLED])
def test_over_grpc_what_is_between_the_two_is_nothing_for_callers(serve, model, code):
    running = serve()
    model.behaviour = aborting(code)
    found = call(port_of(running), grpc_infer())
    assert (found.code, details(found)[2]) == (Code.INTERNAL, "BAD_UPSTREAM")
    assert CANARY not in repr((found.detail, found.metadata))
    assert running.log(1)[0]["reason"] == "upstream-status"


def test_over_grpc_a_flagged_call_is_still_marked(serve, model):
    running = serve(screening=settings()["screening"] | {"onAnomaly": "Flag"})
    model.behaviour = aborting(Code.INTERNAL)
    asked = grpc_infer()
    asked.inputs[0].contents.fp64_contents[:] = STRANGE
    assert call(port_of(running), asked).metadata["x-modelward-verdict"] == "anomalous"


def test_each_code_of_a_model_has_an_answer() -> None:
    for code in range(1, status.MAX_CODE + 1):
        refusal = status.instead_of(code)
        assert refusal.status >= 400
        assert refusal.status != 499  # that is a client who left
        assert status.code_of(refusal) in (code, status.INTERNAL)


@pytest.mark.parametrize("target", ["/v2/models/m/infer", "/v2/models/m/infer_stream"])
def test_what_is_checked_is_what_a_client_reads(running, run, target):
    """The bytes of a JSON object may as well be compressed: what they say then nobody has looked at."""
    checked = run(outputs=[{"name": "y", "datatype": "INT64", "shape": [1]}])
    for encoding, code in ((b"deflate", 502), (b"identity", 200)):
        header = b"Content-Encoding: " + encoding + b"\r\n"
        checked.model.behaviour = lambda connection, _, header=header: connection.answer(
            json.dumps(ANSWER).encode(), header=header
        )
        assert checked.ask(infer(), target=target).status == code
    running.model.behaviour = lambda connection, _: connection.answer(b"gz", header=b"content-encoding: gzip\r\n")
    assert running.ask(infer(), target=target).header["content-encoding"] == "gzip"  # nobody has declared anything
