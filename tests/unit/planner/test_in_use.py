"""What a sidecar needs to score encrypted requests, and what keeps a model from being offered under encryption."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from modelward.api.references import references_of
from modelward.planner.config_map import config_map
from modelward.planner.in_use import BODY_BYTES, weights_of
from modelward.planner.references import References
from modelward.planner.sidecar_config import sidecar_config
from modelward.planner.sidecar_config_error import SidecarConfigError
from modelward.planner.unsupported import unsupported
from modelward.sidecar.config import Config
from tests.unit.planner.test_sidecar_config import REFERENCES, parsed, stored, supported

WEIGHTS = '{"coef": [1.0, -1.0], "link": "logistic"}'
NETWORK = '{"layers": [{"weights": [[1, 2]], "bias": [0]}, {"weights": [[1]], "bias": [0]}]}'


def model(**in_use: Any) -> Any:
    manifest = supported()
    manifest["spec"]["encryption"]["inUse"] = {"weightsConfigMapName": "wdbc-weights"} | in_use
    return parsed(manifest)


def references(weights: str = WEIGHTS) -> References:
    return replace(
        REFERENCES, config_maps={**REFERENCES.config_maps, "wdbc-weights": {"data": {"weights.json": weights}}}
    )


def asking(bits: int) -> dict[str, Any]:
    return stored({"require": {"encryption": {"inUse": {"schemes": ["CKKS"], "minSecurityBits": bits}}}})


def test_the_sidecar_reads_what_is_planned() -> None:
    md = model(only=True, rowsPerHour=500)
    document = sidecar_config(md, [], references())
    config = msgspec.json.decode(json.dumps(document), type=Config)
    assert config.in_use is not None
    assert (config.in_use.only, config.in_use.rows_per_hour, config.in_use.security_bits) == (True, 500, 128)
    assert config.in_use.weights.sha256 == hashlib.sha256(WEIGHTS.encode()).hexdigest()
    assert config.limits.body_bytes == BODY_BYTES
    assert unsupported(md, []) == []
    made = config_map(md, document, lambda _: b"", {"weights.json": weights_of(md, references())})
    assert base64.b64decode(made["binaryData"]["weights.json"]) == WEIGHTS.encode()


def test_the_strongest_policy_decides_the_security() -> None:
    config = sidecar_config(model(coeffModulusBits=[50, 40, 60]), [asking(128), asking(192)], references())
    assert config["inUse"]["securityBits"] == 192
    with pytest.raises(SidecarConfigError, match=r"add up to 160; .* 192 bits of security they may be 152"):
        sidecar_config(model(), [asking(192)], references())


def test_a_model_too_deep_for_its_parameters_is_not_offered() -> None:
    with pytest.raises(SidecarConfigError, match="multiplies 3 times one after the other, these parameters allow 1"):
        sidecar_config(model(), [], references(NETWORK))
    deep = model(polyModulusDegree=8192, coeffModulusBits=[50, 35, 35, 35, 50], scaleBits=35)
    assert sidecar_config(deep, [], references(NETWORK))["inUse"]


@pytest.mark.parametrize("weights", ["", "{}", '{"coef": [0, 0]}', "[" * 100_000])
def test_weights_that_cannot_be_used_are_told(weights: str) -> None:
    with pytest.raises(SidecarConfigError, match=r"spec\.encryption\.inUse: "):
        sidecar_config(model(), [], references(weights))


def test_the_weights_are_a_reference_like_any_other() -> None:
    (missing,) = REFERENCES.missing(tuple(one for one in references_of(model()) if one.key == "weights.json"))
    assert (missing.kind, missing.name) == ("ConfigMap", "wdbc-weights")
    assert missing.field == "spec.encryption.inUse.weightsConfigMapName"


def offered(in_use: dict[str, Any]) -> Any:
    manifest = supported()
    manifest["spec"]["encryption"]["inUse"] = in_use
    return parsed(manifest)


@pytest.mark.parametrize("scheme", ["BFV", "CKKS"])
def test_statistics_need_no_weights(scheme: str) -> None:
    """A policy that accepts BFV alone can be satisfied: BFV was declared, refused, and nothing could be done."""
    md = offered({"scheme": scheme, "statistics": True})
    assert unsupported(md, []) == []
    config = msgspec.json.decode(json.dumps(sidecar_config(md, [], REFERENCES)), type=Config)
    assert config.in_use is not None
    assert (config.in_use.statistics, config.in_use.weights) == (True, None)
    assert config.in_use.parameters.scheme == scheme


def test_weights_that_are_named_are_waited_for() -> None:
    md = model(statistics=True)
    assert "inUse" not in sidecar_config(md, [], REFERENCES)
    assert sidecar_config(md, [], references())["inUse"]["statistics"] is True


def test_parameters_that_cannot_count_exactly_are_told() -> None:
    md = offered({"scheme": "BFV", "statistics": True, "coeffModulusBits": [40, 40]})
    with pytest.raises(SidecarConfigError, match=r"exact counts at polyModulusDegree 8192 need 66 bits .* are 40"):
        sidecar_config(md, [], REFERENCES)


@pytest.mark.parametrize(
    ("in_use", "told"),
    [
        ({}, "inUse without weightsConfigMapName"),
        ({"scheme": "BFV"}, "scheme BFV without statistics: true"),
        (
            {"scheme": "BFV", "statistics": True, "weightsConfigMapName": "w"},
            "weightsConfigMapName with the scheme BFV",
        ),
    ],
)
def test_what_is_declared_and_not_honoured(in_use: dict[str, Any], told: str) -> None:
    assert told in "\n".join(unsupported(offered(in_use), []))


def test_the_older_protocol_has_no_encrypted_tensors() -> None:
    manifest = supported()
    manifest["spec"]["encryption"]["inUse"] = {"statistics": True}
    manifest["spec"]["model"]["protocol"] = "v1"
    assert "inUse with the protocol v1" in "\n".join(unsupported(parsed(manifest), []))
