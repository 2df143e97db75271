"""Anomalies are gathered for the controller, and clients are held and let go."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelward.incidents import INCIDENTS, QUARANTINE, RELEASE, Quarantined
from modelward.sidecar.caller import Caller
from modelward.sidecar.config import Quarantine
from modelward.sidecar.incidents import Incidents, Key, rfc3339
from modelward.sidecar.problems import Refusal
from modelward.sidecar.quarantine import MAX_COUNTED, Quarantines
from tests.unit.sidecar.harness import STRANGE, infer, settings, token

THREE_A_MINUTE = Quarantine(anomalies=3, seconds=60, duration_seconds=600)
ALICE = Caller("user:alice", "clinic", frozenset({"user:alice"}))


def key(client: str = "user:alice", detector: str = "Ensemble") -> Key:
    return Key(client, "clinic", "10.0.0.0/24", detector, "blocked")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def held(quarantines: Quarantines, caller: Caller = ALICE) -> bool:
    try:
        quarantines.refuse(caller)
    except Refusal as refusal:
        return (refusal.problem.slug, refusal.reason) == ("forbidden", "quarantined")
    return False


def test_anomalies_are_gathered_by_client_and_detector():
    clock = Clock()
    incidents = Incidents(clock)
    for number in range(3):
        incidents.add(key(), f"r{number}")
        clock.now += 10
    incidents.add(key(detector="Extraction"), "r3")
    last, first = incidents.told()
    assert (last.detector, last.count) == ("Extraction", 1)
    assert (first.client, first.issuer, first.count, first.reference) == ("user:alice", "clinic", 3, "r2")
    assert (first.first, first.last) == (rfc3339(1_800_000_000), rfc3339(1_800_000_020))
    clock.now += 90_000
    assert incidents.told() == ()


def test_a_full_table_drops_what_is_longest_unchanged_and_says_so():
    incidents = Incidents(max_rows=2)
    for client in ("a", "a", "b", "a", "c"):
        incidents.add(key(client), "r")
    assert [(each.client, each.count) for each in incidents.told()] == [("c", 1), ("a", 3)]
    assert incidents.dropped == 1


def test_three_a_minute_are_too_many():
    clock = Clock()
    quarantines = Quarantines(clock)
    quarantines.take_rules([THREE_A_MINUTE])
    for _ in range(5):
        assert quarantines.count(ALICE, "Ensemble") is None
        clock.now += 40
    assert not held(quarantines)
    clock.now += 60
    told = [quarantines.count(ALICE, name) for name in ("Ensemble", "Ensemble", "Output")]
    assert told[:2] == [None, None]
    assert told[2] is not None
    assert (told[2].client, told[2].reason, told[2].until) == ("user:alice", "Output", rfc3339(clock.now + 600))
    assert held(quarantines)
    assert not held(quarantines, Caller("user:alice", "another", frozenset()))
    clock.now += 600
    assert not held(quarantines)
    assert quarantines.told() == ()


def test_the_longest_of_several_rules_counts():
    quarantines = Quarantines(Clock())
    quarantines.take_rules([THREE_A_MINUTE, Quarantine(anomalies=1, seconds=1, duration_seconds=5)])
    told = quarantines.count(ALICE, "Ensemble")
    assert told is not None
    assert told.until == rfc3339(1_800_000_005)
    quarantines.take_rules([THREE_A_MINUTE, Quarantine(anomalies=3, seconds=1, duration_seconds=5)])
    found = [quarantines.count(ALICE, "Ensemble") for _ in range(3)][-1]
    assert found is not None
    assert found.until == rfc3339(1_800_000_600)


def test_release_and_what_other_replicas_tell():
    clock = Clock()
    here, there = Quarantines(clock), Quarantines(clock)
    for each in (here, there):
        each.take_rules([THREE_A_MINUTE])
    for _ in range(3):
        here.count(ALICE, "Ensemble")
    assert there.spread(here.told()) == 1
    assert there.spread(here.told()) == 0
    assert held(there)
    told = here.told()
    clock.now += 1
    assert (here.release("user:alice"), there.release("user:alice"), there.release("user:bob")) == (1, 1, 0)
    assert not held(here)
    assert there.spread(told) == 0, "what was released is not brought back by an older tale"
    clock.now += 1
    for _ in range(3):
        here.count(ALICE, "Ensemble")
    assert there.spread(here.told()) == 1


def test_without_a_rule_nobody_is_held():
    quarantines = Quarantines()
    quarantines.take_rules([THREE_A_MINUTE])
    for _ in range(3):
        quarantines.count(ALICE, "Ensemble")
    told = quarantines.told()
    quarantines.take_rules([])
    assert not held(quarantines)
    assert (quarantines.spread(told), quarantines.count(ALICE, "Ensemble")) == (0, None)


def test_memory_is_bounded_with_thrice_as_many_clients_as_are_counted():
    incidents, quarantines = Incidents(), Quarantines()
    quarantines.take_rules([THREE_A_MINUTE])
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(3 * MAX_COUNTED):
        caller = Caller(f"user:{number}", "clinic", frozenset())
        incidents.add(key(caller.name), "r")
        for _ in range(1 if number % 2 else 3):
            quarantines.count(caller, "Ensemble")
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 16 << 20
    assert len(incidents.told()) == 1000
    assert incidents.dropped == 3 * MAX_COUNTED - 1000
    assert len(quarantines) == len(quarantines._counted) == MAX_COUNTED


# --- over sockets


@pytest.fixture
def watched(run):
    screening = settings()["screening"] | {"quarantine": [{"anomalies": 3, "seconds": 60, "durationSeconds": 600}]}
    return run(screening=screening)


def test_the_controller_is_told_what_was_found(watched):
    answer = watched.ask(infer(STRANGE))
    told = watched.order()
    assert told.status == 200
    report = told.json
    assert (report["model"], report["dropped"], report["quarantined"]) == ("clinic/m", 0, [])
    assert report["baseline"] == "sha256:" + settings()["screening"]["baseline"]["sha256"]
    (incident,) = report["incidents"]
    assert incident["reference"] == answer.header["x-modelward-request-id"]
    assert [incident[name] for name in ("client", "issuer", "network", "detector", "action", "count")] == [
        "user:alice", "issuer", "127.0.0.0/24", "Mahalanobis", "blocked", 1,
    ]  # fmt: skip


def test_a_client_is_held_and_let_go(watched):
    for _ in range(3):
        assert watched.ask(infer(STRANGE)).problem == "anomalous-input"
    refused = watched.ask(infer())
    assert (refused.status, refused.problem) == (403, "forbidden")
    assert "quarantine" not in refused.body.decode()
    assert watched.ask(method="GET", target="/v2/models/m").status == 403
    assert watched.metric("modelward_quarantined_clients") == 1
    assert watched.metric('modelward_access_denied_total{reason="quarantined"}') == 2
    assert watched.log(5)[3]["reason"] == "quarantined"
    (told,) = watched.order().json["quarantined"]
    assert (told["client"], told["reason"]) == ("user:alice", "Mahalanobis")
    assert watched.order(RELEASE, {"client": "user:alice"}).json == {"clients": 1}
    assert watched.ask(infer()).status == 200
    assert watched.metric("modelward_quarantined_clients") == 0
    watched.log(6)
    notes = [json.loads(line) for line in watched.log_path.read_text().splitlines()]
    (held_note,) = [line["quarantined"] for line in notes if "quarantined" in line]
    assert (held_note["client"], held_note["reason"]) == ("user:alice", "Mahalanobis")
    assert [line["released"] for line in notes if "released" in line] == [{"client": "user:alice", "clients": 1}]


def test_what_other_replicas_hold_is_held_here(watched):
    now = time.time()
    told = Quarantined("user:alice", "issuer", rfc3339(now), rfc3339(now + 600), "Extraction")
    body = {"quarantined": [{name: getattr(told, name) for name in told.__struct_fields__}]}
    assert watched.order(QUARANTINE, body).json == {"clients": 1}
    assert watched.ask(infer()).status == 403
    assert watched.order(RELEASE, {"client": "user:alice"}).json == {"clients": 1}
    assert watched.order(QUARANTINE, body).json == {"clients": 0}
    assert watched.ask(infer()).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RELEASE, {}),
        (RELEASE, {"client": ""}),
        (RELEASE, {"client": "a", "more": 1}),
        (RELEASE, [1]),
        (QUARANTINE, {"quarantined": [{"client": "a"}]}),
        (QUARANTINE, {"quarantined": [
            {"client": "a", "issuer": "b", "since": "then", "until": "2030-01-01T00:00:00Z", "reason": "x"}
        ]}),
    ],
)  # fmt: skip
def test_what_the_controller_should_not_say_is_refused(watched, path, body):
    assert watched.order(path, body).problem == "schema-violation"


def test_without_the_controllers_token_there_is_nothing_there(watched):
    stranger = Ed25519PrivateKey.generate()
    attempts = [
        watched.order(sign=stranger.sign),
        watched.order(model="clinic/other"),
        watched.order(now=time.time() - 120),
        watched.order(method="POST"),
    ]
    unknown = watched.ask(method="GET", target="/.modelward/unknown", bearer="x.y.z")
    for answer in attempts:
        assert (answer.status, answer.problem) == (401, "unauthenticated")
        assert answer.header.keys() == unknown.header.keys()
    for target in (INCIDENTS, "/.modelward/unknown", "/unknown"):
        answer = watched.ask(method="GET", target=target)
        assert (answer.status, answer.problem) == (404, "not-found")
        assert watched.ask(method="GET", target=target, bearer=None).problem == "unauthenticated"
    details = {watched.ask(method="GET", target=target).json["detail"] for target in (INCIDENTS, "/unknown")}
    assert len(details) == 1


def test_a_token_serves_no_other_body(watched):
    other = json.dumps({"client": "user:bob"}).encode()
    answer = watched.order(RELEASE, {"client": "user:alice"}, signed=other)
    assert (answer.status, answer.problem) == (401, "unauthenticated")


def test_what_the_controller_asks_is_no_request_to_the_model(watched):
    watched.ask(infer())
    for _ in range(3):
        watched.order()
    assert watched.metric('modelward_requests_total{outcome="answered"}') == 1
    assert len(watched.log(1)) == 1


def test_the_quarantine_outlives_a_change_of_the_configuration(watched):
    for _ in range(3):
        watched.ask(infer(STRANGE))
    document = settings()
    document["binding"]["generation"] = 2
    quarantine = [{"anomalies": 5, "seconds": 60, "durationSeconds": 600}]
    watched.source._setup = watched.setup(document | {"screening": document["screening"] | {"quarantine": quarantine}})
    assert watched.call(watched.sidecar.reload())
    assert watched.ask(infer()).status == 403
    watched.source._setup = watched.setup(document)
    assert watched.call(watched.sidecar.reload())
    assert watched.ask(infer()).status == 200, "no policy asks for it any more"


def test_one_clients_quarantine_is_nobody_elses(run):
    access = settings()["access"] | {"rules": [{"subjects": ["*"], "operations": ["Infer"]}]}
    screening = settings()["screening"] | {"quarantine": [{"anomalies": 1, "seconds": 60, "durationSeconds": 600}]}
    running = run(access=access, screening=screening)
    running.ask(infer(STRANGE))
    assert running.ask(infer()).status == 403
    assert running.ask(infer(), bearer=token(sub="bob")).status == 200
