"""What is wrong with a model's lineage and its statements, against a real API server: named, and never served."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest

from modelward.planner.names import KubeObject
from modelward.planner.service import WITHHELD_LABEL
from tests.integration.test_controller import (
    PLACE,
    SYSTEM,
    Controller,
    apply,
    cluster,
    controller,
    model,
    place,
    policy,
)
from tests.unit.lineage.signers import DATASET, KEY, MODEL, OTHER, RAW, about, changed, public, signed
from tests.unit.lineage.test_layout import BUNDLE_TYPE, Layout

pytestmark = pytest.mark.timeout(300)
__all__ = ["cluster", "controller", "place"]

STEPS = [{"what": "all features", "how": "z-score", "why": "input contract"}]
BUNDLES = {"model.sig": signed(about(MODEL, "wdbc")), "data.sigstore.json": signed(about(DATASET, "wdbc.csv"))}


def config_map(name: str, namespace: str, contents: Mapping[str, bytes]) -> KubeObject:
    data = {key: content.decode() for key, content in contents.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def lineage(name: str = "wdbc", **annotations: str) -> KubeObject:
    found = {
        "model": f"oci://registry/wdbc@sha256:{MODEL}",
        "dataset": f"s3://clinic/wdbc.csv@sha256:{DATASET}",
        "transformations": json.dumps(STEPS),
        "consumer": "triage",
        "statements": "configmap/statements",
        **annotations,
    }
    manifest = model(name)
    manifest["metadata"]["annotations"] = {f"lineage.modelward.io/{key}": value for key, value in found.items()}
    return manifest


def asks(**more: Any) -> KubeObject:
    return policy("signed", require={"lineage": {"signedBy": ["key:ml"], "trustConfigMapName": "signers"}}, **more)


def prepare(controller: Controller, bundles: Mapping[str, bytes], **annotations: str) -> None:
    apply(
        controller.server,
        config_map("signers", SYSTEM, {"ml.pub": public(KEY)}),
        config_map("statements", PLACE, bundles),
        asks(),
        lineage(**annotations),
    )


def told(controller: Controller, kind: str) -> str:
    status = controller.server.get("modeldeployment", "wdbc", "-n", PLACE)["status"]
    (found,) = (item["message"] for item in status["conditions"] if item["type"] == kind)
    return str(found)


async def test_a_signed_lineage_is_verified(controller: Controller) -> None:
    prepare(controller, BUNDLES)
    found = await controller.reconcile("wdbc")
    assert found["LineageVerified"] == ("True", "Signed")
    assert found["Ready"] == ("False", "PodsNotReady")  # nobody starts pods here
    assert WITHHELD_LABEL not in controller.made("wdbc")["Service"]["spec"]["selector"]
    told_of = controller.server.get("modeldeployment", "wdbc", "-n", PLACE)["status"]["lineage"]
    assert told_of["signedBy"] == ["key:ml"]
    assert told_of["statements"] == [
        {"subject": "wdbc", "digest": f"sha256:{MODEL}", "signer": "key:ml"},
        {"subject": "wdbc.csv", "digest": f"sha256:{DATASET}", "signer": "key:ml"},
    ]
    controller.cluster.forget()
    await controller.reconcile("wdbc")
    assert controller.cluster.writes == []


@pytest.mark.parametrize(
    ("bundles", "annotations", "reason", "message"),
    [
        (
            BUNDLES,
            {"transformations": '[{"what": "x"'},
            "Malformed",
            "lineage.modelward.io/transformations is not JSON",
        ),
        (
            BUNDLES,
            {"model": "oci://registry/wdbc@sha256:abc"},
            "Malformed",
            "lineage.modelward.io/model does not end in @sha256: and 64 lower-case hex digits",
        ),
        (
            {**BUNDLES, "model.sig": signed(about(MODEL), OTHER)},
            {},
            "SignerNotTrusted",
            "model.sig of ConfigMap statements verifies with no key that the policy names (1 tried)",
        ),
        (
            {**BUNDLES, "model.sig": changed(BUNDLES["model.sig"], lambda found: found.update(more=1))},
            {},
            "SignatureInvalid",
            "model.sig of ConfigMap statements names key:ml as its signer, and does not verify with it",
        ),
        (
            {"a.json": signed(about(MODEL, sources=[DATASET])), "b.json": signed(about(DATASET, sources=[MODEL]))},
            {},
            "Cyclic",
            "the lineage leads back to where it began",
        ),
        (
            BUNDLES,
            {"model": f"oci://registry/wdbc@sha256:{DATASET}"},
            "Cyclic",
            "lineage.modelward.io/model has the digest of lineage.modelward.io/dataset, and nothing is made of itself",
        ),
        ({"a.json": signed(about(RAW))}, {}, "DigestMismatch", "what was signed is thing (sha256:cccccccccccc)"),
        (BUNDLES, {"statements": "configmap/gone"}, "StatementMissing", "ConfigMap gone, which"),
        (BUNDLES, {"statements": "pod/x"}, "Malformed", "lineage.modelward.io/statements is not configmap/<name>"),
        ({"a.json": b"{"}, {}, "StatementMalformed", "a.json of ConfigMap statements is not JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
async def test_what_is_wrong_is_named_and_keeps_callers_away(
    controller: Controller, bundles: Mapping[str, bytes], annotations: dict[str, str], reason: str, message: str
) -> None:
    prepare(controller, bundles, **annotations)
    found = await controller.reconcile("wdbc")
    assert found["LineageVerified"] == ("False", reason)
    assert message in told(controller, "LineageVerified")
    by_itself = "lineage.modelward.io/" in message[:21]  # what the annotations alone show, no policy has to ask for
    assert found["Ready"] == ("False", "LineageNotVerified" if by_itself else "RequirementNotMet")
    assert message[:60] in told(controller, "Ready")
    assert WITHHELD_LABEL in controller.made("wdbc")["Service"]["spec"]["selector"]
    assert "endpoint" not in controller.server.get("modeldeployment", "wdbc", "-n", PLACE)["status"]


async def test_what_changes_about_keys_and_statements_is_noticed(controller: Controller) -> None:
    prepare(controller, BUNDLES)
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("True", "Signed")
    apply(controller.server, config_map("signers", SYSTEM, {"ml.pub": public(OTHER)}))
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("False", "SignerNotTrusted")
    again = {key: signed(about(digest), OTHER) for key, digest in (("m.json", MODEL), ("d.json", DATASET))}
    apply(controller.server, config_map("statements", PLACE, again))
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("True", "Signed")
    assert controller.server.kubectl("delete", "configmap", "signers", "-n", SYSTEM).ok
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("False", "TrustMissing")


async def test_statements_in_a_secret_and_in_an_image_layout(controller: Controller) -> None:
    made = Layout()
    made.index(made.manifest(made.add(BUNDLES["model.sig"], BUNDLE_TYPE)))
    tar = base64.b64encode(made.tar()).decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kept", "namespace": PLACE},
        "stringData": {"data.intoto.jsonl": BUNDLES["data.sigstore.json"].decode()},
    }
    layout = {**config_map("layout", PLACE, {}), "binaryData": {"wdbc.oci.tar": tar}}
    apply(controller.server, secret, layout)
    prepare(controller, {}, statements="secret/kept, configmap/layout")
    assert (await controller.reconcile("wdbc"))["LineageVerified"] == ("True", "Signed")
    assert controller.server.kubectl("delete", "secret/kept", "configmap/layout", "-n", PLACE).ok


async def test_a_policy_that_warns_serves_and_tells(controller: Controller) -> None:
    prepare(controller, {"a.json": signed(about(MODEL), OTHER)})
    apply(controller.server, asks(enforcement="Warn"))
    found = await controller.reconcile("wdbc")
    assert found["LineageVerified"] == ("False", "SignerNotTrusted")
    assert found["Ready"] == ("False", "PodsNotReady")
    assert found["PolicyCompliant"] == ("False", "PolicyWarning")


def test_a_policy_without_trust_is_refused_by_the_schema(place: Any) -> None:
    for lineage_asked, words in (
        ({"signedBy": ["key:ml"]}, "signedBy needs trustConfigMapName"),
        ({"signedBy": ["ml-platform@clinic.example"], "trustConfigMapName": "t"}, "should match"),
    ):
        refused = place.apply(policy("odd", require={"lineage": lineage_asked}))
        assert not refused.ok
        assert words in refused.stderr
