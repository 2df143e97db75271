"""Bodies that nobody means well with: what the fuzzer keeps, and what it would take long to find."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus import good
from tests.fuzz.admission_review import TARGET, ask, one
from tests.fuzz.mutate import mutated


@pytest.mark.parametrize("name", sorted(TARGET.seeds()))
def test_what_the_fuzzer_has_kept(name: str) -> None:
    one(TARGET.seeds()[name])


@given(st.sampled_from(sorted(TARGET.seeds().items())), st.integers(0, 2**32))
def test_a_document_changed_anywhere(seed: tuple[str, bytes], number: int) -> None:
    one(mutated(seed[1], random.Random(number)))


def body(item: Any, **change: Any) -> bytes:
    kind = {"group": "modelward.io", "version": "v1alpha1", "kind": "ModelDeployment"}
    request = {"uid": "u", "kind": kind, "operation": "CREATE", "name": "m", "namespace": "x", "object": item, **change}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


def allowed(answer: tuple[int, bytes]) -> bool | None:
    return bool(json.loads(answer[1])["response"]["allowed"]) if answer[0] == 200 else None


def test_without_a_trick_the_object_is_refused() -> None:
    """The policy of the fuzzer lets nothing pass, or the tests here would show nothing."""
    assert allowed(ask(body(good()))) is False


@pytest.mark.parametrize("depth", [10, 100, 300, 500, 700, 900, 990, 1100, 3000, 30_000])
@pytest.mark.parametrize("place", ['"metadata":{', '"labels":{', '"spec":{', '"model":{', '"request":{'])
def test_nesting_of_any_depth_is_answered(depth: int, place: str) -> None:
    deep = b'"deep":' + b'{"a":[' * depth + b"]}" * depth + b","
    text = json.dumps(json.loads(body(good())), separators=(",", ":")).encode()
    one(text.replace(place.encode(), place.encode() + deep, 1))


@pytest.mark.parametrize("key", ["object", "operation", "kind", "uid"])
def test_of_duplicate_keys_the_last_counts_as_it_does_for_the_api_server(key: str) -> None:
    first = {
        "object": "null",
        "operation": '"DELETE"',
        "kind": '{"group":"","version":"v1","kind":"Pod"}',
        "uid": '"v"',
    }
    text = body(good()).decode()
    twice = text.replace('"request": {', f'"request": {{"{key}": {first[key]}, ', 1)
    assert twice != text
    assert allowed(ask(twice.encode())) is False
    last = text.replace('"namespace": "x"', f'"namespace": "x", "{key}": {first[key]}', 1)
    one(last.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": "admission.k8s.io/v1beta1"},
        {"apiVersion": "admission.k8s.io/v2"},
        {"kind": "AdmissionReviewList"},
        {"kind": None},
        {"request": None},
        {"request": []},
    ],
)
def test_another_version_is_no_review(change: dict[str, Any]) -> None:
    document = {**json.loads(body(good())), **change}
    assert ask(json.dumps(document).encode())[0] == 400


def test_an_error_never_sends_the_body_back() -> None:
    document = json.loads(body(good()))
    for part in ("apiVersion", "kind"):
        status, answer = ask(json.dumps({**document, part: "secret" * 100_000}).encode())
        assert status == 400
        assert len(answer) < 400


@pytest.mark.parametrize("size", [0, 1, 2, 100, 1000, 1500])
def test_a_review_cut_short_is_an_error_of_the_sender(size: int) -> None:
    assert ask(body(good())[:size])[0] == 400


def test_an_object_with_a_broken_status_is_judged_all_the_same() -> None:
    """The stored status was a way to have the whole object left to its schema."""
    changed = good()
    del changed["spec"]["encryption"]
    for status in (7, {"conditions": 7}, {"conditions": [{"type": 2**70}]}, None, "x"):
        old = {**good(), "status": status}
        assert allowed(ask(body(changed, operation="UPDATE", oldObject=old))) is False
        assert allowed(ask(body({**changed, "status": status}))) is False


def test_a_number_without_room_in_cel_is_no_way_past_a_policy() -> None:
    old = good()
    old["spec"]["replicas"] = 10**400
    assert allowed(ask(body(good(), operation="UPDATE", oldObject=old))) is False
