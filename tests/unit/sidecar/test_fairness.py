"""Groups are counted by what callers sent and what the model answered, and what was true is learnt by feedback."""

from __future__ import annotations

import json
import struct
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.fairness.labels import Told
from modelward.incidents import LABELS, Report
from modelward.sidecar import awaited, config, reader
from modelward.sidecar.awaited import Awaited, LabelledError, UnknownError
from modelward.sidecar.binary import Body
from modelward.sidecar.config import ConfigError
from modelward.sidecar.elsewhere import Elsewhere
from modelward.sidecar.fairness import Fairness, Rows
from modelward.sidecar.instruments import OF_FEEDBACK
from modelward.sidecar.tensors import TensorSpec
from tests.unit.sidecar.harness import Asked, ModelConnection, settings, token

INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["age", "income", "debts"]},
    {"name": "sex", "datatype": "BYTES", "shape": [-1, 1]},
]
FAIRNESS = {
    "protected": [
        {"field": "sex", "groups": ["female", "male"]},
        {"field": "age", "edges": [40], "groups": ["young", "old"]},
    ]
}


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


FEEDBACK = "/v2/models/m/feedback"
CELLS = ("rows", "selected", "positives", "true_positives", "negatives", "false_positives")


def grants(connection: ModelConnection, asked: Asked) -> None:
    """1 where the income is 10 or more."""
    inputs = {one["name"]: one["data"] for one in json.loads(asked.body)["inputs"]}
    labels = [int(income >= 10) for income in inputs["x"][1::3]]
    output = {"name": "y", "shape": [len(labels)], "datatype": "INT64", "data": labels}
    connection.answer(json.dumps({"model_name": "m", "outputs": [output]}).encode())


@pytest.fixture
def serve(run):
    def start(**changes: Any):
        access = settings()["access"]
        access["rules"][0]["operations"] = ["Infer", "Metadata", "Feedback"]
        running = run(**({"inputs": INPUTS, "fairness": FAIRNESS, "screening": {}, "access": access} | changes))
        running.model.behaviour = grants
        return running

    return start


def applicants(*rows: tuple[float, float, str]) -> dict[str, Any]:
    """Rows of age, income and sex."""
    data = [number for age, income, _ in rows for number in (age, income, 0.0)]
    return {
        "inputs": [
            {"name": "x", "shape": [len(rows), 3], "datatype": "FP64", "data": data},
            {"name": "sex", "shape": [len(rows), 1], "datatype": "BYTES", "data": [sex for _, _, sex in rows]},
        ]
    }


def counts(running) -> dict[str, dict[str, tuple[int, ...]]]:
    """By field and group, what is told to the controller, once what was answered is counted."""
    told = msgspec.json.decode(running.order().body, type=Report).fairness
    assert told is not None
    return {one.field: {group.name: group.vector for group in one.groups} for one in told.attributes}


def uncounted(running) -> int:
    return int(running.metric('modelward_fairness_rows{outcome="uncounted"}'))


def test_rows_are_counted_by_group_and_outcome(serve):
    running = serve()
    assert running.ask(applicants((30, 12, "female"), (50, 5, "male"), (40, 20, "male"))).status == 200
    assert running.ask(applicants((39.9, 9, "unknown"))).status == 200
    assert counts(running) == {
        "sex": {"female": (1, 1, 0, 0, 0, 0), "male": (2, 1, 0, 0, 0, 0), "other": (1, 0, 0, 0, 0, 0)},
        "age": {"young": (2, 1, 0, 0, 0, 0), "old": (2, 1, 0, 0, 0, 0)},
    }
    assert running.metric('modelward_fairness_rows{outcome="counted"}') == 4
    assert uncounted(running) == 0


def test_the_group_is_told_before_the_field_is_treated_and_the_model_does_not_see_it(serve):
    running = serve(
        fields={"sex": {"treatment": "Drop"}, "age": {"treatment": "Generalise", "step": 100}},
        keys=None,
    )
    assert running.ask(applicants((30, 12, "female"), (50, 5, "male"))).status == 200
    assert "sex" not in running.model.asked[-1].body.decode()
    assert "female" not in running.log_path.read_text()
    found = counts(running)
    assert found["sex"]["female"][:2] == (1, 1)
    assert [found["age"][name][0] for name in ("young", "old")] == [1, 1]


def test_a_dropped_input_that_is_not_sent_is_not_counted_by(serve):
    running = serve(fields={"sex": {"treatment": "Drop"}})
    body = applicants((30, 12, "female"))
    del body["inputs"][1]
    answer = running.ask(body)
    assert answer.status == 200
    assert counts(running)["sex"] == dict.fromkeys(("female", "male", "other"), (0,) * 6)
    assert counts(running)["age"]["young"][:2] == (1, 1)
    assert uncounted(running) == 1
    tell(running, answer, [1])
    assert counts(running)["age"]["young"] == (1, 1, 1, 1, 0, 0)


def test_binary_tensors_are_counted_and_go_on_as_they_came(serve):
    running = serve()

    def behaviour(connection, asked):
        connection.answer(
            json.dumps({"outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [1]}]}).encode()
        )

    running.model.behaviour = behaviour
    body = applicants((50, 12, "female"))
    raw = struct.pack("<3d", 50, 12, 0), struct.pack("<I", 6) + b"female"
    for one, data in zip(body["inputs"], raw, strict=True):
        del one["data"]
        one["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps(body).encode()
    header = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    answer = running.ask(head + b"".join(raw), header=header)
    assert answer.status == 200, answer.json
    assert running.model.asked[-1].body.endswith(b"".join(raw))
    assert counts(running)["sex"]["female"][:2] == (1, 1)
    assert counts(running)["age"]["old"][:2] == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b'{"outputs": []}',
        b'{"outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [1]}]}',  # of one row, asked of two
        b'{"outputs": [{"name": "y", "shape": [2], "datatype": "INT64", "data": [1, null]}]}',
        b"no JSON",
    ],
)
def test_an_answer_that_tells_nothing_of_each_row_is_uncounted(serve, answer):
    running = serve(fairness=FAIRNESS | {"favourable": {"atLeast": 0.5}})
    running.model.behaviour = lambda connection, asked: connection.answer(answer)
    assert running.ask(applicants((30, 12, "female"), (50, 5, "male"))).status == 200
    assert uncounted(running) == 2
    assert counts(running)["sex"]["female"] == (0,) * 6


def test_refusals_and_errors_count_nothing(serve):
    running = serve()
    running.model.behaviour = lambda connection, asked: connection.answer(b"{}", status=b"500 Oops")
    assert running.ask(applicants((30, 12, "female"))).status == 500
    assert running.ask({"inputs": []}).status == 422
    assert counts(running)["sex"]["female"] == (0,) * 6
    assert uncounted(running) == 0


def test_scores_and_elements(serve):
    running = serve(fairness=FAIRNESS | {"favourable": {"output": "p", "element": 1, "atLeast": 0.5}})

    def behaviour(connection, asked):
        outputs = [
            {"name": "label", "shape": [2], "datatype": "INT64", "data": [1, 1]},
            {"name": "p", "shape": [2, 2], "datatype": "FP64", "data": [0.9, 0.1, 0.5, 0.5]},
        ]
        connection.answer(json.dumps({"outputs": outputs}).encode())

    running.model.behaviour = behaviour
    answer = running.ask(applicants((30, 12, "female"), (50, 5, "male")))
    assert {name: group[:2] for name, group in counts(running)["sex"].items()} == {
        "female": (1, 0),
        "male": (1, 1),
        "other": (0, 0),
    }
    assert tell(running, answer, ["granted", 1]).problem == "schema-violation"
    assert tell(running, answer, [0.4, 0.5]).status == 200
    assert counts(running)["sex"]["male"] == (1, 1, 1, 1, 0, 0)


def test_v1_is_counted_as_well(serve):
    upstream = settings()["upstream"] | {"protocol": "v1", "readyPath": "/v1/models/m/ready"}
    running = serve(upstream=upstream)
    running.model.behaviour = lambda connection, asked: connection.answer(b'{"predictions": [1, 0]}')
    rows = [{"x": [30, 12, 0], "sex": ["female"]}, {"x": [50, 5, 0], "sex": ["male"]}]
    answer = running.ask({"instances": rows}, target="/v1/models/m:predict")
    assert answer.status == 200, answer.json
    assert counts(running)["sex"]["female"][:2] == (1, 1)
    assert counts(running)["sex"]["male"][:2] == (1, 0)
    assert tell(running, answer, [0, 1], target="/v1/models/m:feedback").json == {"rows": 2}
    assert counts(running)["sex"]["female"] == (1, 1, 0, 0, 1, 1)


# --- feedback


def tell(running, answer: Any, labels: Any, *, target: str = FEEDBACK, **changes: Any):
    identifier = answer if isinstance(answer, str) else answer.header["x-modelward-request-id"]
    return running.ask({"id": identifier, "labels": labels}, target=target, **changes)


def test_what_was_true_is_counted_once(serve):
    running = serve()
    answer = running.ask(applicants((30, 12, "female"), (50, 5, "male"), (60, 5, "male"), (61, 50, "male")))
    assert tell(running, answer, [1, 1]).problem == "schema-violation"
    told = tell(running, answer, [1, True, 0, None])
    assert (told.status, told.json) == (200, {"rows": 3})
    assert counts(running) == {
        "sex": {"female": (1, 1, 1, 1, 0, 0), "male": (3, 1, 1, 0, 1, 0), "other": (0,) * 6},
        "age": {"young": (1, 1, 1, 1, 0, 0), "old": (3, 1, 1, 0, 1, 0)},
    }
    again = tell(running, answer, [1, 1, 1, 1])
    assert (again.status, again.problem) == (409, "already-labelled")
    assert counts(running)["sex"]["female"] == (1, 1, 1, 1, 0, 0)
    assert running.metric('modelward_feedback_total{outcome="taken"}') == 1
    assert running.metric('modelward_feedback_total{outcome="repeated"}') == 1
    assert running.metric('modelward_feedback_total{outcome="unfit"}') == 1
    record = running.log(4)[-1]  # an answer, and feedback three times
    assert (record["operation"], record["rows"], "values" in record) == ("Feedback", 4, False)


@pytest.mark.parametrize(
    "identifier", ["", "-", "00", "0123456789ab-1", "x-y", "0123456789ab-" + "f" * 240, "{run}-ffffffff"]
)
def test_an_id_of_nothing_is_not_found(serve, identifier):
    running = serve()
    told = tell(running, identifier.format(run=reader.run()), [1])
    assert (told.status, told.problem) == (404, "unknown-request")
    assert running.metric('modelward_feedback_total{outcome="unknown"}') == 1


def test_the_id_of_a_refusal_is_not_found(serve):
    running = serve()
    refused = running.ask({"inputs": []})
    assert tell(running, refused, [1]).problem == "unknown-request"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "malformed-json"),
        (b"[]", "schema-violation"),
        ({"id": "x"}, "schema-violation"),
        ({"id": "x", "labels": []}, "schema-violation"),
        ({"id": "x", "labels": [[1]]}, "schema-violation"),
        ({"id": "x", "labels": [1] * 4097}, "schema-violation"),
        ({"id": "x" * 257, "labels": [1]}, "schema-violation"),
        ({"id": "x", "labels": [1], "more": 1}, "schema-violation"),
        (b'{"id": "x", "id": "y", "labels": [1]}', "malformed-json"),
        (b'{"id": "x", "labels": [1e999]}', "schema-violation"),
    ],
)
def test_bodies_that_are_no_feedback(serve, body, problem):
    running = serve()
    told = running.ask(body, target=FEEDBACK)
    assert told.problem == problem, told.json
    assert "4,096" in told.json["detail"] or problem == "malformed-json"


def test_who_may_not_give_feedback_is_refused(serve):
    running = serve()
    answer = running.ask(applicants((30, 12, "female")))
    assert tell(running, answer, [1], bearer=token(sub="limited")).problem == "forbidden"
    assert tell(running, answer, [1], bearer=None).problem == "unauthenticated"
    assert counts(running)["sex"]["female"] == (1, 1, 0, 0, 0, 0)


OTHER = "0123456789ab-00000001"


def bring(running, **labels: Any) -> int:
    return running.order(LABELS, labels).json["clients"]


def test_the_id_of_another_replica_is_kept_until_it_is_passed_on(serve):
    running = serve()
    told = tell(running, OTHER, [1, False, None])
    assert (told.status, told.json) == (202, {"passedOn": 3})
    assert tell(running, OTHER, [1]).problem == "already-labelled"
    found = msgspec.json.decode(running.order().body, type=Report).fairness
    assert found is not None
    assert (found.run, found.elsewhere) == (reader.run(), (Told(OTHER, "10-"),))
    assert bring(running, lost=[OTHER]) == 0
    elsewhere = running.sidecar._gateway.chain.fairness.elsewhere
    assert elsewhere.told(), "a replica may be unready for a moment"
    assert bring(running, delivered=[OTHER, "x"]) == 0
    assert not elsewhere.told()
    assert running.metric('modelward_feedback_total{outcome="kept"}') == 1


def test_what_others_were_told_is_counted_once(serve):
    running = serve()
    answer = running.ask(applicants((30, 12, "female"), (50, 5, "male"))).header["x-modelward-request-id"]
    labels = [
        {"request": answer, "truths": "1"},
        {"request": answer, "truths": "0-"},
        {"request": answer, "truths": "11"},
    ]
    assert bring(running, told=[*labels, {"request": OTHER, "truths": "1"}]) == 1
    assert counts(running)["sex"]["female"] == (1, 1, 0, 0, 1, 1)
    assert counts(running)["sex"]["male"] == (1, 0, 0, 0, 0, 0)
    outcomes = {name: running.metric(f'modelward_feedback_total{{outcome="{name}"}}') for name in OF_FEEDBACK}
    assert outcomes == {"taken": 1, "unknown": 1, "repeated": 1, "unfit": 1, "kept": 0, "full": 0, "lost": 0}
    assert running.order(LABELS, {"told": [{"request": answer, "truths": "x"}]}).problem == "schema-violation"


def test_there_is_room_for_so_many_labels_and_no_more(serve, monkeypatch):
    monkeypatch.setattr("modelward.sidecar.elsewhere.MAX_ROWS", 3)
    running = serve()
    assert tell(running, OTHER, [1, 1]).status == 202
    full = tell(running, OTHER.replace("a", "c"), [1, 1])
    assert (full.status, full.problem, full.header["retry-after"]) == (503, "overloaded", "60")
    assert tell(running, OTHER.replace("a", "d"), [1]).status == 202


def test_without_a_controller_nothing_is_kept_for_others(serve):
    running = serve()
    running.sidecar._gateway.control = None
    assert tell(running, OTHER, [1]).problem == "unknown-request"


def test_labels_that_nobody_fetches_are_let_go():
    clock = Clock()
    kept = Elsewhere(clock)
    kept.keep("a", "1")
    clock.now += 100
    kept.keep("b", "10")
    assert kept.give_up(["a", "b", "c"]) == 0
    clock.now += 50
    assert kept.give_up(["a", "b", "c"]) == 1
    assert [each.request for each in kept.told()] == ["b"]
    clock.now += 551
    assert (kept.expire(), kept.told(), kept._rows) == (1, (), 0)


def test_without_fairness_there_is_no_feedback(serve):
    running = serve(fairness=None)
    told = tell(running, "x", [1])
    assert (told.status, told.problem) == (404, "not-found")
    assert "spec.fairness" in told.json["detail"]
    assert msgspec.json.decode(running.order().body, type=Report).fairness is None


def test_counts_outlive_a_configuration_that_counts_the_same(serve):
    running = serve()
    answer = running.ask(applicants((30, 12, "female")))

    def reload(**changes: Any) -> None:
        access = settings()["access"]
        access["rules"][0]["operations"] = ["Infer", "Feedback"]
        document = settings(inputs=INPUTS, screening={}, access=access, **({"fairness": FAIRNESS} | changes))
        document["binding"]["generation"] = 2
        running.source._setup = running.setup(document)
        assert running.call(running.sidecar.reload())

    reload()
    assert tell(running, answer, [1]).status == 200
    assert counts(running)["sex"]["female"] == (1, 1, 1, 1, 0, 0)
    reload(fairness={"protected": [{"field": "sex", "groups": ["female"]}]})
    assert counts(running) == {"sex": {"female": (0,) * 6, "other": (0,) * 6}}


# --- the parts


DECLARED = {one["name"]: TensorSpec(msgspec.convert(one, config.TensorDeclaration)) for one in INPUTS}
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": scalars,
        "shape": st.lists(st.integers(-1, 1 << 70), max_size=3) | scalars,
        "datatype": st.sampled_from(["INT64", "BYTES", "BOOL", "none"]) | scalars,
        "data": st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=6),
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "x"]), scalars, max_size=2) | scalars,
    },
)


@given(
    st.binary() | st.fixed_dictionaries({"outputs": st.lists(tensors, max_size=3)}).map(msgspec.json.encode),
    st.sampled_from([None, b"", b"2", b"x"]),
    st.integers(0, 3),
    st.sampled_from([{}, {"atLeast": 0.5}, {"equals": "x", "element": 1}, {"output": "p"}]),
    st.sampled_from(["v1", "v2"]),
)
def test_whatever_a_model_answers_is_counted_or_not(content, header, rows, wanted, protocol):
    asked = msgspec.convert(FAIRNESS | {"favourable": wanted}, config.Fairness)
    fairness = Fairness(asked, DECLARED, protocol)
    outcomes = fairness.outcomes(Body(content, header), rows)
    assert outcomes is None or (len(outcomes) == rows and all(isinstance(one, bool) for one in outcomes))
    fairness.count(1, Rows(rows, [["female"] * rows, [30.0] * rows]), Body(content, header))
    assert sum(fairness.rows_seen()) == rows


def test_what_is_awaited_is_forgotten_by_age_and_by_number():
    clock = Clock()
    kept = Awaited(clock, max_rows=8, seconds=100)
    kept.keep(1, 1, b"a")
    clock.now += 49
    assert kept.look(1) == b"a"
    clock.now += 51
    kept.keep(2, 1, b"b")
    assert kept.look(1) == b"a", "in the older generation"
    clock.now += 51
    with pytest.raises(UnknownError):
        kept.look(1)
    assert kept.look(2) == b"b"
    clock.now += 1000
    with pytest.raises(UnknownError):
        kept.look(2)
    for number in range(3, 30):
        kept.keep(number, 1, b"c")
        assert len(kept._young) + len(kept._old) <= 8
    assert kept.look(29) == b"c"
    kept.done(29)
    with pytest.raises(LabelledError):
        kept.look(29)
    with pytest.raises(UnknownError):
        kept.look(3)


def test_a_hundred_thousand_requests_take_the_memory_that_is_said():
    tracemalloc.start()
    kept = Awaited(Clock())
    for number in range(2 * awaited.MAX_ROWS):
        kept.keep(number + (1 << 20), 1, bytes((number & 1, number & 3)))
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(kept._young) + len(kept._old) <= awaited.MAX_ROWS
    assert used < 13e6


@pytest.mark.parametrize(
    ("protected", "told"),
    [
        ({"field": "nowhere"}, "no declared column"),
        ({"field": "x"}, "no declared column"),
        ({"field": "sex", "edges": [1]}, "is no number"),
        ({"field": "age", "edges": [2, 1]}, "do not ascend"),
        ({"field": "age", "edges": [1, 1]}, "do not ascend"),
    ],
)
def test_a_field_that_cannot_be_counted_is_no_configuration(protected, told):
    with pytest.raises(ConfigError, match=told):
        Fairness(msgspec.convert({"protected": [protected]}, config.Fairness), DECLARED, "v2")
