"""What a sidecar needs to explain decisions, and what keeps it from doing so."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from modelward.api.references import references_of
from modelward.api.validate import SchemaError
from modelward.planner.config_map import config_map
from modelward.planner.explanations import explained_weights_of
from modelward.planner.references import References
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.sidecar.config import Config
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, stored, supported

WEIGHTS = '{"coef": [1.0, -1.0], "link": "logistic", "columns": ["radius", "texture"]}'
CONTACT = {"contact": "dpo@clinic.example", "contestURL": "https://clinic.example/contest"}


def model(**asked: Any) -> Any:
    manifest = supported()
    manifest["spec"]["explanations"] = CONTACT | asked
    return parsed(manifest)


def linear() -> Any:
    return model(method="LinearSHAP", weightsConfigMapName="wdbc-weights")


def references(weights: str = WEIGHTS) -> References:
    return replace(
        REFERENCES, config_maps={**REFERENCES.config_maps, "wdbc-weights": {"data": {"weights.json": weights}}}
    )


def planned(md: Any, policies: Any = (), found: References | None = None) -> tuple[dict[str, Any], Config]:
    document = sidecar_config(md, policies, found or references())
    return document, msgspec.json.decode(json.dumps(document), type=Config)


def test_the_sidecar_reads_what_is_planned() -> None:
    md = model(output="malignant", extraCalls=4096)
    _, config = planned(md)
    asked = config.explanations
    assert asked is not None
    assert (asked.method, asked.output, asked.extra_calls) == ("PermutationSHAP", "malignant", 4096)
    assert (asked.contact, asked.contest_url) == (CONTACT["contact"], CONTACT["contestURL"])
    assert asked.hidden == ["patient"], "by its role in the manifest"
    assert unsupported(md, []) == []


def test_a_policy_can_say_that_a_column_identifies() -> None:
    policy = stored({"fields": [{"name": "texture", "role": "Identifier", "treatment": "Round", "digits": 1}]})
    _, config = planned(model(), [policy])
    assert config.explanations is not None
    assert config.explanations.hidden == ["patient", "texture"]


def test_the_weights_go_along_with_their_digest_beside_those_of_encrypted_requests() -> None:
    document, config = planned(linear())
    assert config.explanations is not None
    assert config.explanations.weights is not None
    assert config.explanations.weights.sha256 == hashlib.sha256(WEIGHTS.encode()).hexdigest()
    files = {config.explanations.weights.file: explained_weights_of(linear(), references())}
    made = config_map(linear(), document, lambda _: b"", files)
    assert base64.b64decode(made["binaryData"]["explained-weights.json"]) == WEIGHTS.encode()
    assert unsupported(linear(), []) == []


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        ("{}", "the weights cannot be read"),
        ('{"layers": [{"weights": [[1, 2]], "bias": [0]}, {"weights": [[1]], "bias": [0]}]}', "2 layers is not linear"),
        ('{"coef": [1.0], "columns": ["age"]}', "the weights are of age, which spec.schema.inputs does not name"),
    ],
)
def test_weights_that_explain_nothing_here_are_told(weights: str, why: str) -> None:
    with pytest.raises(SidecarConfigError, match=rf"spec\.explanations\.weightsConfigMapName: .*{why}"):
        sidecar_config(linear(), [], references(weights))


def test_the_weights_are_a_reference_like_any_other() -> None:
    (missing,) = REFERENCES.missing(tuple(one for one in references_of(linear()) if one.key == "weights.json"))
    assert (missing.kind, missing.name) == ("ConfigMap", "wdbc-weights")
    assert missing.field == "spec.explanations.weightsConfigMapName"


def test_a_treated_output_is_not_told_by_what_adds_up_to_it() -> None:
    rounded = stored({"fields": [{"name": "malignant", "treatment": "Round", "digits": 2}]})
    assert unsupported(model(), [rounded]) == [], "another output is explained"
    (told,) = unsupported(model(output="malignant"), [rounded])
    assert told.startswith("spec.explanations.output malignant (a policy treats it")
    (told,) = unsupported(linear(), [rounded])
    assert told.startswith("spec.explanations.method LinearSHAP with the treated output malignant")


def test_a_budget_that_cannot_do_is_told_before_anything_is_made() -> None:
    manifest = supported()
    manifest["spec"]["explanations"] = {"extraCalls": 236}
    wide = [f"c{index}" for index in range(30)]
    manifest["spec"]["schema"]["inputs"] = [{"name": "x", "datatype": "FP64", "shape": [-1, 30], "columns": wide}]
    (told,) = unsupported(parsed(manifest), [])
    assert "with 30 columns the model must be asked about 237 rows to explain one, and 236 are allowed" in told
    assert unsupported(parsed(manifest), [stored({"fields": [{"name": "c7", "treatment": "Drop"}]})]) == []
    manifest["spec"]["explanations"] = {}
    manifest["spec"]["schema"]["inputs"] = [{"name": "x", "datatype": "UINT8", "shape": [-1, 28, 28]}]
    (told,) = unsupported(parsed(manifest), [])
    assert "at most 256 columns, and there are 784" in told


def test_without_names_nothing_of_v1_is_asked_for() -> None:
    manifest = supported()
    manifest["spec"]["model"]["protocol"] = "v1"
    del manifest["spec"]["schema"]["outputs"]
    manifest["spec"]["explanations"] = {"output": "malignant"}
    assert "spec.explanations.output with the protocol v1 (its outputs have no names)" in unsupported(
        parsed(manifest), []
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"weightsConfigMapName": "w"}, "weightsConfigMapName is for LinearSHAP alone"),
        ({"method": "LinearSHAP", "extraCalls": 100}, "extraCalls is for PermutationSHAP alone"),
    ],
)
def test_the_schema_refuses_what_the_other_method_has(asked: dict[str, Any], why: str) -> None:
    manifest = supported()
    manifest["spec"]["explanations"] = asked
    with pytest.raises(SchemaError, match=why):
        parsed(manifest)
