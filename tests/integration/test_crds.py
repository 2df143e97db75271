"""What is committed is what the models say, and a real API server takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelward.api.crd import KINDS, crd
from modelward.api.validate import SchemaError, canonical, parse
from modelward.cli.output import to_yaml
from modelward.rules.check import baseline_policy
from tests.corpus import POLICIES, good, policy
from tests.integration.apiserver import ApiServer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_crd_is_structural_and_explained(apiserver: ApiServer, kind: Any) -> None:
    stored = apiserver.get("crd", f"{kind.plural}.modelward.io")
    conditions = {item["type"]: item for item in stored["status"]["conditions"]}
    assert conditions["Established"]["status"] == "True"
    assert conditions.get("NonStructuralSchema", {}).get("status") != "True", conditions
    explained = apiserver.kubectl("explain", f"{kind.plural}.spec", "--recursive")
    assert explained.ok, explained.stderr
    assert "<no description>" not in explained.stdout


@pytest.mark.parametrize("folder", ["crds", "charts/modelward/crds"])
def test_what_is_committed_is_generated(folder: str) -> None:
    for kind in KINDS:
        path = ROOT / folder / f"modelward.io_{kind.plural}.yaml"
        assert path.read_text() == to_yaml(crd(kind)), f"{path} is stale: run `make generate`"


def test_the_defaults_are_the_same_as_ours(apiserver: ApiServer) -> None:
    for manifest in (good(), *(policy(spec, namespace="default") for spec in POLICIES.values()), baseline_policy()):
        server = apiserver.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=to_yaml({**manifest}))
        assert server.ok, server.stderr
        assert json.loads(server.stdout)["spec"] == canonical(parse(manifest))["spec"]


BAD: list[tuple[str, dict[str, Any], str]] = [
    (
        "both",
        {"model": {"image": "x"}, "targetRef": {"apiVersion": "v1", "kind": "Pod", "name": "x"}},
        "exactly one of",
    ),
    ("neither", {"replicas": 1}, "exactly one of"),
    ("unknown field", {"model": {"image": "x", "portt": 1}}, "portt"),
    (
        "a number for a string",
        {"model": {"image": "x"}, "encryption": {"inTransit": {"minVersion": 1.3}}},
        "minVersion",
    ),
    ("outside an enum", {"model": {"image": "x", "protocol": "v3"}}, "protocol"),
    ("out of range", {"model": {"image": "x", "port": 80}}, "port"),
    ("gRPC of v1", {"model": {"image": "x", "protocol": "v1", "grpcPort": 8081}}, "v1 has no gRPC"),
    ("one port for two", {"model": {"image": "x", "port": 8081, "grpcPort": 8081}}, "two ports"),
    ("the sidecar's own port", {"model": {"image": "x", "grpcPort": 8444}}, "sidecar's ports"),
    ("both but for a null", {"model": None, "targetRef": None}, "exactly one of"),
    ("null in a list", {"model": {"image": "x", "args": [None]}}, "args"),
    (
        "keys for an issuer from two places",
        {
            "model": {"image": "x"},
            "access": {
                "issuers": [{"name": "a", "issuer": "b", "jwksURI": "https://a.example/", "serviceAccounts": True}]
            },
        },
        "exactly one of jwksURI",
    ),
    (
        "keys of the cluster, and not",
        {
            "model": {"image": "x"},
            "access": {"issuers": [{"name": "a", "issuer": "b", "serviceAccounts": False}]},
        },
        "exactly one of jwksURI",
    ),
    (
        "no keys for an issuer",
        {"model": {"image": "x"}, "access": {"issuers": [{"name": "a", "issuer": "b"}]}},
        "exactly one of jwksURI",
    ),
    (
        "columns and shape",
        {
            "model": {"image": "x"},
            "schema": {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 3], "columns": ["a"]}]},
        },
        "columns must name",
    ),
]


@pytest.mark.parametrize(("name", "spec", "word"), BAD, ids=[bad[0] for bad in BAD])
def test_what_has_no_meaning_is_refused_here_and_there(
    apiserver: ApiServer, name: str, spec: dict[str, Any], word: str
) -> None:
    manifest = {**good(), "spec": spec}
    with pytest.raises(SchemaError) as ours:
        parse(manifest)
    theirs = apiserver.kubectl("create", "--dry-run=server", "-f", "-", input=to_yaml(manifest))
    assert not theirs.ok, f"the API server lets it in, and we say: {ours.value}"
    assert word in theirs.stderr
    assert word in str(ours.value)
