from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.build import DECLARED, Consumed, build
from modelward.lineage.graph import Step, Use

DATA, MODEL, OTHER = (f"sha256:{digit * 64}" for digit in "abc")
STEPS = [{"what": "all", "how": "z-score", "why": "the model's input"}]


def model(name: str = "wdbc", status: dict[str, Any] | None = None, **annotations: str) -> dict[str, Any]:
    said = {f"lineage.modelward.io/{key.replace('_', '-')}": value for key, value in annotations.items()}
    inputs = [{"name": "x", "datatype": "FP64", "shape": [-1, 2], "columns": ["age", "weight"]}]
    metadata = {"name": name, "namespace": "clinic", "annotations": said}
    return {"metadata": metadata, "spec": {"schema": {"inputs": inputs}}, "status": status or {}}


def policy(name: str, *fields: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "DataPolicy",
        "metadata": {"name": name, "namespace": "clinic"},
        "spec": {"fields": list(fields), **spec},
    }


WHOLE = {
    "dataset": f"s3://clinic/wdbc.csv@{DATA}",
    "model": f"oci://registry/wdbc@{MODEL}",
    "training_run": "https://runs.example/42",
    "transformations": json.dumps(STEPS),
    "consumer": "oncology-triage",
}


def test_from_the_data_to_whoever_asks():
    graph = build([model(**WHOLE)])
    assert [(one.source, one.target) for one in graph.edges] == [
        (DATA, "run:https://runs.example/42"),
        ("run:https://runs.example/42", MODEL),
        (MODEL, "model:clinic/wdbc"),
        ("model:clinic/wdbc", "consumer:/oncology-triage"),
    ]
    assert graph.edges[0].steps == (Step("all", "z-score", "the model's input"),)
    assert graph.edges[-1].uses == (DECLARED,)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (("dataset",), [(DATA, "model:clinic/wdbc")]),
        (("dataset", "model"), [(DATA, MODEL), (MODEL, "model:clinic/wdbc")]),
        ((), []),
    ],
)
def test_what_is_not_said_is_bridged(kept, expected):
    graph = build([model(**{key: WHOLE[key] for key in kept})])
    assert [(one.source, one.target) for one in graph.edges] == expected


def test_the_blast_radius_of_a_data_set_goes_through_models_trained_on_what_others_made():
    distilled = model("small", dataset=f"x@{MODEL}", model=f"y@{OTHER}", consumer="app")
    bystander = model("bystander", dataset="z")
    reach = build([model(**WHOLE), distilled, bystander]).downstream(DATA)
    assert [one.name for one in reach.of_kind("model")] == ["clinic/small", "clinic/wdbc"]
    assert [one.name for one in reach.of_kind("consumer")] == ["app", "oncology-triage"]


def test_data_that_came_of_itself_is_named():
    one = model("one", dataset=f"a@{DATA}", model=f"b@{MODEL}")
    two = model("two", dataset=f"b@{MODEL}", model=f"a@{DATA}")
    (way,) = build([one, two]).cycles
    assert [node.id for node in way] == [DATA, MODEL, DATA]


def test_statements_link_digests_that_no_annotation_links():
    bare = "d" * 64
    graph = build([model(**WHOLE)], dependencies={MODEL: [OTHER], DATA: [bare, "sha256:short"], "nonsense": [DATA]})
    up = graph.upstream("model:clinic/wdbc")
    assert {OTHER, f"sha256:{bare}", DATA, MODEL} <= {one.id for one in up.nodes}
    assert graph.node(MODEL).kind == "artefact"
    assert graph.node(OTHER).kind == "dataset"


def test_the_strictest_treatment_of_each_field_of_the_models_own():
    loose = policy("loose", {"name": "age", "role": "QuasiIdentifier", "treatment": "Generalise", "step": 5.0})
    strict = policy(
        "strict",
        {"name": "age", "treatment": "Drop", "role": "Identifier"},
        {"name": "weight", "treatment": "Keep"},
        {"name": "height", "treatment": "Drop"},
        classification="SpecialCategory",
    )
    policies = {"DataPolicy/clinic/loose": loose, "DataPolicy/clinic/strict": strict}
    both = build([model()], policies, governing={"clinic/wdbc": list(policies)})
    (edge,) = both.edges
    assert edge.source == "policy:DataPolicy/clinic/strict"
    assert edge.steps == (Step("age", "dropped", "Identifier of SpecialCategory data"),)
    told = build([model(status={"policies": ["DataPolicy/clinic/loose", "DataPolicy/clinic/gone"]})], policies)
    assert told.edges[0].steps == (Step("age", "generalised to intervals of 5", "QuasiIdentifier"),)


def test_who_was_answered_by_the_status_and_by_the_log():
    seen = {"client": "user:lee", "issuer": "clinic", "purpose": "care", "first": "f", "last": "l", "requests": 7}
    graph = build(
        [model(status={"lineage": {"consumers": [seen, {"client": "user:ray"}]}})],
        consumed=[Consumed("clinic/wdbc", "user:lee", "clinic", Use("study", "f", "l", 2))],
    )
    assert [(one.target, one.uses) for one in graph.edges] == [
        ("consumer:clinic/user:lee", (Use("care", "f", "l", 7), Use("study", "f", "l", 2))),
        ("consumer:/user:ray", (Use(""),)),
    ]


@given(st.dictionaries(st.sampled_from(sorted(WHOLE)), st.text() | st.sampled_from(sorted(WHOLE.values()))))
def test_annotations_are_anything_and_the_graph_is_one(annotations):
    graph = build([model(**annotations)])
    assert graph.node("model:clinic/wdbc")
    known = {one.id for one in graph.nodes}
    assert all(one.source in known and one.target in known for one in graph.edges)
    assert all(name.isprintable() for one in graph.nodes for name in one.names)
