from __future__ import annotations

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.sidecar import config
from modelward.sidecar.access import EXACT, Access, RateLimiter
from modelward.sidecar.caller import Caller, from_certificate, purpose_from_header
from modelward.sidecar.problems import Refusal


def access(*rules: dict, **more: object) -> Access:
    document = json.dumps({"rules": list(rules)} | more).encode()
    return Access(msgspec.json.decode(document, type=config.Access))


def caller(*subjects: str, name: str = "user:a", issuer: str = "i") -> Caller:
    return Caller(name=name, issuer=issuer, subjects=frozenset(subjects or {name}))


def allowed(judge: Access, who: Caller, operation: str = "Infer", purpose: str | None = None) -> bool:
    try:
        judge.authorise(who, operation, purpose)
    except Refusal as refusal:
        if refusal.problem.slug != "forbidden":
            raise
        return False
    return True


def test_no_rules_allow_nothing():
    assert not allowed(access(), caller("user:a"))


@pytest.mark.parametrize("subject", ["user:a", "group:g", "serviceaccount:ns/sa", "san:x"])
def test_any_of_the_callers_subjects_fits(subject):
    judge = access({"subjects": ["user:other", subject], "operations": ["Infer"]})
    assert allowed(judge, caller("user:z", subject))
    assert not allowed(judge, caller("user:z"))


def test_only_a_whole_star_stands_for_anyone():
    assert allowed(access({"subjects": ["*"], "operations": ["Infer"]}), caller("user:whoever"))
    for pattern in ("user:*", "group:*", "**", "user:wh*"):
        assert not allowed(access({"subjects": [pattern], "operations": ["Infer"]}), caller("user:whoever"))


def test_operation_and_purpose_must_both_fit():
    judge = access({"subjects": ["user:a"], "operations": ["Infer"], "purposes": ["care", "audit"]})
    assert allowed(judge, caller("user:a"), purpose="care")
    assert not allowed(judge, caller("user:a"), purpose="marketing")
    assert not allowed(judge, caller("user:a"))
    assert not allowed(judge, caller("user:a"), "Metadata", "care")


def test_a_rule_without_purposes_asks_for_none():
    judge = access({"subjects": ["user:a"], "operations": ["Infer"]})
    assert allowed(judge, caller("user:a"), purpose="whatever")


def test_the_first_rule_that_fits_decides():
    judge = access(
        {"subjects": ["user:a"], "operations": ["Infer"], "rateLimit": {"requests": 1, "seconds": 60}},
        {"subjects": ["*"], "operations": ["Infer"]},
    )
    judge.authorise(caller("user:a"), "Infer", None)
    with pytest.raises(Refusal) as refused:
        judge.authorise(caller("user:a"), "Infer", None)
    assert refused.value.problem.slug == "rate-limited"
    assert b"retry-after: 60" in refused.value.headers
    assert allowed(judge, caller("user:b"))


def test_members_of_a_group_have_a_budget_each_and_so_has_each_issuer():
    judge = access({"subjects": ["group:g"], "operations": ["Infer"], "rateLimit": {"requests": 1, "seconds": 60}})
    for who in (caller("group:g", name="user:a"), caller("group:g", name="user:b"), caller("group:g", issuer="j")):
        judge.authorise(who, "Infer", None)
        with pytest.raises(Refusal):
            judge.authorise(who, "Infer", None)


SUBJECTS = ["*", "user:a", "user:b", "group:g", "serviceaccount:n/s", "san:x"]
OPERATIONS = ["Infer", "Metadata", "Explain"]
PURPOSES = ["care", "audit"]
RULES = st.fixed_dictionaries(
    {
        "subjects": st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=3),
        "operations": st.lists(st.sampled_from(OPERATIONS), min_size=1, max_size=3),
        "purposes": st.lists(st.sampled_from(PURPOSES), max_size=2),
    }
)


@given(
    rules=st.lists(RULES, max_size=5),
    asked=st.lists(
        st.tuples(
            st.frozensets(st.sampled_from(SUBJECTS[1:]), min_size=1),
            st.sampled_from(OPERATIONS),
            st.sampled_from([*PURPOSES, "other", None]),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_rules_say_what_they_say(rules, asked):
    """Subject, operation and purpose, all three in one and the same rule; asked twice, since answers are remembered."""
    judge = access(*rules)
    for subjects, operation, purpose in asked:
        who = Caller(name="user:a", issuer="i", subjects=subjects)
        expected = any(
            ("*" in rule["subjects"] or subjects & set(rule["subjects"]))
            and operation in rule["operations"]
            and (not rule["purposes"] or purpose in rule["purposes"])
            for rule in rules
        )
        assert allowed(judge, who, operation, purpose) == expected
        assert allowed(judge, who, operation, purpose) == expected


def test_invented_purposes_do_not_fill_the_memory():
    judge = access({"subjects": ["user:a"], "operations": ["Infer"], "purposes": ["care"]})
    who = caller("user:a")
    for number in range(1000):
        assert not allowed(judge, who, purpose=f"made-up-{number}")
    assert len(who.matches) == 1


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 3, allow_nan=False), max_size=60),
)
def test_never_more_than_the_limit_in_any_window_and_never_less(requests, waits):
    now = [0.0]
    limiter = RateLimiter(requests, 5.0, clock=lambda: now[0])
    taken: list[float] = []
    for wait in waits:
        now[0] += wait
        inside = [at for at in taken if at > now[0] - 5.0]
        answer = limiter.wait("k")
        assert (answer == 0.0) == (len(inside) < requests)
        if answer == 0.0:
            taken.append(now[0])
        else:
            assert inside[0] + 5.0 - now[0] == pytest.approx(answer)


@given(st.integers(0, 2**32 - 1))
def test_large_limits_hold_in_every_window_with_bounded_memory(seed):
    chance = random.Random(seed)
    requests, seconds = EXACT * 2, 10.0
    now = [0.0]
    limiter = RateLimiter(requests, seconds, clock=lambda: now[0])
    taken: list[float] = []
    for _ in range(5000):
        now[0] += chance.expovariate(requests / seconds * 1.5)
        if limiter.wait("k") == 0.0:
            taken.append(now[0])
    first = 0
    for last, at in enumerate(taken):
        while taken[first] <= at - seconds:
            first += 1
        assert last - first + 1 <= requests
    assert len(taken) >= min(requests, 5000) * 0.95
    assert len(limiter._windows["k"]._until) <= EXACT + 2


def test_the_callers_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("modelward.sidecar.access.MAX_LIMITED_CALLERS", 3)
    limiter = RateLimiter(1, 60)
    for key in "abcde":
        assert limiter.wait(key) == 0.0
    assert len(limiter._windows) == 3
    assert limiter.wait("e") > 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (b"diagnosis", "diagnosis"),
        (b"care/second-opinion", "care/second-opinion"),
        (b"", None),
        (b"a b", None),
        (b"a\xff", None),
        (b"x" * 65, None),
        (b"-a", None),
    ],
)
def test_a_purpose_is_a_plain_word(value, expected):
    assert purpose_from_header(value) == expected


def test_a_certificate_is_its_alternative_names():
    certificate = {
        "subject": ((("commonName", "root"),),),
        "subjectAltName": (("DNS", "a.b"), ("URI", "spiffe://x"), ("email", "a@b.c"), ("IP Address", "1.2.3.4")),
        "notAfter": "Jan  1 00:00:00 2030 GMT",
    }
    who = from_certificate(certificate)
    assert who is not None
    assert who.subjects == {"san:a.b", "san:spiffe://x", "san:a@b.c"}
    assert who.expires == 1893456000
    assert from_certificate({"subject": certificate["subject"]}) is None


@pytest.mark.parametrize(
    "name", ["security-test.modelward.internal", "controller.modelward.internal", "X.Modelward.Internal"]
)
def test_modelwards_own_certificates_open_a_connection_and_make_nobody_a_caller(name: str) -> None:
    assert from_certificate({"subjectAltName": (("DNS", name),)}) is None


def test_a_certificate_that_expires_during_a_connection_counts_no_more():
    judge = Access(config.Access(), clock=lambda: 100.0)
    who = Caller(name="san:x", issuer="client-certificate", subjects=frozenset({"san:x"}), expires=99.0)
    with pytest.raises(Refusal) as refused:
        judge.authenticate(None, who)
    assert refused.value.reason == "certificate-expired"
