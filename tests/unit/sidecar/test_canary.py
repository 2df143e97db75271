"""What people send must not turn up where it was not sent to: not in logs, metrics, traces or errors."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

import pytest

from tests.unit.sidecar.harness import ISSUER, Running, infer, request, settings, token
from tests.unit.sidecar.otlp import Collector, telemetry

# Names, a card, an address, a number with digits of its own: values. And a name of a field that nobody declared.
VALUES = ["Zebulon-Quarkwright", "4556737586899855", "zebulon.q@quark.example", "canary-7f3a"]
NUMBER = 73.731573
FIELD = "undeclared-quux"


def bodies(value: str) -> list[Any]:
    """Bodies that pass, and that fail in every way a body can."""
    rows = infer([NUMBER, 10, -5])["inputs"][0]
    note = {"name": "note", "shape": [1], "datatype": "BYTES", "data": [value]}
    return [
        {"inputs": [infer()["inputs"][0], note]},
        {"inputs": [rows, note]},  # anomalous
        {"inputs": [rows, note | {"name": FIELD}]},
        {"inputs": [rows, note | {"data": [value, value]}]},
        {"inputs": [rows | {"data": [value, 1, 2]}, note]},
        {"inputs": [rows | {"data": [NUMBER, 1]}, note]},
        {"inputs": [rows | {"data": {value: 1}}, note]},
        {"inputs": [rows, note | {"datatype": value}]},
        {"inputs": [rows, note | {"shape": value}]},
        {"inputs": [rows, note], FIELD: value},
        {"inputs": [rows, note | {"parameters": {FIELD: value}}]},
        {"inputs": [rows, note], "id": value},
        {"inputs": [rows, note], "parameters": {FIELD: value}},
        {"inputs": value},
        value,
        f'{{"inputs": "{value}'.encode(),
        b'{"inputs": "%b\xff"}' % value.encode(),
        f'{{"inputs": 1, "inputs": "{value}"}}'.encode(),
        b"[" * 5000 + value.encode(),
    ]


def send_everything(running: Running) -> list[bytes]:
    """All of it; the problems that callers were told."""
    told = []
    sent = 0

    def ask(*arguments, **options) -> None:
        nonlocal sent
        sent += 1
        answer = running.ask(*arguments, **options)
        if answer.header.get("content-type") == "application/problem+json":
            told.append(answer.body)

    for value in VALUES:
        for body in bodies(value):
            ask(body)
        good = bodies(value)[0]
        for target in (
            f"/v2/models/{value}/infer",
            f"/v2?ssn={value}",
            f"/v2/models/m/versions/{value}/infer",
            f"/{value}",
        ):
            ask(good, target=target)
        ask(good, header={"x-custom": value, "cookie": value, "user-agent": value, "x-request-id": value})
        ask(good, header={"x-modelward-purpose": value.split("@")[0]})
        ask(good, header={"content-type": value})
        ask(good, header={"content-type": f"application/json; charset={value}"})
        ask(good, header={"content-encoding": value})
        ask(good, header={"traceparent": value, "tracestate": f"a={value}"})
        ask(good, header={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": f"a={value}"})
        ask(good, header={"authorization": f"Basic {value}"}, bearer=None)
        for bad in (
            f"{value}.{value}.{value}",
            token(sub=value, iss="https://other.example"),
            token(sub=value, aud=value),
            token(sub=value, exp=time.time() - 3600),
            token(sub=[value]),
            token(sub="alice", purpose=[value]),
            token(sub="alice", groups=value),
            token(kid=value),
        ):
            ask(good, bearer=bad)
        for raw in (
            f"GET /{value} HTTP/1.1\r\n{value}\x00: {value}\r\n\r\n",
            f"{value} / HTTP/1.1\r\nhost: x\r\n\r\n",
            f"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: {value}\r\n\r\n",
            f"GET / HTTP/1.1\r\nhost: x\r\nexpect: {value}\r\n\r\n",
        ):
            sent += 1
            with running.client() as client:
                client.send(raw.encode())
                told.append(client.read().body)
        for trouble in (
            lambda connection, asked: connection.answer(asked.body, status=b"500 Oops"),
            lambda connection, asked, value=value: connection.transport.write(value.encode()),
            lambda connection, asked, value=value: connection.answer(
                value.encode(), header=f"x: {value}\0\r\n".encode()
            ),
            lambda connection, asked: connection.transport.abort(),
        ):
            usual, running.model.behaviour = running.model.behaviour, trouble
            ask(good)
            running.model.behaviour = usual
    assert sent > 100
    return told


EVERY_DETECTOR = settings()["screening"] | {
    "onAnomaly": "Flag",
    "detectors": [{"type": each} for each in ("Ensemble", "Drift", "Extraction", "Membership", "Output")],
}


@pytest.mark.parametrize(
    ("access_log", "screening"), [("Stdout", EVERY_DETECTOR), ("OTLP", settings()["screening"])], ids=["all", "OTLP"]
)
def test_nothing_that_was_sent_turns_up_where_it_was_not_sent_to(run, capfd, access_log, screening):
    collector = Collector()
    running = run(
        screening=screening,
        inputs=[
            {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["a", "b", "c"]},
            {"name": "note", "datatype": "BYTES", "shape": [-1]},
        ],
        access=settings()["access"] | {"purposeHeader": True},
        telemetry=telemetry(collector, accessLog=access_log),
    )
    problems = b"".join(send_everything(running))
    metrics = running.monitor("/metrics").body
    report = running.order().body
    running.call(running.sidecar.stop())
    written = running.log_path.read_bytes()
    exported = b"".join(collector.bodies)
    collector.close()
    places = {
        "access log": written,
        "metrics": metrics,
        "report to the controller": report,
        "OTLP": exported,
        "standard error": "".join(capfd.readouterr()).encode(),
        "problems": problems,
    }
    for place, content in places.items():
        for value in [*VALUES, "Zebulon", "quark.example", str(NUMBER), "73.73"]:
            at = content.lower().find(value.lower().encode())
            assert at < 0, f"{value} in {place}: {content[max(at - 150, 0) : at + 50]!r}"
        assert struct.pack("<d", NUMBER) not in content, place
        if place != "problems":  # a caller's own problem may name the field
            assert FIELD.encode() not in content, place
    assert b"user:alice" in (written if access_log == "Stdout" else exported)  # what should be there is
    assert len(problems) > 1000
    assert ISSUER.encode() not in metrics


def test_a_line_of_the_log_cannot_be_forged(run):
    forged = 'x"}\n{"time":"now","subject":"user:root","status":200}'
    access = settings()["access"] | {"rules": [{"subjects": ["*"], "operations": ["Infer"]}]}
    running = run(access=access)
    running.ask(infer(), bearer=token(sub=forged, purpose=forged))
    (line,) = running.log(1)
    assert line["subject"] == f"user:{forged}"
    assert len(running.log_path.read_text().splitlines()) == 2  # the start, and the record


def test_a_purpose_that_no_rule_names_is_not_recorded_from_the_header(run):
    running = run(access=settings()["access"] | {"purposeHeader": True})
    running.ask(infer(), bearer=token(purpose=None), header={"x-modelward-purpose": "diagnosis"})
    running.ask(infer(), bearer=token(purpose=None), header={"x-modelward-purpose": "jane.roe"})
    first, second = running.log(2)
    assert (first["purpose"], first["status"]) == ("diagnosis", 200)
    assert (second["reason"], "purpose" in second) == ("no-rule", False)


def test_a_problem_does_not_repeat_what_was_sent(running):
    canary = VALUES[0]
    for body in (infer([canary, 1, 2]), infer(canary), infer([1, 2, 3], shape=[1, 4])):
        assert canary not in running.ask(body).body.decode()
    with running.client() as client:
        client.send(request(infer(), bearer=f"a.{canary}.b"))
        assert canary not in json.dumps(client.read().json)
