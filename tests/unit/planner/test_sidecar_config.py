from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from modelward.api.modeldeployment import ModelDeployment
from modelward.api.validate import canonical, parse
from modelward.planner.references import References
from modelward.planner.sidecar_config import SidecarConfigError, sidecar_config, unsupported
from modelward.sidecar.config import Config
from tests.corpus import good, policy

Manifest = dict[str, Any]
REFERENCES = References(
    config_maps={
        "clinic-jwks": {"data": {"jwks.json": '{"keys": []}'}},
        "wdbc-baseline": {"binaryData": {"baseline.npz": base64.b64encode(b"baseline").decode()}},
    },
    client_authorities="-----BEGIN CERTIFICATE-----\n",
)


def supported() -> Manifest:
    """The good manifest without what this version does not honour."""
    manifest = good()
    for field in ("explanations", "fairness", "securityTest"):
        del manifest["spec"][field]
    del manifest["spec"]["encryption"]["inUse"]
    manifest["spec"]["monitoring"]["detectors"] = [{"type": "Mahalanobis"}]
    manifest["metadata"]["namespace"] = "clinic"
    manifest["metadata"]["generation"] = 3
    return manifest


def parsed(manifest: Manifest) -> ModelDeployment:
    md = parse(manifest)
    assert isinstance(md, ModelDeployment)
    return md


def stored(spec: Manifest) -> Manifest:
    return canonical(parse(policy(spec)))


def test_the_sidecar_reads_what_the_planner_writes() -> None:
    md = parsed(supported())
    assert unsupported(md, []) == []
    config = msgspec.convert(sidecar_config(md, [], REFERENCES), Config)
    assert (config.binding.namespace, config.binding.name, config.binding.generation) == ("clinic", "wdbc", 3)


def _changed(change: Callable[[Manifest], Any]) -> ModelDeployment:
    manifest = supported()
    change(manifest["spec"])
    return parsed(manifest)


UNSUPPORTED: list[tuple[str, Callable[[Manifest], Any]]] = [
    ("spec.encryption.inUse", lambda s: s["encryption"].update(inUse={})),
    ("spec.explanations", lambda s: s.update(explanations={})),
    ("spec.fairness", lambda s: s.update(fairness={})),
    ("spec.access.issuers[0].audiences", lambda s: s["access"]["issuers"][0].update(audiences=[])),
    (
        "spec.access.issuers[0].jwksURI",
        lambda s: s["access"]["issuers"].__setitem__(
            0, {"name": "a", "issuer": "b", "audiences": ["c"], "jwksURI": "https://x.example"}
        ),
    ),
    ("type Autoencoder", lambda s: s["monitoring"]["detectors"].__setitem__(0, {"type": "Autoencoder"})),
    ("one detector at most", lambda s: s["monitoring"]["detectors"].append({"type": "Mahalanobis"})),
    ("baseline.dataset", lambda s: s["monitoring"].update(baseline={"dataset": "s3://x"})),
    ("without spec.monitoring.baseline", lambda s: s["monitoring"].pop("baseline")),
    ("otlpEndpoint", lambda s: s["monitoring"].update(telemetry={"otlpEndpoint": "http://x.example"})),
    ("lineageEndpoint", lambda s: s["monitoring"].update(telemetry={"lineageEndpoint": "http://x.example"})),
    ("accessLog OTLP", lambda s: s["monitoring"].update(telemetry={"accessLog": "OTLP"})),
]


@pytest.mark.parametrize(("field", "change"), UNSUPPORTED, ids=[field for field, _ in UNSUPPORTED])
def test_what_a_model_declares_and_the_sidecar_cannot_do_is_listed(
    field: str, change: Callable[[Manifest], Any]
) -> None:
    (listed,) = unsupported(_changed(change), [])
    assert field in listed


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        ("treatment Drop", {"fields": [{"name": "patient", "treatment": "Drop"}]}),
        ("treatment Round", {"fields": [{"name": "radius", "treatment": "Round", "digits": 2}]}),
        ("kAnonymity", {"kAnonymity": {"k": 5}}),
        ("signedBy", {"require": {"lineage": {"signedBy": ["release@clinic.example"]}}}),
    ],
)
def test_what_a_policy_declares_and_the_sidecar_cannot_do_is_listed(field: str, spec: Manifest) -> None:
    (listed,) = unsupported(parsed(supported()), [stored(spec)])
    assert field in listed
    assert listed.startswith("DataPolicy policy spec.")


def test_a_field_that_the_model_does_not_take_needs_no_treatment() -> None:
    fields = [{"name": "ssn", "treatment": "Drop"}, {"name": "radius", "treatment": "Keep"}]
    assert unsupported(parsed(supported()), [stored({"fields": fields})]) == []


def test_the_strictest_policy_decides() -> None:
    md = parsed(supported())
    lax = stored({"undeclaredFields": "Drop", "onDetectorError": "Pass"})
    assert sidecar_config(md, [lax], REFERENCES)["undeclaredFields"] == "Drop"
    both = sidecar_config(md, [lax, stored({})], REFERENCES)
    assert both["undeclaredFields"] == "Reject"
    assert both["screening"]["onDetectorError"] == "Block"


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000])
def test_keys_that_cannot_be_read_are_told_with_their_place(content: str) -> None:
    config_maps = copy.deepcopy(dict(REFERENCES.config_maps))
    config_maps["clinic-jwks"] = {"data": {"jwks.json": content}}
    with pytest.raises(SidecarConfigError, match=r"issuers\[0\].jwksConfigMapName: jwks.json in ConfigMap clinic-jwks"):
        sidecar_config(parsed(supported()), [], References(config_maps, {}, "x"))
