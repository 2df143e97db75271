"""The small parts: routes, problems, metrics, the access log."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest

from modelward.sidecar.access_log import AccessLog, FileTarget
from modelward.sidecar.caller import Caller
from modelward.sidecar.exchange import Exchange, Response, refused, render
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.metrics import Counter, Gauge, Histogram, exposition
from modelward.sidecar.problems import BY_SLUG, TABLE, Refusal
from modelward.sidecar.record import Recorder
from modelward.sidecar.routes import Router

SIDECAR = Path(__file__).parents[3] / "operator" / "modelward" / "sidecar"


def test_every_problem_is_given_somewhere_and_nothing_else_is():
    source = "".join(path.read_text() for path in SIDECAR.glob("*.py") if path.name != "problems.py")
    given = set(re.findall(r'Refusal\(\s*"([a-z-]+)"', source))
    assert given == set(BY_SLUG)
    assert len(BY_SLUG) == len(TABLE)


def test_a_problem_is_a_document_of_rfc_9457():
    response = refused(Refusal("rate-limited", "Wait.", headers=b"retry-after: 3\r\n"), "id-1")
    sent = render(response, request_id="id-1", close=True, head=False)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"retry-after: 3" in head
    assert b"connection: close" in head
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {
        "type": "https://modelward.io/problems/rate-limited",
        "title": "Too many requests",
        "status": 429,
        "detail": "Wait.",
        "instance": "id-1",
    }
    assert render(Response(200, b"", b"abc"), request_id="a", close=False, head=True).endswith(
        b"content-length: 3\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("protocol", "method", "target", "expected"),
    [
        ("v2", b"POST", b"/v2/models/m/infer", ("Infer", "m", True)),
        ("v2", b"POST", b"/v2/models/m/versions/3/infer", ("Infer", "m", True)),
        ("v2", b"POST", b"/v2/models/m/explain", ("Explain", "m", True)),
        ("v2", b"GET", b"/v2/models/m", ("Metadata", "m", False)),
        ("v2", b"GET", b"/v2/health/ready", ("Metadata", None, False)),
        ("v1", b"POST", b"/v1/models/m:predict", ("Infer", "m", True)),
        ("v1", b"POST", b"/v1/models/m/versions/2:predict", ("Infer", "m", True)),
        ("v1", b"POST", b"/v1/models/m:explain", ("Explain", "m", True)),
        ("v1", b"HEAD", b"/v1/models", ("Metadata", None, False)),
        ("v2", b"POST", b"/v2/models/n/infer", "not-found"),
        ("v2", b"POST", b"/v2/models/m/generate", "not-found"),
        ("v2", b"POST", b"/v2/models/./infer", "not-found"),
        ("v2", b"POST", b"/v2/models//infer", "not-found"),
        ("v2", b"POST", b"/v2/models/m/infer\n", "not-found"),
        ("v2", b"POST", b"//v2/models/m/infer", "not-found"),
        ("v2", b"POST", b"/V2/models/m/infer", "not-found"),
        ("v2", b"POST", b"/v2/models/m", "method-not-allowed"),
        ("v1", b"GET", b"/v1/models/m:predict", "method-not-allowed"),
        ("v1", b"POST", b"/v2/models/m/infer", "not-found"),
    ],
)
def test_routes(protocol, method, target, expected):
    router = Router(protocol, "m")
    for _ in range(2):  # the second time from memory
        try:
            found = tuple(router.route(method, target))[:3]
        except Refusal as refusal:
            found = refusal.problem.slug
        assert found == expected


@pytest.mark.parametrize(("path", "streams"), [("infer", False), ("infer_stream", True), ("generate_stream", True)])
def test_only_the_streaming_paths_stream(path, streams):
    route = Router("v2", "m").route(b"POST", f"/v2/models/m/{path}".encode())
    assert (route.operation, route.has_body, route.streams) == ("Infer", True, streams)


def test_routes_remember_boundedly():
    router = Router("v2", "m")
    for version in range(1000):
        router.route(b"GET", b"/v2/models/m/versions/%d" % version)
    assert len(router._known) <= 256


def test_the_exposition_is_what_prometheus_reads():
    counter = Counter("a_total", "Things.", ("kind",), [("x",), ("y",)])
    counter.add("x", amount=2)
    histogram = Histogram("b_seconds", "Times.")
    for seconds in (0.00004, 0.00005, 0.3, 99):
        histogram.observe(seconds)
    text = exposition((counter, histogram, Gauge("c", "One.", lambda: 1.5), Gauge("d", "None.", lambda: None))).decode()
    assert text.endswith("\n")
    lines = text.splitlines()
    assert lines[:4] == [
        "# HELP a_total Things.",
        "# TYPE a_total counter",
        'a_total{kind="x"} 2',
        'a_total{kind="y"} 0',
    ]
    assert 'b_seconds_bucket{le="5e-05"} 2' in lines
    assert 'b_seconds_bucket{le="0.5"} 3' in lines
    assert 'b_seconds_bucket{le="+Inf"} 4' in lines
    assert "b_seconds_count 4" in lines
    assert "c 1.5" in lines
    assert not any(line.startswith("d ") for line in lines)
    for line in lines:
        assert re.fullmatch(
            r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{[a-z]+=\"[^\"]*\"(,[a-z]+=\"[^\"]*\")*\})? [-+0-9.e]+", line
        )


def test_every_outcome_has_a_series_from_the_start():
    text = Instruments().exposition().decode()
    for problem in TABLE:
        assert f'modelward_requests_total{{outcome="{problem.slug}"}} 0' in text
    assert 'modelward_telemetry_total{sink="access-log",outcome="dropped"} 0' in text
    assert "modelward_certificate_expiry_seconds" not in text  # in plaintext there is none


def exchange(**fields) -> Exchange:
    made = Exchange("id")
    made.method, made.address, made.status = b"GET", "127.0.0.1", 200
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def counted(instruments: Instruments) -> dict[str, float]:
    return {outcome: instruments.telemetry.value("access-log", outcome) for outcome in ("sent", "dropped", "failed")}


def test_a_line_is_one_json_object_whatever_a_name_holds(tmp_path):
    instruments = Instruments()
    path = tmp_path / "log"
    target = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = AccessLog(FileTarget(target), instruments.telemetry)
    name = 'user:"}\n\r\u2028\x00{"status":200}\x1b[31m'
    caller = Caller(name=name, issuer="i", subjects=frozenset())
    log.append(Recorder().record(exchange(caller=caller), 0.0, 1, 2))
    log.close()
    os.close(target)
    _, line, _ = path.read_bytes().splitlines()  # between the start and the end
    record = json.loads(line)
    assert record["subject"] == name
    assert record["time"] == "1970-01-01T00:00:00.000Z"
    assert record["upstream_us"] == 1
    assert counted(instruments) == {"sent": 1, "dropped": 0, "failed": 0}


def test_every_request_is_counted_once_when_the_sink_stands_still():
    """A pipe that nobody reads: the list fills, the rest is dropped, and nothing blocks."""
    instruments = Instruments()
    reading, writing = os.pipe()
    log = AccessLog(FileTarget(writing), instruments.telemetry, max_pending=500)
    for _ in range(20):
        for _ in range(1000):
            log.append(Recorder().record(exchange(), 0.0, 0, 0))
        log.flush()
    assert counted(instruments)["dropped"] >= 20_000 - 2000
    drained = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 65536), b"")])
    drained.start()
    log.close()
    os.close(writing)
    drained.join()
    os.close(reading)
    total = counted(instruments)
    assert sum(total.values()) == 20_000
    assert total["sent"] >= 500


def test_a_sink_that_fails_is_counted(tmp_path):
    instruments = Instruments()
    target = os.open("/dev/full", os.O_WRONLY)
    log = AccessLog(FileTarget(target), instruments.telemetry)
    for _ in range(3):
        log.append(Recorder().record(exchange(), 0.0, 0, 0))
    log.close()
    os.close(target)
    assert counted(instruments) == {"sent": 0, "dropped": 0, "failed": 3}
