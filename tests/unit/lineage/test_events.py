from __future__ import annotations

import json
from typing import Any

import pytest
from openlineage.client.serde import Serde

from modelward.lineage.events import Event, deployment, fitting, serving
from modelward.lineage.subject import MAX_FIELDS, Fit, Subject, subject_of
from modelward.windows import Consumer, Window
from tests.unit.lineage.manifests import DATASET, FIELDS, NOW, model, policy

LEE = Consumer("user:lee", "clinic", "diagnosis", 3, 6, NOW, NOW)
WINDOW = Window(7, "2026-03-01T12:00:00Z", "2026-03-01T12:01:00Z", 5, 3, 6, (LEE,), 0)
BASIS = {"article6": "PublicTask", "article9": "HealthCare", "note": "Hospital Act, section 12"}


def subject(**changes: Any) -> Subject:
    return subject_of(model(**changes), [policy(legalBasis=BASIS, classification="SpecialCategory")])


def sent(event: Event) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Serde.to_json(event))
    return document


def window_of(about: Subject, window: Window = WINDOW) -> tuple[dict[str, Any], dict[str, Any]]:
    begun, done = serving(about, "modelward", "wdbc-0", "p1", window)
    return sent(begun), sent(done)


def test_a_window_is_a_run_that_began_and_ended() -> None:
    begun, done = window_of(subject())
    assert [one["eventType"] for one in (begun, done)] == ["START", "COMPLETE"]
    assert [one["eventTime"] for one in (begun, done)] == [WINDOW.start, WINDOW.end]
    assert begun["run"]["runId"] == done["run"]["runId"]
    assert done["job"]["name"] == "clinic.wdbc.serving"
    facets = done["run"]["facets"]
    assert facets["nominalTime"]["nominalEndTime"] == WINDOW.end
    serves = facets["modelward_serving"]
    assert (serves["replica"], serves["requests"], serves["answered"], serves["rows"]) == ("wdbc-0", 5, 3, 6)
    (lee,) = serves["consumers"]
    assert (lee["client"], lee["purpose"], lee["requests"]) == ("user:lee", "diagnosis", 3)


def test_why_is_told_with_the_ground_in_law() -> None:
    _, done = window_of(subject())
    purpose = done["job"]["facets"]["modelward_purpose"]
    assert purpose["purposes"] == ["diagnosis"]
    assert purpose["legalBases"] == [{"policy": "DataPolicy/clinic/clinic", **BASIS}]
    assert (purpose["classifications"], purpose["consumer"]) == (["SpecialCategory"], "oncology-triage")


def test_what_became_of_each_field_and_why() -> None:
    _, done = window_of(subject())
    features, answers = done["outputs"]
    assert (features["name"], answers["name"]) == ("clinic/wdbc/features", "clinic/wdbc/answers")
    lineage = features["facets"]["columnLineage"]
    told = {name: one["inputFields"][0]["transformations"][0] for name, one in lineage["fields"].items()}
    assert set(told) == {"ssn", "radius", "texture"}
    of = "of SpecialCategory data, DataPolicy/clinic/clinic"
    assert told["ssn"] == {
        "type": "DIRECT", "subtype": "TRANSFORMATION", "masking": True,
        "description": f"replaced by a pseudonym (Identifier {of})",
    }  # fmt: skip
    assert told["radius"]["description"] == f"rounded to 1 digits (Feature {of})"
    assert (told["texture"]["subtype"], told["texture"]["masking"]) == ("IDENTITY", False)
    (age,) = lineage["dataset"]
    assert (age["field"], age["transformations"][0]["description"]) == ("age", f"dropped (QuasiIdentifier {of})")
    assert {one["name"] for one in features["facets"]["schema"]["fields"]} == {"ssn", "radius", "texture"}
    scored = answers["facets"]["columnLineage"]["fields"]["malignant"]["inputFields"]
    assert {(one["name"], one["field"]) for one in scored} == {
        ("clinic/wdbc/features", name) for name in ("ssn", "radius", "texture")
    }


def test_what_became_of_a_field_is_told_in_the_texts_of_before_as_well() -> None:
    _, done = window_of(subject())
    features, answers = (one["facets"]["columnLineage"]["fields"] for one in done["outputs"])
    old = {
        name: (one["transformationType"], one["transformationDescription"].partition(" (")[0])
        for name, one in features.items()
    }
    assert old == {
        "ssn": ("MASKED", "replaced by a pseudonym"),
        "radius": ("MASKED", "rounded to 1 digits"),
        "texture": ("IDENTITY", "as it is sent"),
    }
    assert answers["malignant"]["transformationDescription"] == "the model's answer"


def test_column_lineage_leads_to_inputs_of_the_run_alone() -> None:
    _, done = window_of(subject())
    inputs = {one["name"]: {field["name"] for field in one["facets"].get("schema", {}).get("fields", ())}
        for one in done["inputs"]}  # fmt: skip
    for output in done["outputs"]:
        for field in output["facets"]["columnLineage"]["fields"].values():
            assert all(one["field"] in inputs[one["name"]] for one in field["inputFields"])


def test_no_text_has_what_a_receiver_cannot_keep() -> None:
    hostile = subject_of(
        model({"lineage.modelward.io/consumer": "a\0b", "lineage.modelward.io/dataset": "s3://c/\0"}, purposes=["p\0"]),
        [policy(legalBasis={**BASIS, "note": "\0"})],
    )
    window = Window(7, NOW, NOW, 1, 1, 1, (LEE.__replace__(client="user:\0"),))
    fit = Fit("r\0", "s3://c/\0", "FAIL", "\0")
    made = [
        *deployment(hostile, "modelward", NOW, "CREATE"),
        fitting(hostile, "modelward", NOW, fit),
        *serving(hostile, "modelward", "r\0", "p1", window),
    ]
    texts = [Serde.to_json(one) for one in made]
    assert not any("\\u0000" in text for text in texts)
    assert sum("\\ufffd" in text for text in texts) == len(texts)


def test_an_answer_that_is_treated_says_so() -> None:
    about = subject_of(model(), [policy(fields=[{"name": "malignant", "treatment": "Round", "digits": 2}])])
    _, done = window_of(about)
    steps = done["outputs"][1]["facets"]["columnLineage"]["fields"]["malignant"]["inputFields"][0]["transformations"]
    assert [one["description"] for one in steps] == [
        "the model's answer",
        "rounded to 2 digits (Feature, DataPolicy/clinic/clinic)",
    ]


@pytest.mark.parametrize("field", FIELDS)
def test_a_whole_input_is_treated_column_by_column(field: dict[str, Any]) -> None:
    about = subject_of(model(), [policy(fields=[{**field, "name": "patient"}])])
    treated = {one.name: one.how for one in about.inputs if one.how}
    assert set(treated) == ({"patient"} if field["treatment"] == "Drop" else {"ssn", "age"})


def test_treated_fields_are_told_of_first_and_the_rest_is_counted() -> None:
    columns = [f"c{number}" for number in range(MAX_FIELDS + 10)]
    wide = [{"name": "x", "datatype": "FP64", "columns": columns}]
    about = subject_of(model(inputs=wide), [policy(fields=[{"name": columns[-1], "treatment": "Drop"}])])
    assert (about.inputs[0].name, len(about.inputs), about.unnamed) == (columns[-1], MAX_FIELDS, 10)
    _, done = window_of(about)
    assert done["run"]["facets"]["modelward_serving"]["unnamedFields"] == 10


def test_a_deployment_names_the_model_its_making_and_the_run_that_made_it() -> None:
    making, begun, done = map(sent, deployment(subject(), "modelward", NOW, "CREATE"))
    assert (making["job"]["name"], "run" in making) == ("clinic.wdbc.training", False)
    (dataset,) = making["inputs"]
    assert (dataset["namespace"], dataset["name"]) == ("s3://clinic", "wdbc.csv")
    assert dataset["facets"]["version"]["datasetVersion"] == "sha256:" + "a" * 64
    steps = making["job"]["facets"]["modelward_transformations"]["steps"]
    assert steps == [{"what": "all features", "how": "z-score", "why": "model input"}]
    (artefact,) = done["inputs"]
    assert (artefact["namespace"], artefact["name"]) == ("oci://registry.example", "wdbc")
    assert making["outputs"][0]["name"] == artefact["name"]
    assert done["outputs"][0]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    (upstream,) = done["run"]["facets"]["jobDependencies"]["upstream"]
    assert upstream["job"] == {"namespace": "https://mlflow.example", "name": "runs/42"}
    assert [one["eventType"] for one in (begun, done)] == ["START", "COMPLETE"]


def test_windows_belong_to_the_deployment_that_served_them() -> None:
    about = subject()
    *_, done = map(sent, deployment(about, "modelward", NOW, "CREATE"))
    _, served = window_of(about)
    assert served["run"]["facets"]["parent"]["run"]["runId"] == done["run"]["runId"]
    assert served["run"]["facets"]["parent"]["job"]["name"] == done["job"]["name"]


def test_how_many_replicas_there_are_makes_no_other_deployment() -> None:
    assert subject(replicas=2).digest == subject(replicas=9).digest
    assert subject().digest != subject(model={"image": "other"}).digest
    assert subject().digest != subject_of(model(), []).digest  # without policies it is treated otherwise


def test_what_is_sent_twice_is_the_same_run() -> None:
    assert window_of(subject()) == window_of(subject())
    runs = {
        window_of(subject(), window)[0]["run"]["runId"]
        for window in (WINDOW, Window(8, WINDOW.start, WINDOW.end, 1, 1, 1))
    }
    assert len(runs) == 2


def test_a_model_that_is_gone_serves_no_more() -> None:
    begun, done = map(sent, deployment(subject(), "modelward", NOW, "DROP"))
    assert done["outputs"][0]["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "DROP"
    made = {sent(one)["run"]["runId"] for one in deployment(subject(), "modelward", NOW, "CREATE")[1:]}
    assert begun["run"]["runId"] not in made


def test_a_fit_that_failed_says_why() -> None:
    failed = sent(fitting(subject(), "modelward", NOW, Fit("d1", DATASET, "FAIL", "the data has 3 columns")))
    assert failed["eventType"] == "FAIL"
    assert failed["run"]["facets"]["errorMessage"]["message"] == "the data has 3 columns"
    assert failed["outputs"] == []
    fitted = sent(fitting(subject(), "modelward", NOW, Fit("d1", DATASET, "COMPLETE", sha256="c" * 64)))
    assert fitted["run"]["runId"] == failed["run"]["runId"]
    (baseline,) = fitted["outputs"]
    assert baseline["facets"]["version"]["datasetVersion"] == "sha256:" + "c" * 64


@pytest.mark.parametrize(
    "annotations",
    [
        {},
        {"lineage.modelward.io/transformations": "{", "lineage.modelward.io/dataset": "x@sha256:1"},
        {"lineage.modelward.io/dataset": "http://[", "lineage.modelward.io/model": "the one from Tuesday"},
    ],
)
def test_what_cannot_be_read_is_left_out(annotations: dict[str, str]) -> None:
    *_, done = map(sent, deployment(subject(annotations=annotations), "modelward", NOW, "CREATE"))
    assert done["inputs"][0]["namespace"] == "modelward"
