"""The whole of the suite against a service without a network, and each protection taken away from it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.attack import catalogue
from modelward.attack.catalogue import BASELINE
from modelward.attack.exchange import Asking, Finding, Reply, Request, SpentError, Steps
from modelward.attack.oracle import Oracle
from modelward.attack.report import SecurityTestReport
from modelward.attack.suite import EndedError, run_suite
from modelward.attack.target import Callers, Rows, Target
from tests.unit.attack.service import Clock, Service, driver, linear, ordinary, problem, target

KINDS = ordinary()


OTHERS = ordinary(seed=2)
KNOWN = {tuple(row) for row in np.vstack([KINDS, OTHERS]).tolist()}


def strange(row: np.ndarray) -> bool:
    """Whether an attack has made it: the detector that all detectors would like to be."""
    return tuple(row.tolist()) not in KNOWN


def run(service: Service, *ids: str, to: Target | None = None, **budget: Any) -> SecurityTestReport:
    attacks = [one for one in BASELINE if not ids or one.id in ids]
    return run_suite("baseline", attacks, to or target(), driver(service, **budget), "https://model.example:8443")


def outcomes(report: SecurityTestReport) -> dict[str, str]:
    return {attack.id: attack.outcome for attack in report.attacks}


def test_a_protected_model_withstands_all() -> None:
    """The stand-in refuses by schema, caller and what is strange; nothing of the suite gets anywhere."""
    report = run(Service(watched=strange, any_purpose=False), to=target(purpose="diagnosis"))
    ended = outcomes(report)
    assert {id_ for id_, outcome in ended.items() if outcome == "Skipped"} == {"input.identifiers"}
    assert {id_: outcome for id_, outcome in ended.items() if outcome not in ("Withstood", "Skipped")} == {}
    assert report.outcome == "Passed"
    assert report.requests <= 2000


WEAK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("bypass.no-token", {"anonymous": True}),
    ("bypass.garbage-token", {"any_token": True}),
    ("bypass.alg-none", {"unsigned": True}),
    ("bypass.forged-token", {"unsigned": True}),
    ("bypass.changed-claims", {"unsigned": True}),
    ("bypass.stranger", {"any_caller": True}),
    ("bypass.purpose", {"any_purpose": True}),
    ("bypass.spoofed-identity", {"trusts": "x-forwarded-user"}),
    ("bypass.path", {"loose_paths": True}),
    ("bypass.override", {"overrides": True}),
    ("bypass.undeclared-model", {"any_model": True}),
    ("bypass.admin", {"admin": True}),
    ("bypass.smuggling", {"ambiguous": True}),
    ("bypass.smuggling", {"second_answer": True}),
    ("bypass.plain-http", {"plain": True}),
    ("bypass.old-tls", {"old_tls": True}),
    ("bypass.model-port", {"model_open": True}),
    ("input.undeclared", {"lax": True}),
    ("input.not-a-number", {"lax": True}),
    ("input.out-of-range", {"lax": True}),
    ("input.shape", {"lax": True}),
    ("input.unreadable", {"echoes": True}),
    ("input.unreadable", {"traces": True}),
    ("input.deep", {"breaks": True}),
    ("input.oversized", {"lax": True}),
    ("rate.limit", {"per_window": None}),
    ("extraction.synthetic", {}),
    ("extraction.augmented", {}),
)


@pytest.mark.parametrize(("id_", "weakness"), WEAK, ids=[f"{id_}-{next(iter(weak), '')}" for id_, weak in WEAK])
def test_each_attack_succeeds_where_its_protection_is_missing(id_: str, weakness: dict[str, Any]) -> None:
    report = run(Service(**weakness), id_, to=target(purpose="diagnosis"))
    (attack,) = report.attacks
    assert attack.outcome == "Succeeded", attack.evidence
    assert attack.fix
    assert report.outcome == ("Failed" if attack.severity != "low" else "Passed")


def test_a_model_whose_border_hugs_the_rows_is_turned() -> None:
    narrow = Service(model=lambda row: float(np.abs(row - [7.0, 3.0, 6.0, 4.0]).max() < 1.6))
    (attack,) = run(narrow, "evasion.boundary").attacks
    assert attack.outcome == "Succeeded", attack.evidence
    assert attack.measure is not None
    assert attack.measure > 0.2


def test_a_model_that_remembers_its_rows_tells_them() -> None:
    seen = {tuple(row) for row in KINDS.tolist()}

    def overfit(row: np.ndarray) -> float:
        return float(np.clip(linear(row), 0.01, 0.99)) if tuple(row.tolist()) in seen else 0.3 + 0.4 * linear(row)

    (attack,) = run(Service(model=overfit), "membership.confidence").attacks
    assert attack.outcome == "Succeeded", attack.evidence
    assert attack.measure is not None
    assert attack.measure > 0.9
    assert outcomes(run(Service(), "membership.confidence")) == {"membership.confidence": "Withstood"}


def test_labels_alone_tell_members_where_the_truth_is_known() -> None:
    truth = np.array([str(int(linear(row) >= 0.5)) for row in KINDS])
    others = ordinary(seed=2)
    wrong = np.array([str(int(linear(row) < 0.5)) for row in others])
    asked = target(data=Rows(KINDS, truth), holdout=Rows(others, wrong))
    assert outcomes(run(Service(scores=False), "membership.confidence", to=asked)) == {
        "membership.confidence": "Succeeded"
    }
    assert outcomes(run(Service(scores=False), "membership.confidence")) == {"membership.confidence": "Skipped"}


def test_a_backdoor_is_found() -> None:
    mark = float(np.quantile(KINDS[:, 2], 0.98))
    (attack,) = run(Service(model=lambda row: 1.0 if row[2] == mark else linear(row)), "backdoor.trigger").attacks
    assert attack.outcome == "Succeeded", attack.evidence
    assert outcomes(run(Service(), "backdoor.trigger")) == {"backdoor.trigger": "Withstood"}


def test_what_is_not_given_is_skipped_with_what_would_help() -> None:
    bare = target(data=None, holdout=None, layout=None, callers=Callers(), stranger=None, model_port=False)
    report = run(Service(anonymous=True), to=bare)
    skipped = {attack.id: attack.evidence for attack in report.attacks if attack.outcome == "Skipped"}
    assert "--token-file" in skipped["bypass.alg-none"]
    assert "--stranger-token-file" in skipped["bypass.stranger"]
    assert "--model-port" in skipped["bypass.model-port"]
    assert "-f" in skipped["input.shape"]
    assert "--data" in skipped["evasion.boundary"]


@pytest.mark.parametrize(
    ("service", "told"),
    [
        (lambda _: problem(401, "unauthenticated"), "--token-file"),
        (lambda _: problem(403, "forbidden"), "--purpose"),
        (lambda _: problem(404, "not-found"), "--model"),
        (lambda _: Reply(502), "502"),
        (lambda _: Reply(trouble="refused"), "connections"),
    ],
)
def test_nothing_is_said_of_what_an_honest_caller_cannot_ask(service: Any, told: str) -> None:
    """A service that refuses everybody withstands everything, and shows nothing."""
    with pytest.raises(EndedError, match=told):
        run_suite("baseline", BASELINE, target(), driver(service), "https://model.example")


def test_without_a_caller_what_nobody_may_do_is_tried_and_the_rest_is_said_to_be_open() -> None:
    report = run(Service(), to=target(callers=Callers(), stranger=None))
    ended = outcomes(report)
    assert ended["bypass.no-token"] == ended["bypass.path"] == "Withstood"
    assert ended["input.shape"] == ended["evasion.boundary"] == ended["rate.limit"] == "Skipped"
    assert report.outcome == "Errored"
    assert "--token-file" in report.note
    weak = run(Service(plain=True), to=target(callers=Callers(), stranger=None))
    assert weak.outcome == "Failed"


def test_tokens_as_the_issuer_would_give_them_are_made_up_without_one() -> None:
    claims = {"iss": "https://login.example", "aud": "m", "sub": "a", "exp": 4_102_444_800}
    report = run(Service(unsigned=True), "bypass.alg-none", to=target(callers=Callers(), issued=(claims,)))
    assert outcomes(report) == {"bypass.alg-none": "Succeeded"}


def test_a_caller_who_is_held_shows_nothing_of_inputs() -> None:
    """A refusal of everything is none of what was sent."""
    one = target(callers=Callers(("good-1",)), data=None)
    service = Service(watched=lambda _: True, holds_after=1)
    ended = outcomes(run(service, to=one))
    assert ended["input.shape"] == ended["rate.limit"] == "Inconclusive"
    assert ended["bypass.no-token"] == "Withstood"


@pytest.mark.parametrize(("watched", "outcome"), [(lambda _: True, "Withstood"), (None, "Succeeded")])
def test_without_data_noise_within_the_declared_bounds_is_asked(watched: Any, outcome: str) -> None:
    """As a Job does, which has the manifest alone; what is ordinary may be refused there, and noise with it."""
    report = run(Service(watched=watched), "extraction.synthetic", to=target(data=None, holdout=None))
    assert outcomes(report) == {"extraction.synthetic": outcome}


@pytest.mark.parametrize("data", [True, False])
def test_a_model_whose_answers_nobody_can_compare_has_not_passed(data: bool) -> None:
    """What is granted is not refused, though nothing can be made of it."""
    service = Service(watched=None)

    def send(request: Request) -> Reply:
        reply = service(request)
        return Reply(200, {}, b'{"outputs": "yes"}') if reply.good and request.method == "POST" else reply

    to = target() if data else target(data=None, holdout=None)
    report = run_suite("baseline", BASELINE, to, driver(send), "https://model.example")
    ended = outcomes(report)
    assert ended["extraction.synthetic"] == "Inconclusive"
    assert ended["input.shape"] == ended["bypass.no-token"] == ended["rate.limit"] == "Withstood"
    assert report.outcome == "Errored"
    assert "in a form that can be compared" in report.note
    assert "attacks of the family extraction came to no conclusion" in report.note


def test_a_caller_who_may_hardly_ask_shows_nothing_of_the_model() -> None:
    """An owner whose only rule has such a rate would pass by what is refused to nobody in particular."""
    service, left = Service(), [3]

    def send(request: Request) -> Reply:
        reply = service(request)
        if reply.status in (401, 403) or request.channel != "endpoint" or request.raw is not None:
            return reply
        left[0] -= 1
        return reply if left[0] >= 0 else problem(429, "rate-limited", {"retry-after": "3600"})

    to = target(data=None, holdout=None, rate_limit=(3, 3600.0))
    report = run_suite("baseline", BASELINE, to, driver(send, seconds=900.0), "https://model.example")
    assert outcomes(report)["bypass.no-token"] == "Withstood"
    assert report.outcome == "Errored"
    assert "of the family input came to no conclusion (input." in report.note
    assert "the rate limit lets no more through" in report.note


@pytest.mark.parametrize(
    ("service", "given"),
    [
        (Service(watched=lambda _: True), {}),  # the middle of the bounds is strange to the detectors
        (Service(watched=lambda _: True, holds_after=5), {}),  # and brings who sends it into quarantine
        (Service(model=lambda _: 0.01), {}),  # almost all is of one class
        (Service(per_window=None, watched=lambda _: True), {"rate_limit": (100_000, 60.0)}),
    ],
    ids=["watched", "quarantine", "one class", "high rate"],
)
def test_what_a_job_without_data_cannot_tell_of_a_sound_model_is_skipped(service: Service, given: Any) -> None:
    """Else it would never serve."""
    callers = Callers(tuple(f"good-{number}" for number in range(6)))
    report = run(service, to=target(data=None, holdout=None, callers=callers, **given))
    assert report.outcome == "Passed", (report.note, outcomes(report))


def test_the_next_caller_goes_on_where_one_is_held() -> None:
    two = target(callers=Callers(("good-1", "good-2")))
    service = Service(watched=strange, holds_after=5)
    report = run(service, "extraction.synthetic", "extraction.augmented", to=two)
    assert outcomes(report) == {"extraction.synthetic": "Withstood", "extraction.augmented": "Withstood"}
    assert two.callers.current == 1
    one = target(callers=Callers(("good-1",)))
    report = run(Service(watched=strange, holds_after=5), "extraction.synthetic", "extraction.augmented", to=one)
    assert sorted(outcomes(report).values()) == ["Inconclusive", "Withstood"]
    assert "--token-file" in next(one.evidence for one in report.attacks if one.outcome == "Inconclusive")


def test_an_endpoint_that_goes_away_ends_the_suite() -> None:
    service = Service()
    left = [60]

    def send(request: Request) -> Reply:
        left[0] -= 1
        return service(request) if left[0] > 0 else Reply(trouble="refused")

    report = run_suite("baseline", BASELINE, target(), driver(send), "https://model.example")
    assert report.outcome == "Errored"
    assert report.note
    assert report.attacks[-1].outcome == "Skipped"


def cut(service: Service, answers: int, then: Reply, until: int = 1 << 30) -> Callable[[Request], Reply]:
    """The service, with another answer in the place of all after so many, until there were so many."""
    sent = 0

    def send(request: Request) -> Reply:
        nonlocal sent
        sent += 1
        return then if answers < sent <= until and request.channel == "endpoint" else service(request)

    return send


@pytest.mark.parametrize(
    "then", [Reply(502), Reply(503), Reply(504), Reply(trouble="timeout")], ids=lambda one: one.told
)
def test_a_model_that_is_down_withstands_nothing_and_falls_to_nothing(then: Reply) -> None:
    """What nobody was there to refuse was not refused, and what a gateway says of that is no hole."""
    asked = (one for one in BASELINE if one.id not in ("bypass.plain-http", "bypass.old-tls", "bypass.model-port"))
    report = run_suite("baseline", list(asked), target(), driver(cut(Service(), 13, then)), "https://model.example")
    ended = outcomes(report)
    assert set(ended.values()) <= {"Inconclusive", "Skipped"}, ended
    assert report.outcome == "Errored"


def test_what_was_not_answered_for_a_while_is_said_of_those_attacks_alone() -> None:
    which = [one for one in BASELINE if one.id in ("bypass.no-token", "bypass.garbage-token", "bypass.stranger")]
    report = run_suite("baseline", which, target(), driver(cut(Service(), 13, Reply(503), 17)), "https://model.example")
    assert list(outcomes(report).values()) == ["Inconclusive", "Withstood", "Withstood"]
    assert "4 of 4 requests were not answered" in report.attacks[0].evidence
    assert (report.outcome, report.note) == ("Errored", "attacks that were not answered: 1; is the model ready?")


def test_an_input_that_brings_the_model_down_is_found_though_nothing_is_answered_after_it() -> None:
    service = Service()
    down: list[Request] = []

    def send(request: Request) -> Reply:
        if (request.body or b"").startswith(b'{"inputs": [[[['):
            down.append(request)
        return Reply(502) if down else service(request)

    which = [one for one in BASELINE if one.id in ("input.deep", "input.oversized")]
    report = run_suite("baseline", which, target(), driver(send), "https://model.example")
    assert outcomes(report) == {"input.deep": "Succeeded", "input.oversized": "Inconclusive"}


_ODD = st.recursive(
    st.sampled_from([0, -1, 1.5, math.inf, math.nan, 10**400, 1 << 70, "x", "1e999", None, True, {}]),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
_OUTPUT = st.fixed_dictionaries(
    {
        "name": st.just("y"),
        "datatype": st.sampled_from(["INT64", "FP64", "BYTES", "BOOL", None]),
        "shape": st.sampled_from([[1], [1, 1], [1, 2], [math.inf], ["1"], [-1]]) | _ODD,
        "data": st.lists(_ODD, min_size=1, max_size=2) | _ODD,
    }
)


@given(st.lists(_OUTPUT, min_size=1, max_size=2), st.lists(_OUTPUT, min_size=1, max_size=2))
def test_whatever_a_model_answers_is_an_answer_or_none(first: list[Any], then: list[Any]) -> None:
    oracle, bodies = Oracle(target()), itertools.cycle([{"outputs": first}, {"outputs": first}, {"outputs": then}])
    for steps in (oracle.learn(), oracle.ask(KINDS[0] + 0.25)):
        with suppress(StopIteration):
            next(steps)
            while True:
                steps.send(Reply(200, {}, json.dumps(next(bodies)).encode()))
    assert all(answer.given for answer in oracle.known.values())


def test_a_retry_after_that_is_no_number_is_a_second() -> None:
    replies = iter([problem(429, "rate-limited", {"retry-after": "\xb2"}), Reply(200)])
    clock = Clock()
    sends = driver(lambda _: next(replies), clock)

    def asks() -> Asking[Reply]:
        reply: Reply = yield target().get("/")
        return reply

    assert sends.ask(asks(), "").status == 200
    assert clock.waited[0] == 1.0


@pytest.mark.parametrize("requests", [60, 200, 700])
def test_no_more_is_sent_than_the_budget_says(requests: int) -> None:
    service = Service(watched=strange)
    report = run(service, requests=requests)
    assert report.requests == len(service.requests) <= requests


def test_requests_keep_to_the_rate_and_wait_out_its_limit() -> None:
    clock = Clock()
    began = clock.now
    service = Service(per_window=100)
    sends = driver(service, clock, requests=400, per_second=10.0)
    report = run_suite(
        "baseline", [one for one in BASELINE if one.asks_as == "rows"], target(), sends, "https://model.example"
    )
    assert clock.now - began >= (report.requests - 1) / 10
    assert sum(1 for seconds in clock.waited if math.isclose(seconds, 7.05)) == sends.limited > 0


def test_the_same_seed_sends_the_same() -> None:
    first, second, other = Service(), Service(), Service()
    run(first, requests=500)
    run(second, requests=500)
    assert first.requests == second.requests
    run(other, to=target(seed=1), requests=500)
    assert first.requests != other.requests


def test_an_attack_that_knows_enough_ends_with_what_it_has() -> None:
    def attack(target: Target) -> Steps:
        sent = 0
        try:
            while True:
                yield target.get("/v2")
                sent += 1
        except SpentError:
            return Finding("Withstood", f"{sent}")

    assert driver(Service(), requests=100).drive(attack(target()), "", 0.1) == Finding("Withstood", "10")


def test_the_catalogue_is_whole() -> None:
    ids = [attack.id for attack in BASELINE]
    assert len(set(ids)) == len(ids)
    assert {id_ for id_, _ in WEAK} | {
        "evasion.boundary", "membership.confidence", "backdoor.trigger", "input.identifiers",
    } == set(ids)  # fmt: skip
    for attack in BASELINE:
        assert attack.title
        assert attack.tries.endswith(".")
        assert attack.fix.endswith(".")
        assert attack.frameworks
    assert catalogue.SUITES["baseline"] is BASELINE


def test_no_report_holds_a_value_or_a_token() -> None:
    report = run(Service(lax=True, echoes=True, anonymous=True), requests=1000)
    told = " ".join(attack.evidence for attack in report.attacks)
    for value in {repr(number) for number in KINDS.reshape(-1).tolist()}:
        assert value not in told
    assert "c2lnbmF0dXJl" not in told


@pytest.mark.parametrize("slug", ["model-refused", "model-failed"])
def test_who_gets_an_error_of_the_models_was_let_in(slug: str) -> None:
    assert problem(500, slug).let_in
    assert not problem(401, "unauthenticated").let_in
