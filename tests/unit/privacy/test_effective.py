from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.privacy.effective import choices, mistakes, targets
from modelward.privacy.hierarchy import HierarchyError
from modelward.privacy.spec import Treatment

HOLDER = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="
INPUTS = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "radius"]},
    {"name": "patient", "datatype": "BYTES", "shape": [-1], "columns": [], "role": "Identifier"},
    {"name": "visit", "datatype": "BYTES", "shape": [-1]},
]


def policy(*fields: dict[str, Any], name: str = "p", **spec: Any) -> dict[str, Any]:
    return {"kind": "DataPolicy", "metadata": {"name": name}, "spec": {"fields": list(fields), **spec}}


def chosen(*policies: dict[str, Any]) -> dict[str, Treatment]:
    found = choices(policies, INPUTS, {"ages": "39;30-39;*\n"}.get)
    return {name: choice.treatment for name, choice in found.items()}


def test_the_strictest_of_several_policies_wins_whatever_their_order() -> None:
    one = policy(
        {"name": "age", "treatment": "Generalise", "step": 5},
        {"name": "patient", "treatment": "Pseudonymise"},
        {"name": "radius"},
    )
    other = policy(
        {"name": "age", "treatment": "Round", "digits": -1},
        {"name": "patient", "treatment": "Keep"},
        {"name": "radius", "treatment": "Keep"},
        name="q",
    )
    assert chosen(one, other) == chosen(other, one)
    assert chosen(one, other) == {"age": Treatment("Round", digits=-1), "patient": Treatment("Pseudonymise")}
    assert choices([one, other], INPUTS, lambda _: None)["age"].policy["metadata"]["name"] == "q"


FIELD = st.fixed_dictionaries(
    {"name": st.sampled_from(["age", "patient", "x"])},
    optional={
        "treatment": st.sampled_from(["Keep", "Drop", "Pseudonymise", "Mask", "Round"]),
        "digits": st.integers(-3, 3),
        "keepLast": st.integers(0, 4),
    },
).filter(lambda one: one.get("treatment") != "Round" or "digits" in one)  # the API server's schema refuses others


@given(st.lists(st.lists(FIELD, max_size=3, unique_by=lambda one: one["name"]), max_size=4), st.randoms())
def test_another_policy_never_weakens_a_treatment(fields: list[list[dict[str, Any]]], random: Any) -> None:
    policies = [policy(*one) for one in fields]
    everything = chosen(*policies)
    shuffled = policies[:]
    random.shuffle(shuffled)
    assert chosen(*shuffled) == everything
    for some in ([one] for one in policies):
        for name, treatment in chosen(*some).items():
            assert everything[name].strictness >= treatment.strictness


def test_parameters_come_along_and_no_others() -> None:
    found = chosen(
        policy(
            {"name": "a", "treatment": "Generalise", "hierarchy": "ages", "level": 1, "keepLast": 3},
            {"name": "b", "treatment": "Mask", "keepLast": 4, "edges": [1]},
            {"name": "c", "treatment": "Bucket", "edges": [1, 2]},
            {"name": "e", "treatment": "Mask", "identifiers": True, "keepLast": 4},
            {"name": "d", "treatment": "Tokenise"},
            {"name": "patient", "role": "Identifier", "treatment": "Drop"},
            {"name": "visit", "treatment": "DateShift", "maxDays": 3},
            tokenRecipient=HOLDER,
        )
    )
    assert found == {
        "a": Treatment("Generalise", groups={"39": "30-39"}),
        "b": Treatment("Mask", keep_last=4),
        "c": Treatment("Bucket", edges=(1, 2)),
        "e": Treatment("Mask", identifiers=True),
        "d": Treatment("Tokenise", recipient=HOLDER),
        "patient": Treatment("Drop"),
        "visit": Treatment("DateShift", max_days=3, subject="patient"),
    }


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ([], "patient"),
        ([{"name": "age", "role": "Identifier"}], "age"),
        ([{"name": "stranger", "role": "Identifier"}], "patient"),
    ],
)
def test_the_subject_of_a_date_is_the_first_identifier_there(fields: list[dict[str, Any]], subject: str) -> None:
    found = chosen(policy(*fields, {"name": "visit", "treatment": "DateShift", "maxDays": 3}))
    assert found["visit"].subject == subject


def test_a_hierarchy_that_cannot_be_used_is_told_with_its_place() -> None:
    asked = policy({"name": "a", "treatment": "Generalise", "hierarchy": "ages", "level": 9})
    with pytest.raises(HierarchyError, match=r"spec\.fields\[0\]\.hierarchy ages: the hierarchy has the levels 1 to 2"):
        chosen(asked)


def test_a_column_gets_the_stricter_of_its_own_and_its_tensors_treatment() -> None:
    whole, own = Treatment("Round", digits=0), Treatment("Generalise", step=5)
    assert targets({"x": whole, "age": own}, "x", ["age", "radius"]) == [(0, "age", own), (1, "radius", whole)]
    assert targets({"age": own}, "x", ["age", "radius"]) == [(0, "age", own)]
    assert targets({"x": whole}, "x", []) == [(None, "x", whole)]
    drop = Treatment("Drop")
    assert targets({"x": drop, "age": own}, "x", ["age"]) == [(None, "x", drop)]
    assert targets({}, "x", ["age"]) == []


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"name": "age", "treatment": "Pseudonymise"}, "input x.age: Pseudonymise gives text and the column is FP64"),
        ({"name": "x", "treatment": "Mask"}, "input x.age: Mask gives text"),
        ({"name": "patient", "treatment": "Tokenise"}, "input patient: Tokenise lacks a key holder"),
        ({"name": "visit", "treatment": "DateShift", "maxDays": 1, "subject": "z"}, "subject z, which is no input"),
        ({"name": "score", "treatment": "Pseudonymise"}, "output score: Pseudonymise gives text"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_place_and_fix(field: dict[str, Any], told: str) -> None:
    outputs = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    found = mistakes([policy(field)], INPUTS, outputs)
    assert found
    assert told in found[0].message
    assert found[0].field == "spec.fields[0]"


def test_what_can_be_done_is_no_mistake() -> None:
    fields = [
        {"name": "age", "treatment": "Bucket", "edges": [0, 18]},
        {"name": "patient", "treatment": "Pseudonymise"},
        {"name": "visit", "treatment": "DateShift", "maxDays": 1},
        {"name": "stranger", "treatment": "Tokenise"},
    ]
    assert mistakes([policy(*fields)], INPUTS, []) == []
    assert mistakes([policy({"name": "age"})], [], []) == []


def test_a_model_that_would_get_nothing_is_told() -> None:
    fields = [{"name": one["name"], "treatment": "Drop"} for one in INPUTS]
    (found,) = mistakes([policy(*fields)], INPUTS, [])
    assert "every input is dropped" in found.message


def test_fields_of_a_model_that_declares_nothing_cannot_be_found() -> None:
    (found,) = mistakes([policy({"name": "ssn", "treatment": "Drop"})], [], [])
    assert "spec.schema.inputs declares nothing" in found.message


def test_two_policies_may_not_seal_to_different_people() -> None:
    field = {"name": "patient", "treatment": "Tokenise"}
    found = mistakes([policy(field, tokenRecipient=HOLDER), policy(field, tokenRecipient=HOLDER.lower())], INPUTS, [])
    assert any("another key holder" in one.message for one in found)
    assert mistakes([policy(field, tokenRecipient=HOLDER), policy(field, tokenRecipient=HOLDER)], INPUTS, []) == []
