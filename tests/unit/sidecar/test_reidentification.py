"""Rows are counted by their combination of quasi-identifiers as the model got them; no value is kept or told."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.incidents import Report
from modelward.privacy.keys import Keys
from modelward.privacy.spec import Treatment
from modelward.reidentification.figures import figures
from modelward.reidentification.sample import Sample, people_of
from modelward.reidentification.told import Combinations
from modelward.sidecar import config
from modelward.sidecar.config import ConfigError
from modelward.sidecar.reidentification import MAX_ROWS, Reidentification, Rows
from modelward.sidecar.tensors import TensorSpec
from tests.unit.sidecar.harness import Asked, ModelConnection, Running
from tests.unit.sidecar.harness import infer as over_rest
from tests.unit.sidecar.oip import GrpcModel, call, grpc, port_of, with_grpc
from tests.unit.sidecar.oip_messages import answer, infer

INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "size"]},
    {"name": "city", "datatype": "BYTES", "shape": [-1, 1]},
    {"name": "patient", "datatype": "BYTES", "shape": [-1, 1]},
]
COUNTED = {"k": 3, "fields": ["age", "city"]}
KEYS = Keys("ml", {1: bytes(32)})


def answers(connection: ModelConnection, asked: Asked) -> None:
    rows = json.loads(asked.body)["inputs"][0]["shape"][0]
    output = {"name": "y", "shape": [rows], "datatype": "FP64", "data": [0.0] * rows}
    connection.answer(json.dumps({"model_name": "m", "outputs": [output]}).encode())


@pytest.fixture
def serve(run):
    def start(**changes: Any):
        running = run(**({"inputs": INPUTS, "reidentification": COUNTED, "screening": {}} | changes))
        running.model.behaviour = answers
        return running

    return start


def people(*rows: tuple[float, str, str]) -> dict[str, Any]:
    """Rows of age, city and patient."""
    return {
        "inputs": [
            {
                "name": "x",
                "shape": [len(rows), 2],
                "datatype": "FP64",
                "data": [cell for age, _, _ in rows for cell in (age, 0.5)],
            },
            {"name": "city", "shape": [len(rows), 1], "datatype": "BYTES", "data": [city for _, city, _ in rows]},
            {"name": "patient", "shape": [len(rows), 1], "datatype": "BYTES", "data": [who for *_, who in rows]},
        ]
    }


def told(running) -> Combinations:
    found = msgspec.json.decode(running.order().body, type=Report).combinations
    assert found is not None
    return found


def sizes(found: Combinations) -> list[int]:
    return sorted(kept.rows for kept in Sample.unpack(found.sample).kept.values())


def test_rows_are_counted_by_combination(serve):
    running = serve()
    assert running.ask(people((30, "Ulm", "a"), (30, "Ulm", "a"), (30, "Bonn", "b"))).status == 200
    assert running.ask(people((30.0, "Ulm", "c"))).status == 200
    found = told(running)
    assert (found.k, found.fields, found.people, found.uncounted) == (3, ("age", "city"), False, 0)
    assert sizes(found) == [1, 3]


def test_metrics_tell_in_steps_what_one_person_does_not_move(serve):
    running = serve()

    def shown() -> list[float]:
        figures = ("rows", "combinations", "smallest", "share_below_k")
        return [running.metric(f'modelward_reidentification{{figure="{one}"}}') for one in figures]

    assert shown() == [0, 0, 0, 0]
    rare = [(40, f"village {number}", "b") for number in range(21)]
    assert running.ask(people(*[(30, "Ulm", "a")] * 40, *rare)).status == 200
    before = shown()
    assert before == [60, 20, 1, pytest.approx(20 / 60)]
    for one in ((30, "Ulm", "c"), (40, "village 1", "c")):  # one who is like many, and a second one in a village
        assert running.ask(people(one)).status == 200
        assert shown() == before
    assert running.ask(people(*[(50, f"hamlet {number}", "d") for number in range(9)])).status == 200
    assert shown() == [70, 30, 1, pytest.approx(30 / 70)]


def test_combinations_are_those_that_the_model_sees(serve):
    running = serve(
        fields={
            "age": {"treatment": "Generalise", "step": 10},
            "city": {"treatment": "Generalise", "groups": {"Ulm": "DE", "Bonn": "DE"}},
        }
    )
    assert running.ask(people((31, "Ulm", "a"), (34, "Bonn", "b"), (39, "Ulm", "c"), (39, "Paris", "d"))).status == 200
    found = told(running)
    assert sizes(found) == [1, 3]
    assert [(one.field, one.rows) for one in found.suppressed] == [("city", 1)]


def test_an_identifier_tells_people_apart_though_the_model_does_not_get_it(serve, monkeypatch):
    monkeypatch.setattr("modelward.sidecar.reidentification.secrets.token_bytes", bytes)  # these set bits of their own
    running = serve(reidentification={**COUNTED, "subject": "patient"}, fields={"patient": {"treatment": "Drop"}})
    assert running.ask(people(*[(30, "Ulm", "a")] * 5, *[(40, "Ulm", who) for who in "bcd"])).status == 200
    assert "patient" not in running.model.asked[-1].body.decode()
    found = told(running)
    assert found.people
    kept = sorted(Sample.unpack(found.sample).kept.values())
    assert [one.rows for one in kept] == [3, 5]
    assert [people_of(one.people) for one in kept] == [3, 1]
    body = people((40, "Ulm", "e"))
    del body["inputs"][2]  # nobody need send what is dropped: such rows are taken for one person's
    assert running.ask(body).status == 200
    assert running.ask(body).status == 200
    assert people_of(max(Sample.unpack(told(running).sample).kept.values(), key=lambda one: one.people).people) == 4


def test_what_each_field_adds_is_told(serve):
    running = serve()
    rows = [(30, "Ulm", "a")] * 3 + [(30, city, "a") for city in ("Bonn", "Jena", "Kiel")] + [(70, "Ulm", "a")]
    assert running.ask(people(*rows)).status == 200
    assert told(running).without == (pytest.approx(3 / 7), pytest.approx(1 / 7))


def test_nothing_of_a_value_is_told_or_logged(serve):
    running = serve(reidentification={**COUNTED, "subject": "patient"})
    assert running.ask(people((3125.75, "Timbuktu", "jane-doe"))).status == 200
    seen = running.order().body.decode() + running.log_path.read_text()
    assert not [value for value in ("Timbuktu", "jane-doe", "3125.75") if value in seen]


def test_what_the_model_did_not_get_is_not_counted(serve):
    running = serve()
    assert running.ask({"inputs": []}).status == 422
    running.model.behaviour = lambda connection, asked: pytest.fail("it was asked")
    assert running.ask(people((30, "Ulm", "a")), bearer=None).status == 401
    assert told(running).sample.rows == 0


def test_nothing_is_told_where_nothing_is_asked(serve):
    running = serve(reidentification=None)
    assert running.ask(people((30, "Ulm", "a"))).status == 200
    assert msgspec.json.decode(running.order().body, type=Report).combinations is None
    assert "modelward_reidentification{" not in running.monitor("/metrics").body.decode()


def test_calls_over_grpc_are_counted_as_requests_are(tmp_path):
    model = GrpcModel()
    counted = {"k": 3, "fields": ["a"]}
    sidecar = Running(with_grpc(model, screening={}, reidentification=counted), tmp_path)
    try:
        model.behaviour = lambda *_: answer(
            {"name": "y", "datatype": "INT64", "shape": [2], "contents": {"int64_contents": [1, 0]}}
        )
        for raw in (False, True):
            assert call(port_of(sidecar), infer([1.0, 0.0, 0.0, 2.0, 0.0, 0.0], raw=raw)).code == grpc.StatusCode.OK
        assert sidecar.ask(over_rest([1.0, 5.0, 5.0])).status == 200
        assert sizes(told(sidecar)) == [2, 3]
    finally:
        sidecar.stop()
        model.server.stop(None)


# --- the counts themselves


def counter(
    keys: Keys | None = KEYS, subject: str = "", clock: Any = time.time, **treatments: Treatment
) -> Reidentification:
    declared = {one["name"]: TensorSpec(msgspec.convert(one, config.TensorDeclaration)) for one in INPUTS}
    settings = config.Reidentification(3, ["age", "city"], subject)
    return Reidentification(settings, declared, treatments, keys, "m", clock)


ROWS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab")), max_size=30)


@given(ROWS, ROWS)
def test_replicas_add_up_to_what_one_would_have_counted(first, second) -> None:
    def count(into: Reidentification, rows) -> None:
        into.count(Rows(len(rows), [[age for age, _ in rows], [city for _, city in rows]], None))

    one, other, whole = counter(), counter(), counter()
    count(one, first)
    count(other, second)
    count(whole, first + second)
    together = Sample.unpack(one.report().sample)
    together.merge(Sample.unpack(other.report().sample))
    assert together.pack() == whole.report().sample
    counts = Counter(first + second).values()
    assert figures(together, 3, people=False).below == sum(n for n in counts if n < 3) / max(1, sum(counts))


def test_hashes_depend_on_the_key_and_are_the_processs_own_without_one() -> None:
    def hashes(made: Reidentification) -> bytes:
        made.count(Rows(1, [[30], ["Ulm"]], None))
        return made.report().sample.hashes

    assert hashes(counter()) == hashes(counter())
    found = {
        hashes(counter()),
        hashes(counter(Keys("ml", {1: b"k" * 32}))),
        hashes(counter(None)),
        hashes(counter(None)),
    }
    assert len(found) == 4
    names = {made.name for made in (counter(), counter(subject="patient"), counter(age=Treatment("Round", digits=1)))}
    assert len(names) == 3


def test_equal_numbers_are_equal_however_they_are_written() -> None:
    made = counter()
    made.count(Rows(4, [[0, 0.0, -0.0, False], ["a"] * 4], None))
    assert figures(made._window.total(), 3, people=False).combinations == 1


def test_another_configuration_that_counts_the_same_goes_on_counting() -> None:
    before, same, other = counter(), counter(), counter(age=Treatment("Round", digits=1))
    before.count(Rows(2, [[1, 2], ["a", "b"]], None))
    same.inherit(before)
    other.inherit(before)
    assert (same.figures().rows, other.figures().rows) == (2, 0)


def test_a_request_of_too_many_rows_is_told_of_as_uncounted() -> None:
    made = counter()
    made.count(Rows(MAX_ROWS + 1, [[1] * (MAX_ROWS + 1), ["a"] * (MAX_ROWS + 1)], None))
    made.count(Rows(2, [[1], ["a", "b"]], None))
    assert (made.report().uncounted, made.figures().rows) == (MAX_ROWS + 3, 0)


def test_what_was_not_counted_is_forgotten_with_the_rest() -> None:
    now = [1_800_000_000.0]
    made = counter(clock=lambda: now[0])
    made.count(Rows(2, [[1], ["a", "b"]], None))
    now[0] += 29 * 86_400
    assert made.report().uncounted == 2
    now[0] += 2 * 86_400
    assert made.report().uncounted == 0


def test_a_field_that_is_no_column_is_refused() -> None:
    with pytest.raises(ConfigError, match="the quasi-identifier absent is no declared column"):
        Reidentification(config.Reidentification(3, ["absent"]), {}, {}, None, "m")


def test_memory_is_bounded_whatever_is_sent() -> None:
    made = counter(subject="patient")
    tracemalloc.start()
    for number in range(100):
        values = list(range(number * 500, (number + 1) * 500))
        made.count(Rows(500, [values, ["a"] * 500], list(map(str, values))))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.figures().rows == 50_000
    assert taken < 3 << 20
    assert len(msgspec.json.encode(made.report())) < 100_000
