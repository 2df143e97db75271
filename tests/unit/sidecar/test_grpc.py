"""gRPC over real sockets: a real client before the sidecar, a real model server behind it, the same checks as REST."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelward.privacy.keys import derive
from modelward.sidecar.setup import Setup
from tests.unit.sidecar import harness
from tests.unit.sidecar.harness import STRANGE, Running, settings, several, token, until
from tests.unit.sidecar.oip import GrpcModel, Told, call, details, grpc, opened, port_of, with_grpc
from tests.unit.sidecar.oip_messages import METHODS, Parameter, answer, infer, message
from tests.unit.sidecar.otlp import Collector, telemetry
from tests.unit.sidecar.test_shared_limits import ready, shared_settings
from tests.unit.sidecar.valkey import Server

Code = grpc.StatusCode
KEYS = derive({1: bytes(32)}, "clinic")


class Keyed(Running):
    def setup(self, document: dict[str, Any], context: Any = None) -> Setup:
        return replace(super().setup(document, context), keys=KEYS)


@pytest.fixture
def model() -> Iterator[GrpcModel]:
    model = GrpcModel()
    yield model
    model.server.stop(None)


@pytest.fixture
def serve(model: GrpcModel, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts sidecars with gRPC; changes to the configuration as keyword arguments."""
    with several(tmp_path, lambda folder, **changes: Keyed(with_grpc(model, **changes), folder)) as start:
        yield start


@pytest.fixture
def running(serve: Callable[..., Running]) -> Running:
    return serve()


def refused(told: Told, code: Any, reason: str, model: GrpcModel) -> str:
    """What the caller was told; the model was not asked."""
    assert (told.code, model.asked) == (code, []), told
    number, said, name, metadata = details(told)
    assert (number, said, name) == (code.value[0], told.detail, reason)
    assert metadata == {"instance": told.metadata["x-modelward-request-id"]}
    return told.detail


@pytest.mark.parametrize("raw", [False, True])
def test_a_request_goes_on_in_the_form_in_which_it_came(running, model, raw):
    asked = infer([0.1, 10.2, -5.3, 0.2, 10.1, -5.1], raw=raw)
    asked.id, asked.model_version = "17", "v1"
    asked.parameters["a"].CopyFrom(Parameter(int64_param=-3))
    asked.outputs.add(name="y")
    told = call(port_of(running), asked, metadata=[("x-custom", "no"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")])
    assert (told.code, told.message) == (Code.OK, answer())
    (got,) = model.asked
    assert got.message == asked
    assert got.metadata["x-request-id"] == told.metadata["x-modelward-request-id"]
    assert got.metadata["traceparent"].startswith(f"00-{'a' * 32}-")
    assert not {"authorization", "x-custom"} & set(got.metadata)


@pytest.mark.parametrize("method", METHODS[:-1])
def test_the_other_methods_are_open_to_who_may_read_metadata(running, model, method):
    named = method.startswith("Model")
    asked = message(f"{method}Request")(**({"name": "m"} if named else {}))
    told = call(port_of(running), asked, method)
    assert told.code == Code.OK
    assert told.message.ByteSize()
    assert [one.method for one in model.asked] == [method]
    assert call(port_of(running), asked, method, bearer=token(sub="limited")).code == Code.PERMISSION_DENIED
    if named:
        other = message(f"{method}Request")(name="other")
        assert call(port_of(running), other, method).code == Code.NOT_FOUND
    else:
        assert call(port_of(running), b"\x0a\x01a", method).code == Code.INVALID_ARGUMENT
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("bearer", "code", "reason"),
    [
        (None, Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
        ("rubbish", Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
        ({"aud": "other"}, Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
        ({"exp": 1}, Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
        ({"sub": "bob"}, Code.PERMISSION_DENIED, "FORBIDDEN"),
        ({"purpose": "marketing"}, Code.PERMISSION_DENIED, "FORBIDDEN"),
    ],
)
def test_who_may_not_is_refused(running, model, bearer, code, reason):
    bearer = token(**bearer) if isinstance(bearer, dict) else bearer
    refused(call(port_of(running), infer(), bearer=bearer), code, reason, model)


def test_metadata_that_counts_comes_once(running, model):
    told = call(port_of(running), infer(), metadata=[("authorization", "Bearer x")])
    refused(told, Code.INVALID_ARGUMENT, "BAD_FRAMING", model)


def test_a_purpose_may_come_as_metadata_where_the_policy_lets_it_count(serve, model):
    running = serve(access=settings()["access"] | {"purposeHeader": True})
    bearer = token(purpose=None)
    assert call(port_of(running), infer(), bearer=bearer).code == Code.PERMISSION_DENIED
    stated = [("x-modelward-purpose", "diagnosis")]
    assert call(port_of(running), infer(), bearer=bearer, metadata=stated).code == Code.OK
    assert running.log(2)[1]["purpose"] == "diagnosis"


def test_a_rate_limit_counts_calls_and_requests_together(running, model):
    bearer = token(sub="limited")
    assert running.ask(harness.infer(), bearer=bearer).status == 200
    assert call(port_of(running), infer(), bearer=bearer).code == Code.OK
    told = call(port_of(running), infer(), bearer=bearer)
    assert told.code == Code.RESOURCE_EXHAUSTED
    assert details(told)[2] == "RATE_LIMITED"
    assert 50_000 < int(told.metadata["grpc-retry-pushback-ms"]) <= 60_000
    assert running.ask(harness.infer(), bearer=bearer).status == 429


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (infer(name="z"), "`z` is not declared"),
        (infer(datatype="FP32", contents={"fp32_contents": [1, 2, 3]}), "the datatype must be FP64"),
        (infer(shape=[3]), "the shape must be"),
        (infer(shape=[2, 3]), "its data have 24 bytes"),
        (infer([float("nan"), 1, 2]), "must be a finite number"),
        (infer([1, float("inf"), 2], raw=True), "must be a finite number"),
        (infer(shape=[-1, 3]), "does not fit"),
        (infer(contents={}), "a tensor has no data"),
        (infer(contents={"int64_contents": [1, 2, 3]}), "not in the field"),
        (infer(parameters={"shared_memory_region": Parameter(string_param="x")}), "where a tensor's data are"),
        (b"\xff\xff\xff", "cannot be read"),
        (b"", "The model here is m"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_model_not_asked(running, model, asked, said):
    told = call(port_of(running), asked)
    assert told.code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND)
    assert said in refused(told, told.code, details(told)[2], model)


def test_another_model_and_another_method_are_not_there(running, model):
    other = infer()
    other.model_name = "other"
    refused(call(port_of(running), other), Code.NOT_FOUND, "NOT_FOUND", model)
    for method in ("Nope", "/grpc.health.v1.Health/Check", "/inference.GRPCInferenceService/modelinfer"):
        told = call(port_of(running), b"", method)
        refused(told, Code.UNIMPLEMENTED, "NOT_IMPLEMENTED", model)
    other = infer()
    other.model_version = "../v2"
    refused(call(port_of(running), other), Code.INVALID_ARGUMENT, "SCHEMA_VIOLATION", model)


def test_a_compressed_message_is_refused(running, model):
    told = call(port_of(running), infer([0.1, 10.2, -5.3] * 100), compression=grpc.Compression.Gzip)
    refused(told, Code.UNIMPLEMENTED, "NOT_IMPLEMENTED", model)


def test_a_message_over_the_limit_is_refused_before_it_is_whole(serve, model):
    running = serve(limits={"bodyBytes": 10_000, "drainSeconds": 5})
    rows = [0.1, 10.2, -5.3] * 400
    assert call(port_of(running), infer(rows)).code == Code.OK
    model.asked.clear()
    with opened(port_of(running)) as channel:
        for _ in range(3):
            told = call(0, infer(rows * 100), channel=channel)
            refused(told, Code.RESOURCE_EXHAUSTED, "BODY_TOO_LARGE", model)
        assert call(0, infer(rows), channel=channel).code == Code.OK, "the connection goes on"


def test_undeclared_inputs_are_dropped_where_the_policy_says_so(serve, model):
    running = serve(undeclaredFields="Drop")
    asked = infer()
    asked.inputs.add(name="z", datatype="BYTES", shape=[1], contents={"bytes_contents": [b"secret"]})
    assert call(port_of(running), asked).code == Code.OK
    assert model.asked[0].message == infer()


INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["age", "radius", "salary"]},
    {"name": "name", "datatype": "BYTES", "shape": [-1]},
    {"name": "ssn", "datatype": "BYTES", "shape": [-1]},
]
FIELDS = {
    "age": {"treatment": "Generalise", "step": 5},
    "salary": {"treatment": "Drop"},
    "name": {"treatment": "Pseudonymise"},
    "ssn": {"treatment": "Drop"},
}


@pytest.mark.parametrize("raw", [False, True])
def test_fields_are_treated_on_the_way_there_and_back(serve, model, raw):
    def behave(asked: Any, _: Any) -> Any:
        """A model that tells the name that it was given, and one that it should not know."""
        told = answer({"name": "name", "datatype": "BYTES", "shape": [2]}, {"name": "ssn", "datatype": "BYTES",
                       "shape": [1]}, {"name": "age", "datatype": "INT32", "shape": [1]})  # fmt: skip
        names = [asked.raw_input_contents[1][4:] if raw else asked.inputs[1].contents.bytes_contents[0], b"Bob"]
        if raw:
            told.raw_output_contents.extend(
                (b"".join(len(one).to_bytes(4, "little") + one for one in names), b"\1\0\0\0x", b"\x26\0\0\0")
            )
        else:
            told.outputs[0].contents.bytes_contents.extend(names)
            told.outputs[1].contents.bytes_contents.append(b"078-05-1120")
            told.outputs[2].contents.int_contents.append(38)
        return told

    model.behaviour = behave
    running = serve(inputs=INPUTS, fields=FIELDS, screening={})
    asked = infer([37, 12.5, 51_000], raw=raw)
    for name, value in (("name", b"Ada"), ("ssn", b"078-05-1120")):
        tensor = asked.inputs.add(name=name, datatype="BYTES", shape=[1])
        if raw:
            asked.raw_input_contents.append(len(value).to_bytes(4, "little") + value)
        else:
            tensor.contents.bytes_contents.append(value)
    told = call(port_of(running), asked)
    assert told.code == Code.OK, told
    got = model.asked[0].message
    assert [tensor.name for tensor in got.inputs] == ["x", "name"]
    assert b"Ada" not in got.SerializeToString()
    assert b"078-05" not in got.SerializeToString()
    if not raw:
        assert list(got.inputs[0].contents.fp64_contents) == [35, 12.5, 0]
        first, second = told.message.outputs[0].contents.bytes_contents
        assert first == got.inputs[1].contents.bytes_contents[0]
        assert second.startswith(b"p1.") or second != b"Bob"
        assert list(told.message.outputs[1].contents.int_contents) == [35]
    assert [output.name for output in told.message.outputs] == ["name", "age"]
    assert b"Bob" not in told.message.SerializeToString()
    assert bool(told.message.raw_output_contents) == raw
    assert running.log(1)[0]["treated"] == ["age:Generalise", "salary:Drop", "name:Pseudonymise", "ssn:Drop"]


def test_an_anomaly_is_blocked_or_flagged(serve, model):
    told = call(port_of(serve()), infer(STRANGE))
    refused(told, Code.PERMISSION_DENIED, "ANOMALOUS_INPUT", model)
    assert "x-modelward-verdict" not in told.metadata
    for action, verdict in (("Flag", "anomalous"), ("Sanitise", "sanitised")):
        running = serve(screening=settings()["screening"] | {"onAnomaly": action})
        told = call(port_of(running), infer(STRANGE))
        assert (told.code, told.metadata["x-modelward-verdict"]) == (Code.OK, verdict)
        assert running.log(1)[0]["verdict"] == verdict
    assert list(model.asked[0].message.inputs[0].contents.fp64_contents) == STRANGE
    assert model.asked[1].message.inputs[0].contents.fp64_contents[1] < 20


@pytest.mark.parametrize("raw", [False, True])
def test_an_answer_that_does_not_fit_the_declared_outputs_is_not_told(serve, model, raw):
    running = serve(outputs=[{"name": "y", "datatype": "INT64", "shape": [-1]}])
    assert call(port_of(running), infer()).code == Code.OK
    output = {"name": "y", "datatype": "INT64", "shape": [1]}
    for changed in ({"name": "z"}, {"shape": [2]}, {"shape": [1, 1]}, {"datatype": "UINT64"}):
        told = answer(output | changed | ({} if raw else {"contents": {"int64_contents": [1]}}))
        if raw:
            told.raw_output_contents.append(bytes(8))
        model.behaviour = lambda *_, told=told: told
        found = call(port_of(running), infer())
        assert found.code == Code.INTERNAL
        assert details(found)[2] == "BAD_UPSTREAM"
    assert running.log(5)[-1]["reason"] == "upstream-schema"


def test_the_model_away_slow_and_back(serve, model):
    running = serve(limits={"upstreamSeconds": 1, "drainSeconds": 5})
    assert call(port_of(running), infer()).code == Code.OK
    go_on = threading.Event()
    model.behaviour = lambda *_: go_on.wait(60) and answer()
    told = call(port_of(running), infer())
    assert (told.code, details(told)[2]) == (Code.DEADLINE_EXCEEDED, "UPSTREAM_TIMEOUT")
    go_on.set()
    model.server.stop(None).wait()
    told = call(port_of(running), infer())
    assert (told.code, details(told)[2]) == (Code.UNAVAILABLE, "BAD_UPSTREAM")
    model.behaviour = lambda *_: answer()
    model.start(model.port)
    assert call(port_of(running), infer()).code == Code.OK


def test_a_client_that_waits_no_longer_ends_the_call_at_the_model_too(running, model):
    gone, go_on = [], threading.Event()

    def behave(_: Any, context: Any) -> Any:
        context.add_callback(lambda: gone.append(1))
        go_on.wait(60)
        return answer()

    with opened(port_of(running)) as channel:
        assert call(0, infer(), channel=channel).code == Code.OK
        model.behaviour = behave
        assert call(0, infer(), channel=channel, timeout=2).code == Code.DEADLINE_EXCEEDED
    record = running.log(2)[1]
    assert (record["status"], record["grpc_status"]) in ((499, 1), (504, 4))
    until(lambda: gone)
    go_on.set()


def test_a_large_message_and_a_large_answer_go_through(serve, model):
    rows = 40_000
    model.behaviour = lambda *_: answer(
        {"name": "y", "datatype": "FP64", "shape": [rows], "contents": {"fp64_contents": [0.5] * rows * 3}}
    )
    running = serve(screening={})
    with opened(port_of(running), **{"grpc.max_receive_message_length": 16 << 20}) as channel:
        told = call(0, infer([0.25] * 3 * rows), channel=channel)
    assert told.code == Code.OK
    assert len(told.message.outputs[0].contents.fp64_contents) == 3 * rows
    assert len(model.asked[0].message.inputs[0].contents.fp64_contents) == 3 * rows


def test_an_answer_over_the_limit_is_not_told(serve, model):
    running = serve(limits={"responseBytes": 1000, "drainSeconds": 5})
    model.behaviour = lambda *_: answer(
        {"name": "y", "datatype": "FP64", "shape": [900], "contents": {"fp64_contents": [0.5] * 900}}
    )
    told = call(port_of(running), infer())
    assert (told.code, details(told)[2]) == (Code.INTERNAL, "BAD_UPSTREAM")
    model.behaviour = lambda *_: answer()
    assert call(port_of(running), infer()).code == Code.OK


def test_many_calls_at_a_time_on_one_connection(running, model):
    model.behaviour = lambda asked, _: answer(
        {"name": "y", "datatype": "FP64", "shape": [3], "contents": asked.inputs[0].contents}
    )
    with opened(port_of(running)) as channel, ThreadPoolExecutor(32) as pool:
        rows = [[round(index * 1e-3, 3), 10.2, -5.3] for index in range(300)]
        told = list(pool.map(lambda row: call(0, infer(row), channel=channel), rows))
    assert {one.code for one in told} == {Code.OK}
    assert [list(one.message.outputs[0].contents.fp64_contents) for one in told] == rows


def test_records_metrics_and_spans(serve, model):
    collector = Collector()
    running = serve(telemetry=telemetry(collector))
    told = call(port_of(running), infer())
    call(port_of(running), infer(), bearer=None)
    good, bad = running.log(2)
    assert good["request"] == told.metadata["x-modelward-request-id"]
    assert (good["status"], good["grpc_status"], good["operation"], good["subject"]) == (200, 0, "Infer", "user:alice")
    assert (good["fields"], good["rows"], good["model"]) == (["x"], 1, "m")
    assert (good["bytes_in"], good["bytes_out"]) == (infer().ByteSize(), answer().ByteSize())
    assert (bad["status"], bad["grpc_status"], bad["reason"]) == (401, 16, "token-missing")
    assert running.metric('modelward_requests_total{outcome="answered"}') == 1
    assert running.metric('modelward_requests_total{outcome="unauthenticated"}') == 1
    spans = {span.attributes[0].value.string_value: span for span in collector.spans(2)}
    found = {name: {one.key: one.value for one in span.attributes} for name, span in spans.items()}
    collector.close()
    assert found[good["request"]]["rpc.grpc.status_code"].int_value == 0
    assert found[good["request"]]["rpc.system"].string_value == "grpc"
    assert found[bad["request"]]["rpc.grpc.status_code"].int_value == 16
    parent = model.asked[0].metadata["traceparent"].split("-")
    assert spans[good["request"]].span_id.hex() == parent[2]


def test_a_limit_that_replicas_share_counts_calls_as_well(serve, tmp_path, model):
    server = Server(tmp_path)
    try:
        running = serve(**shared_settings(server, 3))
        ready(running)
        told = [call(port_of(running), infer()) for _ in range(4)]
        assert [one.code for one in told] == [Code.OK] * 3 + [Code.RESOURCE_EXHAUSTED]
        assert running.ask(harness.infer()).status == 429
        assert running.metric('modelward_rate_limit_checks_total{counted="together"}') == 5
        assert len(model.asked) == 3
    finally:
        server.stop()
