"""Counters for an auditor: a sidecar over real sockets counts, encrypts in a process of its own, and hands over."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("Pyfhel")

from modelward.audit.aggregate import Sum, added, public_key
from modelward.audit.job import Done
from modelward.audit.layout import Counted
from modelward.audit.parameters import LEVEL, MAX_ROWS, PARAMETERS
from modelward.audit.settings import Audit, Auditor
from modelward.audit.told import MAX_KEPT, Collected
from modelward.encrypted import envelope
from modelward.encrypted.client import ClientKeys
from modelward.encrypted.context import Decryptor
from modelward.incidents import AGGREGATES
from modelward.sidecar import auditing, config
from modelward.sidecar.auditing import Auditing
from modelward.sidecar.setup import Setup
from modelward.sidecar.signed import read_audit_keys
from modelward.sidecar.tally import MAX_REQUEST_ROWS, Rows, Tally
from modelward.sidecar.tensors import Tensor, TensorSpec
from tests.unit.sidecar.harness import STRANGE, Running, infer, settings
from tests.unit.sidecar.oip import GrpcModel, call, grpc, port_of, with_grpc
from tests.unit.sidecar.oip_messages import answer
from tests.unit.sidecar.oip_messages import infer as oip_infer

KEYS = ClientKeys.generate(PARAMETERS)
NAME = envelope.digest(KEYS.public)
SECONDS = 300
AUDIT = {
    "auditors": [
        {
            "policy": "DataPolicy p",
            "keys": NAME,
            "file": "audit-0.keys",
            "sha256": "0" * 64,
            "periodSeconds": 3600,
            "minimumWindows": 2,
            "minimum": 10,
        }
    ],
    "seconds": SECONDS,
    "counted": [
        {"field": "a", "names": ["low", "high"], "edges": [0.5]},
        {"field": "b", "names": ["10"]},
    ],
}
CELLS = ["low", "high", "other", "10", "other"]


class Audited(Running):
    def setup(self, *arguments: Any, **changes: Any) -> Setup:
        made = super().setup(*arguments, **changes)
        return replace(made, audit_keys=(KEYS.public,) if made.settings.audit else ())

    @property
    def auditing(self) -> Auditing:
        assert self.sidecar._resources.auditing is not None
        return self.sidecar._resources.auditing

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end_window(self) -> None:
        ahead = self.auditing._clock
        self.auditing._clock = lambda: ahead() + SECONDS

    def collected(self, **through: int) -> Collected:
        answer = self.order(AGGREGATES, {"through": through})
        assert answer.status == 200
        return msgspec.json.decode(answer.body, type=Collected)


@pytest.fixture
def audited(tmp_path: Path) -> Iterator[Audited]:
    running = Audited(settings(audit=AUDIT), tmp_path)
    running.until(lambda: running.auditing.ready)
    yield running
    running.stop()


def counts_in(ciphertext: bytes) -> list[int]:
    decryptor = Decryptor(PARAMETERS, KEYS.secret, public_key(KEYS.public))
    counts = decryptor.decrypt_integers(ciphertext, LEVEL).tolist()
    assert not any(counts[len(CELLS) :])
    return counts[: len(CELLS)]


def test_what_was_answered_is_counted_encrypted_and_handed_over_once(audited: Audited) -> None:
    for data in ([0.1, 10, -5], [0.9, 10, -5], [0.2, 10.5, -5]):
        assert audited.ask(infer(data)).status == 200
    assert audited.ask(infer([0.1, 10, -5, 0.2, 10, -5], shape=[2, 3])).status == 200
    assert audited.ask(infer(STRANGE)).status == 403  # not answered, not counted
    assert audited.ask(infer(["x", 1, 2])).status == 422
    assert audited.order().json["encrypted"] == {"waiting": 0, "dropped": 0}
    audited.until(lambda: audited.auditing.tally.rows == 5)
    audited.end_window()
    audited.until(lambda: audited.order().json["encrypted"]["waiting"] == 1)
    (window,) = audited.collected().windows
    assert (window.keys, window.layout, window.start % SECONDS) == (NAME, audited.auditing._layout, 0)
    assert counts_in(window.ciphertext) == [4, 1, 0, 4, 1]
    total = added(Sum(NAME, window.layout), window, "pod", SECONDS, window.start + SECONDS)
    assert counts_in(total.ciphertext) == [4, 1, 0, 4, 1]
    assert len(audited.collected().windows) == 1  # until it is known to be written down
    assert audited.collected(**{NAME: window.start - 1}).windows != ()
    assert audited.collected(**{NAME: window.start}).windows == ()
    assert audited.order().json["encrypted"] == {"waiting": 0, "dropped": 0}


def test_calls_over_grpc_are_counted_by_group_and_answer(tmp_path: Path) -> None:
    model = GrpcModel()
    fairness = {"protected": [{"field": "a", "edges": [0.5]}]}
    by_outcome = {"field": "a", "names": ["low", "high"], "edges": [0.5], "outcome": True}
    audit = {**AUDIT, "counted": [by_outcome, {"field": "b", "names": ["10"]}]}
    running = Audited(with_grpc(model, screening={}, audit=audit, fairness=fairness), tmp_path)
    try:
        model.behaviour = lambda *_: answer(
            {"name": "y", "datatype": "INT64", "shape": [2], "contents": {"int64_contents": [1, 0]}}
        )
        for raw in (False, True):
            told = call(port_of(running), oip_infer([0.1, 10.0, 0.0, 0.9, 10.5, 0.0], raw=raw))
            assert told.code == grpc.StatusCode.OK
        model.behaviour = lambda _, context: context.abort(grpc.StatusCode.INTERNAL, "no")
        assert call(port_of(running), oip_infer([0.1, 10.0, 0.0])).code != grpc.StatusCode.OK
        running.until(lambda: running.auditing.tally.rows == 4)
        #  low: selected, not; high: selected, not; other: selected, not; unknown | 10, other
        assert running.auditing.tally.taken() == [2, 0, 0, 2, 0, 0, 0, 2, 2]
    finally:
        running.stop()
        model.server.stop(None)


def test_a_window_without_rows_is_none(audited: Audited) -> None:
    started = audited.auditing._start
    audited.end_window()
    audited.until(lambda: audited.auditing._start > started)
    assert audited.order().json["encrypted"]["waiting"] == 0
    assert audited.auditing._tasks == set()


def test_only_the_controller_collects(audited: Audited) -> None:
    assert audited.ask({"through": {}}, target=AGGREGATES).status == 404
    assert audited.ask({"through": {}}, target=AGGREGATES, bearer="x.y.z").status == 401
    for body in ({"through": {"x": 1}}, {"through": {NAME: -1}}, {"more": 1}, [1]):
        assert audited.order(AGGREGATES, body).problem == "schema-violation"


def test_what_nobody_collects_is_dropped_and_counted(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unread(counts: list[int], keys: Any) -> Done:
        return Done([bytes(counts)] * len(keys))

    monkeypatch.setattr(auditing, "_encrypted", unread)

    async def many() -> None:
        for number in range(MAX_KEPT + 2):
            await audited.auditing._encrypt([1, 0, 0, 1, 0], number * SECONDS)

    audited.call(many())
    assert audited.order().json["encrypted"] == {"waiting": MAX_KEPT, "dropped": 2}
    assert [window.start for window in audited.collected().windows] == [
        number * SECONDS for number in range(2, MAX_KEPT + 2)
    ]


def test_the_counters_outlive_a_change_of_the_configuration_that_is_not_theirs(audited: Audited) -> None:
    audited.ask(infer())
    audited.until(lambda: audited.auditing.tally.rows == 1)
    before = audited.auditing
    document = settings(audit=AUDIT)
    document["binding"]["generation"] = 2
    audited.source._setup = audited.setup(document)
    assert audited.call(audited.sidecar.reload())
    assert audited.auditing is before
    audited.source._setup = audited.setup(settings(binding=document["binding"]))
    assert audited.call(audited.sidecar.reload())
    assert audited.sidecar._resources.auditing is None
    assert audited.order().json["encrypted"] == {"waiting": 0, "dropped": 0}
    assert audited.collected().windows == ()


def test_what_waits_and_the_window_outlive_other_bounds_of_a_period(audited: Audited) -> None:
    audited.ask(infer())
    audited.until(lambda: audited.auditing.tally.rows == 1)
    audited.call(audited.auditing._encrypt([1, 0, 0, 1, 0], SECONDS))
    document = settings(audit=json.loads(json.dumps(AUDIT)))
    document["binding"]["generation"] = 2
    document["audit"]["auditors"][0]["periodSeconds"] = 7200
    audited.source._setup = audited.setup(document)
    before = audited.auditing
    assert audited.call(audited.sidecar.reload())
    assert audited.auditing is not before
    assert audited.auditing.tally.rows == 1
    assert audited.order().json["encrypted"] == {"waiting": 1, "dropped": 0}
    document["audit"]["counted"].pop()
    audited.source._setup = audited.setup(document)
    assert audited.call(audited.sidecar.reload())
    assert (audited.auditing.tally.rows, audited.auditing.told().waiting) == (0, 0)


def test_a_window_that_is_being_encrypted_outlives_other_bounds_of_a_period(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def slowly(counts: list[int], keys: Any) -> Done:
        await go_on.wait()
        return Done([bytes(counts)] * len(keys))

    audited.ask(infer())
    audited.until(lambda: audited.auditing.tally.rows == 1)
    monkeypatch.setattr(auditing, "_encrypted", slowly)
    audited.end_window()
    audited.until(lambda: audited.auditing.tally.rows == 0)
    document = settings(audit=json.loads(json.dumps(AUDIT)))
    document["binding"]["generation"] = 2
    document["audit"]["auditors"][0]["periodSeconds"] = 7200
    audited.source._setup = audited.setup(document)
    before = audited.auditing
    assert audited.call(audited.sidecar.reload())
    assert audited.auditing is not before
    audited.until(lambda: not audited.sidecar._resources.ending)
    audited._loop.call_soon_threadsafe(go_on.set)
    audited.until(lambda: audited.order().json["encrypted"]["waiting"] == 1)


def test_windows_are_encrypted_one_at_a_time_in_order_and_wait_within_bounds(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most = 0, 0

    async def by_chance(counts: list[int], keys: Any) -> Done:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.05 / (1 + counts[0]))  # whichever comes later takes less
        under_way -= 1
        return Done([bytes(counts)] * len(keys))

    async def several() -> None:
        for number in range(MAX_KEPT + 3):
            audited.auditing._encrypt_soon([number], number * SECONDS)
        await asyncio.gather(*audited.auditing._tasks)

    monkeypatch.setattr(auditing, "_encrypted", by_chance)
    audited.call(several())
    assert most == 1
    assert audited.order().json["encrypted"] == {"waiting": MAX_KEPT, "dropped": 3}
    assert [window.start // SECONDS for window in audited.collected().windows] == list(range(MAX_KEPT))


def test_who_cannot_encrypt_is_not_ready_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auditing, "_AGAIN_SECONDS", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.KEYS", ClientKeys.generate())  # a client's, of other parameters
        running = Audited(settings(audit=AUDIT), tmp_path)
    try:
        running.until(lambda: running.sidecar._readiness.model)
        ready = running.monitor("/readyz")
        assert (ready.status, b"counters cannot be encrypted" in ready.body) == (503, True)
        running.auditing.keys = (KEYS.public,)
        running.until(lambda: running.monitor("/readyz").status == 200)
    finally:
        running.stop()


async def test_a_process_that_dies_or_answers_nonsense_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not an auditor's keys" in (await auditing._encrypted([1], [ClientKeys.generate().public])).why
    assert "cannot be" in (await auditing._encrypted([1], [b"nothing"])).why
    assert "a count is larger" in (await auditing._encrypted([1 << 39], [KEYS.public])).why
    for command, told in (("/bin/true", "without an answer"), ("/nowhere", "no process could be started")):
        monkeypatch.setattr(auditing.sys, "executable", command)
        assert told in (await auditing._encrypted([1], [KEYS.public])).why


# --- counting alone

SPEC = TensorSpec(config.TensorDeclaration("x", "FP64", [-1, 2], ["a", "b"]))
WORDS = TensorSpec(config.TensorDeclaration("w", "BYTES", [-1]))


def tally(*counted: Counted) -> Tally:
    auditor = msgspec.convert(AUDIT["auditors"][0], Auditor)  # type: ignore[index]
    return Tally(Audit([auditor], list(counted), SECONDS), {"x": SPEC, "w": WORDS})


def test_groups_are_those_before_the_treatment_and_values_those_after() -> None:
    made = tally(Counted("w", ("f", "m"), outcome=True), Counted("a", ("1", "2")))
    tensors = [Tensor(SPEC, [2, 2], [1, 0, 2, 0]), Tensor(WORDS, [2], ["f", "x"])]
    rows = made.begin(tensors)
    tensors[0].data[0], tensors[1].data[0] = 2, "treated"
    made.treated(rows, tensors)
    made.count(rows, [True, False])
    #  f: selected, not; m: selected, not; other: selected, not; unknown | 1, 2, other
    assert made.taken() == [1, 0, 0, 0, 0, 1, 0, 0, 2, 0]
    made.count(rows, None)
    assert made.taken() == [0, 0, 0, 0, 0, 0, 2, 0, 2, 0]
    assert made.taken() == [0] * 10


def test_what_cannot_be_told_is_counted_as_that() -> None:
    made = tally(Counted("w", ("f",), outcome=True), Counted("a", ("1",)))
    without = [Tensor(SPEC, [2, 2], [1, 0, 1, 0])]
    rows = made.begin(without)
    made.treated(rows, without)
    made.count(rows, [True, True])
    assert made.taken() == [0, 0, 0, 0, 2, 2, 0]
    many = MAX_REQUEST_ROWS + 1
    large = [Tensor(SPEC, [many, 2], [1, 0] * many)]
    rows = made.begin(large)
    made.treated(rows, large)
    made.count(rows, None)
    assert made.taken() == [0, 0, 0, 0, many, 0, many]


def test_no_window_counts_more_rows_than_can_be_added_exactly() -> None:
    made = tally(Counted("a", ("1",)))
    made.count(Rows(MAX_ROWS, 1), None)
    made.count(Rows(1, 1), None)
    assert (made.rows, made.missed) == (MAX_ROWS, 1)
    assert sum(made.taken()) == MAX_ROWS
    made.count(Rows(1, 1), None)
    assert made.rows == 1


def test_a_field_that_is_no_column_is_named() -> None:
    with pytest.raises(config.ConfigError, match="the field to be counted age is no declared column"):
        tally(Counted("age", ("1",)))


def test_the_configuration_is_read_with_its_keys(tmp_path: Path) -> None:
    parsed = config.parse(json.dumps(settings(audit=AUDIT)).encode())
    (tmp_path / "audit-0.keys").write_bytes(KEYS.public)
    with pytest.raises(config.ConfigError, match=r"audit-0\.keys has the digest"):
        read_audit_keys(tmp_path, parsed)
