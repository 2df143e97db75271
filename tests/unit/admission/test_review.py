import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.admission.review import Decision, ReviewError, decode, encode


def review(**change: Any) -> dict[str, Any]:
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "clinic",
        "userInfo": {"username": "alice"},
        "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}},
        "oldObject": None,
        "dryRun": False,
        **change,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_reads_what_the_api_server_sends():
    request = decode(encoded(review()))
    assert request.operation == "CREATE"
    assert request.who == "Pod clinic/p-"
    assert request.object == review()["request"]["object"]


def test_an_object_of_a_group_is_told_from_its_namesakes():
    kind = {"group": "modelward.io", "version": "v1alpha1", "kind": "DataPolicy"}
    item = {"apiVersion": "modelward.io/v1alpha1", "kind": "DataPolicy"}
    assert decode(encoded(review(kind=kind, object=item))).object == item
    for other in ({**item, "kind": "Pod"}, {**item, "apiVersion": "v1alpha1"}, {**item, "apiVersion": "x/v1alpha1"}):
        with pytest.raises(ReviewError, match=r"not the kind"):
            decode(encoded(review(kind=kind, object=other)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"apiVersion":',
        encoded({**review(), "apiVersion": "admission.k8s.io/v1beta1"}),
        encoded({**review(), "kind": "List"}),
        encoded({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}),
        encoded(review(uid="")),
        encoded(review(uid=7)),
        encoded(review(operation="PATCH")),
        encoded(review(object=None)),
        encoded(review(object=[])),
        encoded(review(operation="UPDATE")),
        encoded(review(dryRun="no")),
        b'{"apiVersion":' + b"[" * 100_000,
        encoded(review())[:-1],
        encoded(review()) + b"{}",
        encoded(review(object={"apiVersion": "v1", "kind": "Pod", "x": float("nan")})),
    ],
)
def test_anything_else_is_an_error_of_the_sender(body):
    with pytest.raises(ReviewError):
        decode(body)


def test_deep_nesting_ends_in_an_error_and_not_in_the_interpreter():
    deep = b'{"apiVersion":"v1","kind":"Pod","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    body = encoded(review(object="HERE")).replace(b'"HERE"', deep)
    with pytest.raises(ReviewError, match="nested"):
        decode(body)


@given(st.binary(max_size=200))
def test_bytes_never_blow_up(body):
    with pytest.raises(ReviewError):
        decode(body)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just({}) | st.just([])


@given(st.sampled_from(sorted(review()["request"])), values)
def test_a_field_of_another_type_is_read_or_refused(field, value):
    try:
        request = decode(encoded(review(**{field: value})))
    except ReviewError:
        return
    assert request.uid
    assert isinstance(request.object, dict)


def answer(decision: Decision) -> Any:
    document = json.loads(encode("u", decision))
    assert document["apiVersion"] == "admission.k8s.io/v1"
    assert document["kind"] == "AdmissionReview"
    assert document["response"]["uid"] == "u"
    return document["response"]


def test_writes_a_refusal():
    response = answer(Decision(allowed=False, message="no"))
    assert response["allowed"] is False
    assert response["status"] == {"code": 403, "reason": "Forbidden", "message": "no"}
    assert "patch" not in response


def test_writes_a_patch():
    operations = ({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}},)
    response = answer(Decision(allowed=True, patch=operations))
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"])) == list(operations)


@given(st.lists(st.text(max_size=600), max_size=40))
def test_warnings_fit_into_a_header(warnings):
    shown = answer(Decision(allowed=True, warnings=tuple(warnings))).get("warnings", [])
    assert all(len(warning) <= 256 and "\n" not in warning for warning in shown)
    assert sum(map(len, shown)) <= 4096
    assert len(shown) == len(warnings) or sum(len(w) for w in warnings) > 3500
