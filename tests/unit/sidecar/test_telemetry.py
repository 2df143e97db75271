"""OTLP: what goes to the collector, and that no trouble of the collector's is a request's."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time

import pytest

from modelward.logchain import verify
from modelward.sidecar import telemetry as module
from modelward.sidecar.collector import Collector as Connection
from modelward.sidecar.collector import UndeliveredError
from modelward.sidecar.config import ConfigError, Telemetry
from modelward.sidecar.instruments import Instruments
from modelward.sidecar.metrics import Counter
from modelward.sidecar.record import Record
from modelward.sidecar.telemetry import Courier, Finished, Tracing
from modelward.sidecar.tracing import Trace
from tests.unit.sidecar.harness import infer, settings, token, until
from tests.unit.sidecar.otlp import Collector, telemetry
from tests.unit.sidecar.pki import LOCALHOST, Authority

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OUTCOMES = ("sent", "dropped", "failed")


HURRY = "modelward.sidecar.collector._HURRY_SECONDS"


@pytest.fixture
def collector(monkeypatch):
    """One that is waited for at the end, however busy the machine is."""
    monkeypatch.setattr(HURRY, 30.0)
    made = Collector()
    yield made
    made.close()


def counted(running, sink: str) -> dict[str, float]:
    return {one: running.metric(f'modelward_telemetry_total{{sink="{sink}",outcome="{one}"}}') for one in OUTCOMES}


def attributes(span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_each_request_is_a_span_with_the_callers_as_parent_and_ours_as_the_models(run, collector):
    running = run(telemetry=telemetry(collector))
    running.ask(infer(), header={"traceparent": TRACEPARENT, "tracestate": "vendor=1"})
    running.ask(infer(), bearer="nonsense")
    passed, refused = collector.spans(2)
    assert passed.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert passed.parent_span_id.hex() == "b7ad6b7169203331"
    (asked,) = running.model.asked
    assert asked.header["traceparent"] == f"00-{passed.trace_id.hex()}-{passed.span_id.hex()}-01"
    assert asked.header["tracestate"] == "vendor=1"
    told = attributes(passed)
    assert (told["http.response.status_code"], told["modelward.operation"], told["modelward.rows"]) == (200, "Infer", 1)
    assert passed.end_time_unix_nano >= passed.start_time_unix_nano
    assert attributes(refused)["http.response.status_code"] == 401
    assert not refused.parent_span_id
    assert "alice" not in str(collector.messages)  # who asked is the access log's alone


def test_metrics_are_exported_at_the_end_at_the_latest(run, collector):
    running = run(telemetry=telemetry(collector))
    running.ask(infer())
    running.call(running.sidecar.stop())
    metrics = collector.metrics()
    points = metrics["modelward_requests_total"].sum.data_points
    assert {point.attributes[0].value.string_value: point.as_double or point.as_int for point in points}[
        "answered"
    ] == 1
    (point,) = metrics["modelward_overhead_seconds"].histogram.data_points
    assert point.count == sum(point.bucket_counts) == 1
    assert metrics["modelward_configuration_generation"].gauge.data_points[0].as_int == 1


def test_the_access_log_goes_to_the_collector_chain_and_all(run, collector):
    running = run(telemetry=telemetry(collector, accessLog="OTLP"))
    for _ in range(3):
        running.ask(infer())
    running.call(running.sidecar.stop())
    lines = [line.encode() for line in collector.lines(5)]
    verdict = verify(lines, whole=True)
    assert (verdict.findings, verdict.records) == ([], 3)
    assert json.loads(lines[1])["subject"] == "user:alice"
    assert not [line for line in running.log() if "request" in line]


@pytest.mark.parametrize("behaviour", [500, 503, 400, "hang", "drip", "reset", "garbage", "redirect", "endless"])
@pytest.mark.parametrize("access_log", ["Stdout", "OTLP"])
def test_whatever_the_collector_does_requests_are_answered_and_records_counted(
    run, collector, behaviour, access_log, monkeypatch
):
    monkeypatch.setattr("modelward.sidecar.collector.SECONDS", 0.5)
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.05,))
    collector.behaviour = behaviour
    other = Collector()
    collector.elsewhere = f"{other.url}/v1/traces"
    running = run(telemetry=telemetry(collector, accessLog=access_log))
    for _ in range(5):
        assert running.ask(infer()).status == 200
    for sink in ["otlp-traces", *(["access-log"] if access_log == "OTLP" else [])]:
        until(lambda sink=sink: sum(counted(running, sink).values()) == 5)
        # An answer that begins well is one, however it goes on.
        assert counted(running, sink) in (
            {"sent": 0, "dropped": 0, "failed": 5},
            *([{"sent": 5, "dropped": 0, "failed": 0}] * (behaviour == "endless")),
        )
    assert other.requests == 0
    other.close()


def test_a_collector_that_comes_back_is_used_again(run, collector, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.05,))
    collector.behaviour = 500
    running = run(telemetry=telemetry(collector, accessLog="OTLP"))
    running.ask(infer())
    until(lambda: counted(running, "access-log")["failed"] == 1)
    collector.behaviour = 200
    running.ask(infer())
    running.call(running.sidecar.stop())
    verdict = verify([line.encode() for line in collector.lines(3)], whole=True)
    assert (verdict.findings, verdict.failed, verdict.records) == ([], 1, 1)


def test_one_that_does_not_answer_costs_bounded_memory_and_every_span_is_counted(collector, monkeypatch):
    monkeypatch.setattr(module, "MAX_PENDING", 1000)
    monkeypatch.setattr(HURRY, 0.5)
    collector.behaviour = "hang"
    count = Instruments().telemetry
    asked = Telemetry(endpoint=collector.url, allow=[collector.url])
    tracing = Tracing(Courier(asked, {}), count, list)
    finished = Finished(Trace(b"1" * 32, b"", b"01", b"", b"2" * 16), Record("t", "r"), 1)
    for _ in range(5):
        for _ in range(1000):
            tracing.append(finished)
        tracing.flush()
    assert count.value("otlp-traces", "dropped") == 4000
    begun = time.monotonic()
    tracing.close()
    assert time.monotonic() - begun < 8, "as long as for an answer on a quiet day"
    assert sum(count.value("otlp-traces", one) for one in OUTCOMES) == 5000


def test_a_drained_sidecar_does_not_wait_for_a_collector_that_hangs(run, collector, monkeypatch):
    monkeypatch.setattr(HURRY, 0.5)
    collector.behaviour = "hang"
    running = run(telemetry=telemetry(collector, accessLog="OTLP"))
    running.ask(infer())
    begun = time.monotonic()
    running.call(running.sidecar.stop())
    assert time.monotonic() - begun < 8
    count: Counter = running.sidecar.instruments.telemetry
    for sink in ("access-log", "otlp-traces"):
        assert sum(count.value(sink, one) for one in OUTCOMES) == 1


def test_reloading_turns_it_on_off_and_elsewhere(run, collector):
    running = run()
    running.ask(infer())
    other = Collector()

    def reload(section):
        running.source._setup = running.setup(settings(telemetry=section))
        assert running.call(running.sidecar.reload())

    reload(telemetry(collector, accessLog="OTLP"))
    running.ask(infer())
    reload(telemetry(other))
    running.ask(infer())
    reload(None)
    running.ask(infer())
    assert len(running.log(3)) == 3
    assert len(collector.lines(3)) >= 3
    assert len(collector.spans(1)) == 1
    assert len(other.spans(1)) == 1
    running.call(running.sidecar.stop())
    verdict = verify(running.log_path.read_bytes().splitlines(), whole=True)
    assert (verdict.findings, verdict.processes, verdict.records) == ([], 2, 3)
    other.close()


def test_an_endpoint_that_is_not_allowed_refuses_the_configuration(run):
    with pytest.raises(ConfigError, match=r"telemetry\.endpoint .*not among the addresses.*telemetry\.allow"):
        run(telemetry={"endpoint": "http://169.254.169.254", "allow": ["https://collector.example/"]})


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://c.example.evil.example",
        "https://u@c.example",
        "ftp://c.example",
        "https://c.example/../x",
        "http://c.example",
    ],
)
def test_the_list_is_exact(endpoint):
    with pytest.raises(ConfigError):
        Connection(Telemetry(endpoint=endpoint, allow=["https://c.example/"]))


def test_over_tls_only_the_given_authority_is_trusted(tmp_path):
    authority = Authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(tmp_path, LOCALHOST))
    collector = Collector(context=context)
    url = f"https://localhost:{collector.server_port}"
    trusting = Connection(Telemetry(endpoint=url, allow=[f"{url}/"], authorities=authority.pem))
    trusting.post("traces", b"")
    trusting.close()
    other = Connection(Telemetry(endpoint=url, allow=[f"{url}/"], authorities=Authority().pem))
    with pytest.raises(UndeliveredError, match="certificate does not verify"):
        other.post("traces", b"")
    assert collector.requests == 1
    collector.close()


def test_authorities_that_are_no_certificates_refuse_the_configuration():
    with pytest.raises(ConfigError, match=r"telemetry\.authorities"):
        Connection(Telemetry(endpoint="https://c.example", allow=["https://c.example"], authorities="x"))


def test_nothing_of_it_is_imported_where_it_is_off():
    program = (
        "import sys, modelward.sidecar.main, modelward.sidecar.sidecar\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "assert not roots & {'opentelemetry', 'google', 'requests', 'pydantic'}, roots\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_an_answer_in_the_200s_is_needed(collector):
    connection = Connection(Telemetry(endpoint=collector.url, allow=[collector.url]))
    connection.post("traces", b"")
    collector.behaviour = 302
    with pytest.raises(UndeliveredError, match="status 302"):
        connection.post("traces", b"")
    connection.close()


def test_who_may_see_traces_is_not_told_who_asked(run, collector):
    running = run(telemetry=telemetry(collector))
    running.ask(infer(), bearer=token(sub="jane.roe"))
    collector.spans(1)
    assert b"jane.roe" not in b"".join(collector.bodies)
