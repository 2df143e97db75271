"""Fields treated over real sockets: what the model gets, what the detector sees, what comes back, and what is told."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelward.detect import fitting
from modelward.privacy.keys import derive
from modelward.privacy.pseudonym import FORM, Pseudonymiser
from modelward.privacy.tokens import Opener
from modelward.sidecar import config
from modelward.sidecar.answers import Answers
from modelward.sidecar.binary import Body
from modelward.sidecar.detection import Detection
from modelward.sidecar.problems import Refusal
from modelward.sidecar.schema import Schema
from modelward.sidecar.setup import Setup
from modelward.sidecar.treatment import Treatments
from tests.unit.sidecar.harness import Asked, ModelConnection, Running, request, settings
from tests.unit.sidecar.test_streams import STREAM

HOLDER = X25519PrivateKey.generate()
RECIPIENT = base64.b64encode(HOLDER.public_key().public_bytes_raw()).decode()
KEYS = derive({1: bytes(32)}, "clinic")
INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["age", "radius", "salary"], "minimum": -1000},
    {"name": "name", "datatype": "BYTES", "shape": [-1]},
    {"name": "ssn", "datatype": "BYTES", "shape": [-1]},
    {"name": "visit", "datatype": "BYTES", "shape": [-1]},
]
FIELDS = {
    "age": {"treatment": "Generalise", "step": 5},
    "salary": {"treatment": "Drop"},
    "name": {"treatment": "Pseudonymise"},
    "ssn": {"treatment": "Drop"},
    "visit": {"treatment": "DateShift", "maxDays": 30, "subject": "name"},
}
CANARIES = ["Ada Lovelace", "078-05-1120", "1987-06-05"]


def document(**changes: Any) -> dict[str, Any]:
    return settings(inputs=INPUTS, fields=FIELDS, screening={}) | changes


def body(**changes: Any) -> dict[str, Any]:
    data = {"x": [37.0, 12.5, 51_000.0], "name": ["Ada Lovelace"], "ssn": ["078-05-1120"], "visit": ["1987-06-05"]}
    data |= changes
    inputs = []
    for one in INPUTS:
        values = data[one["name"]]
        if values is not None:
            shape = [len(values) // 3, 3] if one["name"] == "x" else [len(values)]
            inputs.append({"name": one["name"], "shape": shape, "datatype": one["datatype"], "data": values})
    return {"inputs": inputs}


def start(tmp_path: Path, changed: dict[str, Any]) -> Running:
    class Keyed(Running):
        def setup(self, document: dict[str, Any], context: Any = None) -> Setup:
            return with_keys(super().setup(document, context))

    return Keyed(changed, tmp_path)


def with_keys(setup: Setup) -> Setup:
    return Setup(setup.settings, setup.baseline, setup.context, setup.certificate_expires, KEYS)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    sidecar = start(tmp_path, document())
    yield sidecar
    sidecar.call(sidecar.sidecar.stop())


def received(running: Running) -> dict[str, list[Any]]:
    (asked,) = running.model.asked
    return {one["name"]: one["data"] for one in json.loads(asked.body)["inputs"]}


def test_the_model_gets_treated_fields_and_nothing_of_a_dropped_one(running: Running) -> None:
    assert running.ask(body()).status == 200
    got = received(running)
    assert got["x"] == [35.0, 12.5, 0.0]
    assert got["name"] == [Pseudonymiser(KEYS, "name")("Ada Lovelace")]
    assert "ssn" not in got
    assert got["visit"] != ["1987-06-05"]
    assert not any(canary in running.model.asked[0].body.decode() for canary in CANARIES)


def test_nothing_raw_is_recorded_or_measured(running: Running) -> None:
    running.ask(body())
    running.ask(body(visit=["Ada Lovelace"]))
    (line, refused) = running.log(2)
    assert line["fields"] == ["x", "name", "ssn", "visit"]
    assert refused["status"] == 422
    told = running.log_path.read_text() + running.monitor("/metrics").body.decode()
    assert not any(canary in told for canary in CANARIES)


def test_a_dropped_input_need_not_be_sent(running: Running) -> None:
    assert running.ask(body(ssn=None)).status == 200
    assert running.ask(body(name=None)).status == 422


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"visit": ["Ada Lovelace"]}, "Input `visit`: needs a date in ISO 8601"),
        ({"x": [1e300, 1.0, 1.0]}, "Input `x`: column `age` needs a number that steps of 5"),
        ({"visit": ["1987-06-05", "1987-06-06"]}, "field `visit` needs one `name` for each date"),
    ],
)
def test_what_cannot_be_treated_is_refused_by_name_without_the_value(
    running: Running, changes: dict[str, Any], told: str
) -> None:
    answer = running.ask(body(**changes))
    assert (answer.status, answer.problem) == (422, "schema-violation")
    assert told in answer.json["detail"]
    assert not any(canary in answer.body.decode() for canary in CANARIES)
    assert running.model.asked == []


@pytest.mark.parametrize("place", ["request", "input", "output"])
def test_a_field_does_not_pass_as_a_parameter(running: Running, place: str) -> None:
    sent = body() | {"outputs": [{"name": "y"}]}
    part = {"request": sent, "input": sent["inputs"][0], "output": sent["outputs"][0]}[place]
    part["parameters"] = {"top": 1}
    assert running.ask(sent).status == 200
    part["parameters"] = {"ssn": "078-05-1120"}
    answer = running.ask(sent)
    assert answer.status == 422
    assert "The parameter `ssn`" in answer.json["detail"]


def test_rows_are_treated_each_by_themselves_and_intervals_are_kept(running: Running) -> None:
    rows = {
        "x": [37.0, 1.0, 2.0, 81.0, 3.0, 4.0],
        "name": ["Ada", "Ada"],
        "ssn": ["1", "2"],
        "visit": ["2026-03-01", "2026-03-11"],
    }
    assert running.ask(body(**rows)).status == 200
    got = received(running)
    assert got["x"] == [35.0, 1.0, 0.0, 80.0, 3.0, 0.0]
    assert got["name"][0] == got["name"][1]
    first, second = (np.datetime64(day) for day in got["visit"])
    assert second - first == np.timedelta64(10, "D")


def test_text_is_sanitised_before_it_is_treated(running: Running) -> None:
    running.ask(body(name=["Ada\u202e Love\u200blace"]))
    assert received(running)["name"] == [Pseudonymiser(KEYS, "name")("Ada Lovelace")]


def replies(answer: Any) -> Callable[[ModelConnection, Asked], None]:
    def reply(connection: ModelConnection, asked: Asked) -> None:
        sent = {one["name"]: one["data"] for one in json.loads(asked.body)["inputs"]}
        connection.answer(json.dumps(answer(sent)).encode())

    return reply


def output(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}


def test_fields_that_come_back_are_treated(running: Running) -> None:
    running.model.behaviour = replies(
        lambda sent: {
            "outputs": [
                output("y", "FP64", [0.25]),
                output("name", "BYTES", [*sent["name"], "Eve"]),
                output("ssn", "BYTES", ["078-05-1120"]),
                output("age", "FP64", [38.0]),
                output("visit", "BYTES", [*sent["visit"], "1987-06-05"]),
            ]
        }
    )
    answer = running.ask(body())
    got = {one["name"]: one["data"] for one in answer.json["outputs"]}
    mine = Pseudonymiser(KEYS, "name")
    assert got["y"] == [0.25]
    assert got["name"] == [mine("Ada Lovelace"), mine("Eve")]  # what was sent passes, what was not is treated
    assert "ssn" not in got
    assert got["age"] == [35.0]
    assert got["visit"][1] == ""  # nobody says whose date it is
    assert got["visit"][0] == received(running)["visit"][0]


def test_parameters_that_come_back_are_treated(running: Running) -> None:
    y = output("y", "FP64", [1.0]) | {"parameters": {"name": "Eve", "unit": "mm"}}
    running.model.behaviour = replies(lambda _: {"outputs": [y], "parameters": {"ssn": "078-05-1120", "age": 38}})
    answer = running.ask(body()).json
    assert answer["parameters"] == {"age": 35}
    assert answer["outputs"][0]["parameters"] == {"name": Pseudonymiser(KEYS, "name")("Eve"), "unit": "mm"}


def test_where_outputs_are_declared_their_columns_are_treated_and_explanations_too(tmp_path: Path) -> None:
    declared = [
        {"name": "y", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "risk"]},
        {"name": "z", "datatype": "FP64", "shape": [-1]},
    ]
    access = settings()["access"]
    access["rules"][0]["operations"] = ["Infer", "Explain"]
    running = start(tmp_path, document(outputs=declared, access=access))
    whole = {"name": "y", "datatype": "FP64", "shape": [2, 2], "data": [38.0, 0.5, 41.0, 0.25]}
    running.model.behaviour = replies(lambda _: {"outputs": [whole, output("z", "FP64", [38.0])]})
    answer = running.ask(body()).json["outputs"]
    assert [one["data"] for one in answer] == [[35.0, 0.5, 40.0, 0.25], [38.0]]
    running.call(running.sidecar.stop())

    running = start(tmp_path, document(outputs=declared[1:], access=access))
    running.model.behaviour = replies(lambda _: {"explanation": {"age": 38, "ssn": "078-05-1120", "z": 1}})
    explained = running.ask(body(), target="/v2/models/m/explain")
    assert explained.json == {"explanation": {"age": 35, "z": 1}}
    running.call(running.sidecar.stop())


def test_an_answer_without_such_a_field_passes_byte_for_byte(running: Running) -> None:
    raw = b'{ "outputs" : [ {"name":"y","datatype":"FP64","shape":[1],"data":[0.250]} ] }'
    running.model.behaviour = lambda connection, _: connection.answer(raw)
    assert running.ask(body()).body == raw


@pytest.mark.parametrize("raw", [b"078-05-1120", b"[]", b'{"outputs": 5}', b'{"outputs": [{}]}', b"[" * 5000])
def test_an_answer_that_cannot_be_read_is_not_passed_on(running: Running, raw: bytes) -> None:
    running.model.behaviour = lambda connection, _: connection.answer(raw)
    answer = running.ask(body())
    assert (answer.status, answer.problem) == (502, "bad-upstream")
    assert b"078-05" not in answer.body


def test_the_key_holder_undoes_what_the_sidecar_sealed(tmp_path: Path) -> None:
    fields = {"ssn": {"treatment": "Tokenise", "recipient": RECIPIENT}}
    running = start(tmp_path, document(fields=fields))
    running.ask(body())
    (token,) = received(running)["ssn"]
    assert Opener(HOLDER)(token, "clinic", "ssn") == "078-05-1120"
    running.call(running.sidecar.stop())


def test_detectors_see_what_the_model_sees() -> None:
    rows = np.random.default_rng(1).uniform(0, 100, size=(400, 3))
    rows[:, 0] = 0  # of each hundred, as the policy has it
    screening = config.Screening(detectors=[config.Detector("Mahalanobis")])
    parsed = config.parse(json.dumps(document(fields={"age": {"treatment": "Generalise", "step": 100}})).encode())
    schema = Schema("v2", parsed.inputs, "Reject")
    treatments = Treatments.build(parsed, schema.declared, KEYS)
    content = fitting.fit(rows, ["age", "radius", "salary"]).to_bytes()
    settings = config.Config(parsed.binding, parsed.upstream, screening=screening)
    screen = Detection(settings, content, schema.declared).screen
    assert treatments is not None
    assert screen is not None
    checked = schema.check(Body(json.dumps(body(x=[99.0, 50.0, 50.0])).encode()))
    assert screen.judge(checked.tensors) is not None
    treatments.apply(checked.tensors)
    assert screen.judge(checked.tensors) is None


def test_a_baseline_of_a_dropped_column_is_refused(tmp_path: Path) -> None:
    fields = {"x": {"treatment": "Drop"}}
    with pytest.raises(config.ConfigError, match="baseline has"):
        start(tmp_path, document(fields=fields, screening=settings()["screening"]))


def test_fields_of_a_streams_events_are_treated_one_by_one(running: Running) -> None:
    def event(**data: Any) -> bytes:
        return (
            b"event: token\ndata: "
            + json.dumps({"outputs": [output(*one) for one in data["outputs"]]}).encode()
            + b"\n\n"
        )

    plain, named = event(outputs=[("y", "FP64", [1.5])]), event(outputs=[("name", "BYTES", ["Eve"])])

    def stream(connection: ModelConnection, _: Asked) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        whole = plain + named
        connection.transport.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(whole), whole))

    running.model.behaviour = stream
    with running.client() as client:
        client.send(request(body(), target=STREAM).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        data = b""
        while piece := client.socket.recv(65536):
            data += piece
    assert plain in data
    assert b"Eve" not in data
    assert Pseudonymiser(KEYS, "name")("Eve").encode() in data
    assert data.count(b"event: token") == 2


# --- protocol V1


V1_INPUTS = [
    {"name": "age", "datatype": "INT64", "shape": [-1]},
    {"name": "name", "datatype": "BYTES", "shape": [-1]},
    {"name": "ssn", "datatype": "BYTES", "shape": [-1]},
]


@pytest.fixture
def v1(tmp_path: Path) -> Iterator[Running]:
    changed = document(inputs=V1_INPUTS, fields={name: FIELDS[name] for name in ("age", "name", "ssn")})
    changed["upstream"] = {"port": 1, "model": "m", "protocol": "v1", "readyPath": "/v2/models/m/ready"}
    running = start(tmp_path, changed)
    running.model.behaviour = lambda connection, asked: connection.answer(
        json.dumps({"predictions": [{"ssn": "078-05-1120", "name": "Eve", "age": [38, 3.5], "p": 1}]}).encode()
    )
    yield running
    running.call(running.sidecar.stop())


def test_v1_instances_and_predictions_are_treated(v1: Running) -> None:
    instance = {"age": 37, "name": "Ada Lovelace", "ssn": "078-05-1120"}
    answer = v1.ask({"instances": [instance, instance]}, target="/v1/models/m:predict")
    mine = Pseudonymiser(KEYS, "name")
    assert json.loads(v1.model.asked[0].body) == {"instances": [{"age": 35, "name": mine("Ada Lovelace")}] * 2}
    assert answer.json == {"predictions": [{"name": mine("Eve"), "age": [35, 0.0], "p": 1}]}


def test_v1_fields_are_treated_however_deep_and_what_is_below_one_is_not_told(v1: Running) -> None:
    instances = {"instances": [{"age": 37, "name": "Ada", "ssn": "1"}]}

    def answered(predictions: Any) -> Any:
        text = json.dumps({"predictions": predictions}).encode()
        v1.model.behaviour = lambda connection, asked: connection.answer(text)
        return v1.ask(instances, target="/v1/models/m:predict")

    eve = Pseudonymiser(KEYS, "name")("Eve")
    found = answered([{"patient": {"name": "Eve"}}, [[{"name": ["Eve", {"first": "Eve"}, [["Eve"]]], "p": {"q": 1}}]]])
    assert found.json["predictions"] == [{"patient": {"name": eve}}, [[{"name": [eve, None, [[eve]]], "p": {"q": 1}}]]]
    assert answered([[[[[[[{"name": "Eve"}]]]]]]]).status == 502  # deeper than anybody looks


def test_v1_a_dropped_input_is_in_all_instances_or_in_none(v1: Running) -> None:
    whole, less = {"age": 37, "name": "Ada", "ssn": "1"}, {"age": 37, "name": "Ada"}
    assert v1.ask({"instances": [less, less]}, target="/v1/models/m:predict").status == 200
    assert v1.ask({"instances": [whole, less]}, target="/v1/models/m:predict").status == 422


# --- configurations that do not fit


@pytest.mark.parametrize(
    ("fields", "keys", "told"),
    [
        ({"age": {"treatment": "Pseudonymise"}}, KEYS, "field age: Pseudonymise gives text and the column is FP64"),
        ({"name": {"treatment": "Pseudonymise"}}, None, "there is no key"),
        ({"name": {"treatment": "Pseudonymise"}}, derive({1: bytes(32)}, "ward"), "another namespace's"),
        ({"visit": {"treatment": "DateShift", "maxDays": 3, "subject": "z"}}, KEYS, "the subject z"),
        ({"ssn": {"treatment": "Tokenise", "recipient": base64.b64encode(bytes(32)).decode()}}, KEYS, "no X25519 key"),
    ],
)
def test_a_treatment_that_does_not_fit_is_refused_with_the_configuration(
    fields: dict[str, Any], keys: Any, told: str
) -> None:
    parsed = config.parse(json.dumps(document(fields=fields)).encode())
    with pytest.raises(config.ConfigError, match=told):
        Treatments.build(parsed, Schema("v2", parsed.inputs, "Reject").declared, keys)


def test_fields_without_declared_inputs_are_refused() -> None:
    parsed = config.parse(json.dumps(document(inputs=None)).encode())
    with pytest.raises(config.ConfigError, match=r"spec\.schema\.inputs"):
        Treatments.build(parsed, None, KEYS)


def test_an_unknown_treatment_is_refused() -> None:
    with pytest.raises(config.ConfigError):
        config.parse(json.dumps(document(fields={"x": {"treatment": "Hide"}})).encode())


# --- properties

PARSED = config.parse(json.dumps(document()).encode())
ANSWERS = Answers(PARSED, KEYS)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*FIELDS, "y"]), inner, max_size=4),
    max_leaves=12,
)
SECRET = "Grüße an Ada Lovelace 078-05-1120"


@given(
    st.sampled_from(["name", "ssn", "visit"]),
    st.lists(st.just(SECRET) | JSON, max_size=4),
    st.sampled_from(["BYTES", "FP64"]),
)
def test_no_answer_lets_a_value_of_a_treated_field_through(field: str, data: list[Any], datatype: str) -> None:
    answer = {"outputs": [output(field, datatype, data)]}
    try:
        treated = ANSWERS.treat(Body(json.dumps(answer).encode()), []).content
    except Refusal:
        return
    for one in msgspec.json.decode(treated)["outputs"]:
        assert all(FORM.fullmatch(str(value)) or value in ("", 0, False, None) for value in one["data"]), one


@given(JSON)
def test_an_explanation_in_any_form_tells_no_value_of_a_treated_field(content: Any) -> None:
    try:
        treated = ANSWERS.treat(
            Body(json.dumps({"explanation": content, "name": SECRET, "ssn": SECRET}).encode()), []
        ).content
    except Refusal:
        return
    assert SECRET not in treated.decode()
    assert b'"ssn"' not in treated


@given(st.floats(-1000, 1e9), st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=30))
def test_no_request_lets_a_value_of_a_treated_field_through(age: float, name: str) -> None:
    schema = Schema("v2", PARSED.inputs, "Reject")
    treatments = Treatments.build(PARSED, schema.declared, KEYS)
    assert treatments is not None
    checked = schema.check(Body(json.dumps(body(x=[age, 1.0, 2.0], name=[name], ssn=[name])).encode()))
    treatments.apply(checked.tensors)
    sent = {one["name"]: one["data"] for one in json.loads(checked.encode().content)["inputs"]}
    assert FORM.fullmatch(sent["name"][0])
    assert sent["x"][0] % 5 == 0
    assert sent["x"][2] == 0
    assert "ssn" not in sent
