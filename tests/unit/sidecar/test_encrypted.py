"""Encrypted requests through a real sidecar: scored by a process of their own, and read by nobody on the way."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modelward.encrypted import envelope
from modelward.encrypted.client import Client, ClientKeys, v2_answer, v2_body
from modelward.encrypted.parameters import Parameters
from modelward.sidecar import workers
from modelward.sidecar.encrypted_callers import Budget, KeyStore, Seen
from modelward.sidecar.problems import Refusal
from tests.unit.sidecar.harness import NORMAL, WEIGHTS, Answer, Running, infer, request, settings, token

pytest.importorskip("Pyfhel")
COLUMNS = ("a", "b", "c")
IN_USE = {"parameters": {}, "weights": {"sha256": hashlib.sha256(WEIGHTS).hexdigest()}, "memoryBytes": 400 << 20}
LIMITS = {"bodyBytes": 32 << 20, "drainSeconds": 5}


@pytest.fixture(scope="module")
def keys() -> ClientKeys:
    return ClientKeys.generate(columns=4)


@pytest.fixture(scope="module")
def client(keys: ClientKeys) -> Client:
    return Client(keys)


@pytest.fixture
def served(run) -> Running:
    return ready(run(inUse=IN_USE, limits=LIMITS))


def ready(running: Running) -> Running:
    until = time.monotonic() + 60
    while running.monitor("/readyz").status != 200:
        assert time.monotonic() < until, running.monitor("/readyz").body
        time.sleep(0.05)
    return running


def encrypted(client: Client, rows=(NORMAL,), *, age: int = 0, model: str = "m") -> bytes:
    return client.encrypt(np.array(rows, dtype=float), COLUMNS, model=model, now=int(time.time()) - age)


def body(request: bytes, keys: bytes = b"", **changes: object) -> dict[str, object]:
    """As a client sends it, whatever the bytes are."""
    parts = {"request": request} | ({"keys": keys} if keys else {})
    inputs = [tensor(name=name, data=[base64.b64encode(part).decode()]) for name, part in parts.items()]
    return {"parameters": {"encryption": "CKKS"}, "inputs": inputs} | changes


def read(client: Client, answer) -> np.ndarray:
    assert answer.status == 200, answer.body
    assert answer.json["parameters"] == {"encryption": "CKKS"}
    return client.decrypt(v2_answer(answer.body))[0]


def expected(row=NORMAL) -> float:
    return float(np.dot(row, [1.5, -0.25, 0.5]) + 0.75)


def test_a_score_of_what_the_sidecar_cannot_read(served: Running, keys: ClientKeys, client: Client) -> None:
    answer = served.ask(body(encrypted(client), keys.public, id="7"))
    assert read(client, answer)[0, 0] == pytest.approx(expected(), abs=1e-6)
    assert answer.json["id"] == "7"
    assert served.model.asked == []
    (record,) = served.log(1)
    assert (record["fields"], record["rows"], record["status"]) == (["encrypted"], 1, 200)


def test_keys_are_sent_once_and_kept_for_who_sent_them(run, keys: ClientKeys, client: Client) -> None:
    rules = [{"subjects": ["user:alice", "user:bob"], "operations": ["Infer"]}]
    served = ready(run(inUse=IN_USE, limits=LIMITS, access=settings()["access"] | {"rules": rules}))
    assert served.ask(body(encrypted(client))).problem == "unknown-keys"
    read(client, served.ask(body(encrypted(client), keys.public)))
    for _ in range(2):
        read(client, served.ask(body(encrypted(client))))
    other = served.ask(body(encrypted(client)), bearer=token(sub="bob"))
    assert (other.status, other.problem) == (409, "unknown-keys")


def test_as_bytes(served: Running, keys: ClientKeys, client: Client) -> None:
    parts = [encrypted(client), keys.public]
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 4 + len(part)}}
        for name, part in zip(("request", "keys"), parts, strict=True)
    ]
    head = json.dumps({"parameters": {"encryption": "CKKS"}, "inputs": inputs}).encode()
    content = head + b"".join(struct.pack("<I", len(part)) + part for part in parts)
    header = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    answer = served.ask(content, header=header)
    assert answer.status == 200, answer.body
    start = int(answer.header["inference-header-content-length"])
    (output,) = json.loads(answer.body[:start])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer.body) - start
    assert client.decrypt(answer.body[start + 4 :])[0][0, 0] == pytest.approx(expected(), abs=1e-6)
    cut = served.ask(content[:-1] + b"", header=header)
    assert cut.problem == "schema-violation"


def test_plain_requests_go_on_unless_only_encrypted_ones_are_taken(run) -> None:
    served = ready(run(inUse=IN_USE, limits=LIMITS))
    assert served.ask(infer()).status == 200
    only = ready(run(inUse=IN_USE | {"only": True}, limits=LIMITS))
    refused = only.ask(infer())
    assert (refused.status, refused.problem) == (422, "schema-violation")
    assert only.model.asked == []
    assert only.ask(method="GET", target="/v2/models/m").status == 200


def test_what_cannot_be_scored_is_refused_with_the_reason(served: Running, keys: ClientKeys, client: Client) -> None:
    good = encrypted(client)
    flipped = bytearray(good)
    flipped[-70_000] ^= 1
    other = ClientKeys.generate(columns=4)
    cases = [
        (body(bytes(flipped), keys.public), "signature"),
        (body(good[:-100], keys.public), "cut short"),
        (body(b"x", keys.public), "cannot be request"),
        (body(encrypted(client), other.public), "other keys"),
        (body(encrypted(client, model="another"), keys.public), "for the model another"),
        (body(encrypted(client, age=3600), keys.public), "older than"),
        (body(encrypted(client, age=-3600), keys.public), "clock"),
        (body(keys.public, keys.public), "cannot be read"),
        (body(client.encrypt(np.ones((1, 2)), "ab", model="m", now=int(time.time())), keys.public), "2 columns"),
    ]
    for asked, told in cases:
        answer = served.ask(asked)
        assert (answer.status, answer.problem) == (422, "encrypted-unfit"), answer.body
        assert told in answer.json["detail"]
    read(client, served.ask(body(good, keys.public)))
    again = served.ask(body(good, keys.public))
    assert (again.status, "was sent before" in again.json["detail"]) == (422, True)
    assert served.model.asked == []


def tensor(**changes: object) -> dict[str, object]:
    return {"name": "request", "datatype": "BYTES", "shape": [1], "data": ["eA=="]} | changes


WRONG = (
    {"parameters": {"encryption": "BGV"}},
    {"parameters": {"encryption": "CKKS", "statistic": "median"}},
    {"parameters": {"encryption": "CKKS", "x": 1}},
    {"inputs": []},
    {"inputs": [tensor(shape=[2])]},
    {"inputs": [tensor(data=["no base64!"])]},
    {"inputs": [{"name": "request", "datatype": "BYTES", "shape": [1]}]},
    {"inputs": [tensor(parameters={"binary_data_size": 9})]},
    {"inputs": [tensor(name="keys")]},
    {"inputs": [tensor(), tensor()]},
    {"outputs": []},
)


def statistic(client: Client, rows, asked: str) -> bytes:
    return client.encrypt(np.array(rows, float), COLUMNS, model="m", now=int(time.time()), statistic=asked)


def test_means_of_columns_without_weights(run, keys: ClientKeys, client: Client) -> None:
    in_use = {"parameters": {}, "statistics": True, "memoryBytes": 400 << 20, "rowsPerHour": 4}
    served = ready(run(inUse=in_use, limits=LIMITS))
    content = v2_body(statistic(client, [[1, 2, 3], [3, 2, 2]], "mean"), keys.public)
    answer = served.ask(json.loads(content) | {"id": "7"})
    assert (answer.status, answer.json["id"]) == (200, "7"), answer.body
    assert answer.json["parameters"] == {"encryption": "CKKS", "statistic": "mean"}
    values, header = client.decrypt(v2_answer(answer.body))
    assert np.abs(values - [[2, 2, 2.5]]).max() < header.error < 1e-7
    (record,) = served.log(1)
    assert (record["fields"], record["rows"], record["status"]) == (["encrypted"], 2, 200)
    scores = served.ask(body(encrypted(client, [NORMAL]), keys.public))
    assert (scores.problem, "for want of weights" in scores.json["detail"]) == ("encrypted-unfit", True)
    over = served.ask(json.loads(v2_body(statistic(client, [[1, 2, 3]] * 2, "sum"), keys.public)))
    assert (over.status, over.problem) == (429, "rate-limited")
    assert served.model.asked == []


def test_exact_counts_under_bfv(run) -> None:
    parameters = {"scheme": "BFV", "polyModulusDegree": 4096, "coeffModulusBits": [36, 36, 37]}
    served = ready(run(inUse={"parameters": parameters, "statistics": True}, limits=LIMITS))
    counting = Client(own := ClientKeys.generate(msgspec.convert(parameters, Parameters), rows=64))
    answer = served.ask(json.loads(v2_body(statistic(counting, [[0, 1, 1], [0, 1, 0]], "count"), own.public)))
    assert answer.json["parameters"] == {"encryption": "BFV", "statistic": "count"}
    assert counting.decrypt(v2_answer(answer.body))[0].tolist() == [[0, 2, 1]]


def test_what_was_signed_is_what_is_answered(served: Running, keys: ClientKeys, client: Client) -> None:
    """The parameters of the body are not signed: who changes them on the way gets no other answer out of it."""
    asked = body(statistic(client, [NORMAL], "mean"), keys.public)
    for parameters in (
        {"encryption": "CKKS"},
        {"encryption": "CKKS", "statistic": "sum"},
        {"encryption": "BFV", "statistic": "mean"},
    ):
        answer = served.ask(asked | {"parameters": parameters})
        assert (answer.status, "that the client signed" in answer.json["detail"]) == (422, True)
    not_offered = served.ask(asked | {"parameters": {"encryption": "CKKS", "statistic": "mean"}})
    assert "not offered here" in not_offered.json["detail"]


def test_a_body_of_another_shape_is_refused(served: Running, client: Client) -> None:
    for change in WRONG:
        assert served.ask(body(b"x") | change).problem == "schema-violation", change


def worker_of(running: Running) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "encrypted.worker"], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[-1])


def test_a_process_that_dies_is_replaced_and_plain_requests_do_not_notice(
    served: Running, keys: ClientKeys, client: Client
) -> None:
    read(client, served.ask(body(encrypted(client), keys.public)))
    os.kill(worker_of(served), signal.SIGKILL)
    assert served.ask(infer()).status == 200
    assert served.monitor("/readyz").status == 200
    until = time.monotonic() + 60
    while (answer := served.ask(body(encrypted(client), keys.public))).status != 200:
        assert answer.problem in ("interrupted", "overloaded")
        assert time.monotonic() < until
        time.sleep(0.2)
    read(client, answer)


async def _begun(served: Running) -> bool:
    path = served.sidecar._gateway.chain.encrypted
    assert path is not None
    return bool(path._seen._until) and not path.workers._waiting


def begun(served: Running) -> None:
    """Wait until the process has the request."""
    until = time.monotonic() + 20
    while not served.call(_begun(served)):
        assert time.monotonic() < until
        time.sleep(0.02)


def asked_while_it_ends(served: Running, sent: object, by: signal.Signals) -> Answer:
    """What comes of a request whose process ends by a signal while it has it."""
    process = worker_of(served)
    os.kill(process, signal.SIGSTOP)
    with served.client() as connection:
        connection.send(request(sent))
        begun(served)
        os.kill(process, by)
        os.kill(process, signal.SIGCONT)
        return connection.read()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_ended_from_outside_is_503_and_the_same_request_is_answered_later(
    run, keys: ClientKeys, client: Client, by: signal.Signals
) -> None:
    served = ready(run(inUse=IN_USE | {"seconds": 60}, limits=LIMITS))
    sent = body(encrypted(client), keys.public)
    answer = asked_while_it_ends(served, sent, by)
    assert (answer.status, answer.problem, answer.header["retry-after"]) == (503, "interrupted", "3")
    assert served.log(1)[-1]["reason"] == "worker-killed"
    with served.client(timeout=60) as connection:
        connection.send(request(sent))
        read(client, connection.read())  # it waited for the next process
    assert served.ask(sent).problem == "encrypted-unfit"  # it was answered


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT])
def test_a_process_that_dies_of_a_request_is_422_and_that_request_does_not_come_again(
    served: Running, keys: ClientKeys, client: Client, by: signal.Signals
) -> None:
    sent = body(encrypted(client), keys.public)
    answer = asked_while_it_ends(served, sent, by)
    assert (answer.status, answer.problem) == (422, "encrypted-unfit")
    assert "retry-after" not in answer.header
    assert served.log(1)[-1]["reason"] == "worker-died"
    assert served.ask(sent).problem == "encrypted-unfit"
    assert served.log(2)[-1]["reason"] == "replayed"


def test_a_request_that_is_being_scored_when_the_sidecar_ends_is_503(
    served: Running, keys: ClientKeys, client: Client
) -> None:
    os.kill(worker_of(served), signal.SIGSTOP)
    path = served.sidecar._gateway.chain.encrypted
    assert path is not None
    with served.client() as connection:
        connection.send(request(body(encrypted(client), keys.public)))
        begun(served)
        served.call(path.workers.close())
        answer = connection.read()
    assert (answer.status, answer.problem) == (503, "overloaded")


def test_a_request_that_was_forgotten_may_come_again_and_leaves_no_trace() -> None:
    seen = Seen(lambda: 0.0, most=8)
    seen.add("x", "a")
    assert refused(seen.refuse_again, "x", "a") == "replayed"
    seen.forget("x", "a")
    seen.forget("x", "a")
    assert refused(seen.refuse_again, "x", "a") == ""
    assert not seen._of_owner


def test_without_pyfhel_the_sidecar_is_not_ready_and_says_why(run, tmp_path, monkeypatch, capfd) -> None:
    absent = tmp_path / "absent" / "Pyfhel"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError('Pyfhel')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(absent.parent), *sys.path]))
    served = run(inUse=IN_USE, limits=LIMITS)
    until = time.monotonic() + 60
    while "pip install 'modelward[he]'" not in (told := capfd.readouterr().err):
        assert time.monotonic() < until, told
        time.sleep(0.1)
    answer = served.monitor("/readyz")
    assert (answer.status, b"no process is ready" in answer.body) == (503, True)


def test_a_process_that_takes_too_long_is_ended(run, keys: ClientKeys, client: Client) -> None:
    served = ready(run(inUse=IN_USE | {"seconds": 0.5}, limits=LIMITS))
    stuck = worker_of(served)
    os.kill(stuck, signal.SIGSTOP)
    answer = served.ask(body(encrypted(client), keys.public))
    assert (answer.status, answer.problem) == (503, "overloaded")
    assert served.ask(infer()).status == 200
    until = time.monotonic() + 60
    while served.ask(body(encrypted(client), keys.public)).status != 200:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert worker_of(served) != stuck


def test_the_hourly_budget_is_each_callers_own(run, keys: ClientKeys, client: Client) -> None:
    served = ready(run(inUse=IN_USE | {"rowsPerHour": 4}, limits=LIMITS))
    read(client, served.ask(body(encrypted(client, [NORMAL] * 4), keys.public)))
    answer = served.ask(body(encrypted(client), keys.public))
    assert (answer.status, answer.problem) == (429, "rate-limited")
    assert int(answer.header["retry-after"]) > 3000


def test_a_budget_that_guards_the_weights_takes_rows_that_can_be_counted(run, keys: ClientKeys, client: Client) -> None:
    served = ready(run(inUse=IN_USE | {"rowsPerHour": 3}, limits=LIMITS))
    one = {"model": "m", "now": int(time.time())}
    by_row = served.ask(body(client.encrypt(np.array([NORMAL]), COLUMNS, layout="row", **one), keys.public))
    assert (by_row.status, "`columns`" in by_row.json["detail"]) == (422, True)
    read(client, served.ask(body(client.encrypt(np.array([NORMAL]), COLUMNS, layout="columns", **one), keys.public)))


def test_who_is_told_to_try_again_may(run, keys: ClientKeys, client: Client) -> None:
    """A request that found the queue full was taken for a repetition when it came again, and its rows were spent."""
    served = ready(run(inUse=IN_USE | {"rowsPerHour": 4}, limits=LIMITS))
    asked = body(encrypted(client, [NORMAL] * 4), keys.public)
    with mock.patch.object(workers, "_QUEUE_A_WORKER", 0):
        answer = served.ask(asked)
        assert (answer.status, answer.header["retry-after"]) == (503, "1")
    read(client, served.ask(asked))


def test_who_may_not_infer_gets_no_score(run, keys: ClientKeys, client: Client) -> None:
    rules = [{"subjects": ["user:alice"], "operations": ["Explain", "Metadata"]}]
    served = ready(run(inUse=IN_USE, limits=LIMITS, access=settings()["access"] | {"rules": rules}))
    answer = served.ask(body(encrypted(client), keys.public), target="/v2/models/m/explain")
    assert (answer.status, answer.problem) == (422, "schema-violation")
    assert served.ask(body(encrypted(client), keys.public)).problem == "forbidden"


def test_a_plain_request_may_have_the_word_in_it(served: Running) -> None:
    for asked in (infer() | {"id": "encryption"}, infer() | {"parameters": {"a": "encryption"}}):
        assert served.ask(asked).status == 200, asked
    assert b'"encryption"' in served.model.asked[-1].body


def test_an_encrypted_body_is_none_over_grpc(tmp_path, keys: ClientKeys, client: Client) -> None:
    """A body that is JSON, and no message, was scored there: for who may read metadata alone, by any method."""
    oip = pytest.importorskip("tests.unit.sidecar.oip")
    trouble = pytest.importorskip("tests.unit.sidecar.test_grpc_trouble")
    model = oip.GrpcModel()
    rules = [{"subjects": ["user:alice"], "operations": ["Metadata"]}]
    access = settings()["access"] | {"rules": rules}
    running = ready(Running(oip.with_grpc(model, inUse=IN_USE, limits=LIMITS, access=access), tmp_path))
    content = v2_body(encrypted(client), keys.public)
    try:
        with trouble.Raw(oip.port_of(running)) as raw:
            raw.ask(1, **{":path": "/inference.GRPCInferenceService/ServerLive"})
            while content:
                size = min(raw.h2.local_flow_control_window(1), 16384, len(content))
                if not size:
                    raw.flush()
                    raw.read(lambda event: type(event).__name__ == "WindowUpdated", acknowledge=False)
                    continue
                raw.h2.send_data(1, content[:size], end_stream=size == len(content))
                content = content[size:]
                raw.flush()
            told = raw.read(lambda event: type(event).__name__ in ("ResponseReceived", "TrailersReceived"))
            assert dict(told.headers).get("grpc-status") == "3", told
    finally:
        running.stop()
        model.server.stop(None)


class Sink:
    """Takes what is written."""

    def write(self, content: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


def answered(content: bytes, job: bytes = b"job") -> tuple[bytes, bytes]:
    async def ask() -> tuple[bytes, bytes]:
        source = asyncio.StreamReader()
        source.feed_data(content)
        source.feed_eof()
        return await workers._ask(source, Sink(), job, b"", 5)  # type: ignore[arg-type]

    return asyncio.run(ask())


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.tuples(st.integers(0, 9), st.integers(0, 9), st.binary(max_size=20)))
def test_whatever_a_process_says_is_an_answer_or_its_end(said: bytes | tuple[int, int, bytes]) -> None:
    if isinstance(said, tuple):
        said = struct.pack("<II", said[0], said[1]) + said[2]
    try:
        status, content = answered(said)
    except workers._FailedError:
        return
    assert said.startswith(struct.pack("<II", len(status), len(content)) + status + content)


def test_a_process_that_was_taken_over_fills_no_memory() -> None:
    with pytest.raises(workers._FailedError, match="more than there can be"):
        answered(struct.pack("<II", 1, 200 << 20))
    with pytest.raises(workers._FailedError, match="it died"):  # a job that large may have an answer that large
        answered(struct.pack("<II", 1, 200 << 20), bytes(4 << 20))


def refused(work, *arguments: object) -> str:
    try:
        work(*arguments)
    except Refusal as refusal:
        return refusal.reason
    return ""


def test_keys_are_kept_within_bytes_and_time() -> None:
    now = [0.0]
    store = KeyStore(250, lambda: now[0])
    sent = {envelope.digest(bytes([n]) * 100): bytes([n]) * 100 for n in range(3)}
    for digest, content in sent.items():
        assert store.resolve(digest, content, "a") == content  # more than two, or than 250 bytes, are not kept
    first, second, third = sent
    with pytest.raises(Refusal):
        store.resolve(first, b"", "a")
    assert store.resolve(second, b"", "a") == sent[second]
    with pytest.raises(Refusal):
        store.resolve(second, b"", "b")
    now[0] = 4000
    with pytest.raises(Refusal):
        store.resolve(third, b"", "a")
    assert store._bytes == 0
    big = b"x" * 300
    assert store.resolve(envelope.digest(big), big, "a") == big
    assert store._bytes == 0


def test_nobody_pushes_out_the_keys_of_others() -> None:
    store = KeyStore(1000, lambda: 0.0)
    kept = b"k" * 100
    store.resolve(envelope.digest(kept), kept, "a")
    for n in range(50):
        content = bytes([n]) * 150
        store.resolve(envelope.digest(content), content, "b")
    assert store.resolve(envelope.digest(kept), b"", "a") == kept
    assert store.resolve(envelope.digest(content), b"", "b") == content
    assert store._bytes == 400


def test_what_was_seen_is_forgotten_in_time_and_never_more_than_is_bounded() -> None:
    now = [0.0]
    seen = Seen(lambda: now[0], most=2)

    def ask(name: str, owner: str) -> str:
        why = refused(seen.refuse_again, name, owner)
        if not why:
            seen.add(name, owner)
        return why

    asked = (("a", "x"), ("a", "y"), ("b", "y"), ("c", "z"))
    assert [ask(*each) for each in asked] == ["", "replayed", "", "queue-full"]
    now[0] = 601
    assert [ask(*each) for each in (("c", "x"), ("a", "y"), ("c", "z"))] == ["", "", "replayed"]


def test_one_caller_does_not_use_up_what_is_remembered_of_all() -> None:
    now = [0.0]
    seen = Seen(lambda: now[0], most=80)
    for n in range(10):
        seen.refuse_again(str(n), "mallory")
        seen.add(str(n), "mallory")
    assert refused(seen.refuse_again, "more", "mallory") == "queue-full"
    assert refused(seen.refuse_again, "more", "alice") == ""
    now[0] = 601
    assert refused(seen.refuse_again, "more", "mallory") == ""
    assert not seen._of_owner


def test_the_budget_is_bounded_and_renewed() -> None:
    now = [0.0]
    budget = Budget(10, lambda: now[0])
    assert [refused(budget.spend, "a", rows) for rows in (6, 5, 4, 1)] == [
        "",
        "encrypted-budget",
        "",
        "encrypted-budget",
    ]
    assert refused(budget.spend, "b", 10) == ""
    now[0] = 3601
    assert refused(budget.spend, "a", 10) == ""
    for n in range(20_000):
        budget.spend(str(n), 1)
    assert len(budget._spent) <= 10_000
