from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given

from modelward.api.validate import SchemaError, canonical, parse
from tests.corpus import POLICIES, good, policy
from tests.unit.api.test_manifest import VALUES


def problems(spec: Any) -> list[str]:
    with pytest.raises(SchemaError) as error:
        parse({**good(), "spec": spec})
    return [str(problem) for problem in error.value.problems]


def test_what_is_good_parses_and_is_stable() -> None:
    for manifest in (good(), *(policy(spec) for spec in POLICIES.values())):
        once = canonical(parse(manifest))
        assert canonical(parse(once)) == once


@given(VALUES)
def test_any_spec_is_parsed_or_refused_with_a_place(spec: Any) -> None:
    with contextlib.suppress(SchemaError):
        parse({**good(), "spec": spec})


def test_an_unknown_field_is_named_with_what_was_meant() -> None:
    assert problems({"model": {"image": "x", "comand": []}}) == [
        "spec.model.comand: unknown field; did you mean command?"
    ]


def test_every_problem_is_told_at_once() -> None:
    found = problems({"model": {"port": 80, "protocol": "v9"}, "replicas": "2"})
    assert {item.split(":", 1)[0] for item in found} == {
        "spec.model.image",
        "spec.model.port",
        "spec.model.protocol",
        "spec.replicas",
    }


def test_a_version_without_quotes_is_understood_as_the_mistake_it_is() -> None:
    (found,) = problems({"model": {"image": "x"}, "encryption": {"inTransit": {"minVersion": 1.3}}})
    assert found.startswith("spec.encryption.inTransit.minVersion: 1.3 is not one of")


@pytest.mark.parametrize(
    "spec", [{}, {"model": {"image": "x"}, "targetRef": {"apiVersion": "batch/v1", "kind": "Job", "name": "c"}}]
)
def test_exactly_one_of_model_and_target(spec: dict[str, Any]) -> None:
    (found,) = problems(spec)
    assert "exactly one of spec.model" in found


def test_a_kind_that_is_not_ours_is_told() -> None:
    with pytest.raises(SchemaError, match="is not served: write modelward"):
        parse({"apiVersion": "modelward.io/v1beta9", "kind": "ModelDeployment", "metadata": {}, "spec": {}})


def test_a_name_that_cannot_become_a_label_is_refused() -> None:
    with pytest.raises(SchemaError, match=r"50 characters at most"):
        parse({**good(), "metadata": {"name": "a.b"}})


def test_a_name_that_no_service_may_have_is_refused() -> None:
    """Before Kubernetes 1.34 a Service's name begins with a letter: all but the Service would be made."""
    with pytest.raises(SchemaError, match=r"begins with a letter"):
        parse({**good(), "metadata": {"name": "3d-scan"}})


def test_metadata_of_the_api_server_is_kept() -> None:
    manifest = good()
    manifest["metadata"].update(
        uid="1", generation=3, managedFields=[{"manager": "kubectl"}], creationTimestamp=None, finalizers=["x"]
    )
    kept = canonical(parse(manifest))["metadata"]
    assert kept["managedFields"] == [{"manager": "kubectl"}]
    assert kept["finalizers"] == ["x"]
    assert "creationTimestamp" not in kept


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("2027-03-31T00:00:00Z", True),
        ("2027-03-31T00:00:00.5+02:00", True),
        ("2027-03-31", False),
        ("2027-02-30T00:00:00Z", False),
        ("2027-03-31T00:00:00", False),
        ("2027-03-31t00:00:00z", False),
        ("2027-03-31T00:00:00+25:00", False),
        ("soon", False),
    ],
)
def test_times_are_those_of_rfc_3339(text: str, accepted: bool) -> None:
    manifest = policy({"exceptions": [{"reason": "r", "approvedBy": "a", "expires": text}]})
    if accepted:
        parse(manifest)
        return
    with pytest.raises(SchemaError, match=r"spec.exceptions\[0\].expires: .* is not a time"):
        parse(manifest)


@pytest.mark.parametrize(("quantity", "accepted"), [("500m", True), (2, True), ("1.5Gi", True), ("lots", False)])
def test_quantities_are_those_of_kubernetes(quantity: str | int, accepted: bool) -> None:
    manifest = good()
    manifest["spec"]["model"]["resources"] = {"requests": {"cpu": quantity}}
    if accepted:
        parse(manifest)
        return
    with pytest.raises(SchemaError, match="is not a quantity: write it as"):
        parse(manifest)


def test_a_second_item_of_the_same_key_is_told() -> None:
    with pytest.raises(SchemaError, match=r'spec.fields\[1\]: a second one with name "a": keep one'):
        parse(policy({"fields": [{"name": "a"}, {"name": "a", "treatment": "Drop"}]}))
