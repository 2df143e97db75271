from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from modelward.api.status import LineageStatus
from modelward.planner.references import References
from modelward.planner.signatures import Signatures, signatures, trust_names
from tests.unit.lineage.signers import (
    DATASET,
    KEY,
    KEYS,
    MODEL,
    NOW,
    OTHER,
    RAW,
    RELEASE,
    about,
    authority,
    certified,
    public,
    signed,
)

ML = "key:ml-platform"
GOOD = {
    "lineage.modelward.io/model": f"oci://registry/wdbc@sha256:{MODEL}",
    "lineage.modelward.io/dataset": f"s3://clinic/wdbc.csv@sha256:{DATASET}",
    "lineage.modelward.io/statements": "configmap/wdbc-statements",
}
BUNDLES = {"model.sig": signed(about(MODEL, "wdbc")), "data.sigstore.json": signed(about(DATASET, "wdbc.csv"))}


def config_map(contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {"kind": "ConfigMap", "data": {key: content.decode() for key, content in contents.items()}}


def policy(name: str = "p", signed_by: tuple[str, ...] = (ML,), trust: str | None = "signers") -> dict[str, Any]:
    lineage = {"signedBy": list(signed_by), **({"trustConfigMapName": trust} if trust else {})}
    return {
        "kind": "DataPolicy",
        "metadata": {"name": name, "namespace": "clinic"},
        "spec": {"require": {"lineage": lineage}},
    }


REFERENCES = References(
    {"wdbc-statements": config_map(BUNDLES)},
    trust={
        "signers": config_map({"ml-platform.pub": public(KEY)}),
        "others": config_map({"ml-platform.pub": public(OTHER)}),
    },
)


def judged(
    *policies: dict[str, Any], annotations: Mapping[str, str | None] | None = None, references: References = REFERENCES
) -> Signatures:
    changed = {**GOOD, **(annotations or {})}
    kept = {key: value for key, value in changed.items() if value is not None}
    found = signatures(kept, policies or (policy(),), references, NOW)
    LineageStatus.model_validate(found.status())  # the shape that the CRD has
    return found


def told(*policies: dict[str, Any], **options: Any) -> tuple[str, str]:
    found = judged(*policies, **options).told()
    assert found
    assert found[0] == (found[1] == "Signed")
    return found[1], found[2]


def test_nothing_is_looked_at_where_nobody_asks() -> None:
    found = judged(policy(signed_by=()))
    assert (found.asked, found.told(), found.observed()) == ((), None, [])
    assert trust_names([policy(signed_by=()), policy()]) == {"signers"}


def test_a_signed_lineage() -> None:
    assert told() == ("Signed", f"model signed by {ML}; dataset signed by {ML}")
    assert judged().observed() == [{"kind": "DataPolicy", "name": "p", "lacks": ""}]
    assert judged().status() == {
        "signedBy": [ML],
        "statements": [
            {"subject": "wdbc", "digest": f"sha256:{MODEL}", "signer": ML},
            {"subject": "wdbc.csv", "digest": f"sha256:{DATASET}", "signer": ML},
        ],
    }


def test_statements_in_a_secret_and_in_binary_data() -> None:
    encoded = {key: base64.b64encode(content).decode() for key, content in BUNDLES.items()}
    secret = References(secrets={"s": {"kind": "Secret", "data": encoded}}, trust=REFERENCES.trust)
    where = {"lineage.modelward.io/statements": "secret/s"}
    assert told(annotations=where, references=secret)[0] == "Signed"
    binary = References({"s": {"kind": "ConfigMap", "binaryData": encoded}}, trust=REFERENCES.trust)
    where = {"lineage.modelward.io/statements": "configmap/s"}
    assert told(annotations=where, references=binary)[0] == "Signed"


def test_statements_in_several_places() -> None:
    maps = {key: config_map({key: content}) for key, content in BUNDLES.items()}
    where = {"lineage.modelward.io/statements": ", ".join(f"configmap/{key}" for key in maps)}
    assert told(annotations=where, references=References(maps, trust=REFERENCES.trust))[0] == "Signed"


@pytest.mark.parametrize(
    ("annotations", "reason", "message"),
    [
        ({"statements": None}, "StatementMissing", "statements names no ConfigMap or Secret with signed statements"),
        ({"statements": "configmap/gone"}, "StatementMissing", "ConfigMap gone, which lineage.modelward.io/statements"),
        ({"model": None}, "DigestMissing", "lineage.modelward.io/model: is not there, and statements are about its"),
        ({"model": "oci://x"}, "DigestMissing", "lineage.modelward.io/model: ends in no @sha256:<64 hex digits>"),
        ({"model": f"x@sha256:{RAW}"}, "DigestMismatch", "and what was signed is wdbc (sha256:aaaaaaaaaaaa)"),
    ],
)
def test_what_is_missing_is_named(annotations: dict[str, str | None], reason: str, message: str) -> None:
    changes = {f"lineage.modelward.io/{key}": value for key, value in annotations.items()}
    found = told(annotations=changes)
    assert found[0] == reason
    assert message in found[1]
    assert found[1].endswith("(asked by DataPolicy/clinic/p)")


def test_a_place_without_statements() -> None:
    there = References({"wdbc-statements": config_map({"README": b"x"})}, trust=REFERENCES.trust)
    reason, message = told(references=there)
    assert reason == "StatementMissing"
    assert "ConfigMap wdbc-statements has no key that ends in .json, .jsonl, .sig, .oci.tar" in message


def test_trust_is_the_platform_teams() -> None:
    mine = References({**REFERENCES.config_maps, "signers": config_map({"ml-platform.pub": public(KEY)})}, trust={})
    reason, message = told(references=mine)
    assert reason == "TrustMissing"
    assert "no ConfigMap signers in modelward-system, where the keys of signers are kept" in message
    assert told(policy(trust=None))[0] == "TrustMissing"


def test_a_key_that_is_not_among_the_trusted() -> None:
    reason, message = told(policy(signed_by=("key:nobody",)))
    assert reason == "TrustMissing"
    assert message.startswith(
        "key:nobody needs nobody.pub, which is not there in ConfigMap signers of modelward-system"
    )


def test_every_policy_that_asks_must_be_content_by_its_own_trust() -> None:
    """The same name in another ConfigMap is another key: a namespace's trust satisfies no policy of the cluster's."""
    found = judged(policy("a"), policy("b", trust="others"))
    assert [one["lacks"] == "" for one in found.observed()] == [True, False]
    reason, message = told(policy("a"), policy("b", trust="others"))
    assert reason == "SignerNotTrusted"
    assert message.endswith("(asked by DataPolicy/clinic/b)")


def test_nothing_of_a_secret_is_told() -> None:
    content = b'{"password": "hunter2", "mediaType": "hunter2", "payloadType": "hunter2"}'
    for hostile in (content, b"hunter2", b'["hunter2"]', b'{"payloadType": "hunter2", "hunter2": 1}'):
        secret = {"kind": "Secret", "data": {"a.json": base64.b64encode(hostile).decode()}}
        there = References(secrets={"s": secret}, trust=REFERENCES.trust)
        reason, message = told(annotations={"lineage.modelward.io/statements": "secret/s"}, references=there)
        assert reason == "StatementMalformed"
        assert "hunter2" not in message


def test_a_model_that_is_the_image_itself_must_be_the_one_that_runs() -> None:
    def reason(image: str) -> str:
        found = signatures(GOOD, [policy()], REFERENCES, NOW, image).told()
        assert found
        return found[1]

    assert reason(f"registry/wdbc@sha256:{MODEL}") == "Signed"
    assert reason(f"registry/server@sha256:{RAW}") == "Signed", "the model is not the image: nothing is known of that"
    assert reason(f"registry/wdbc@sha256:{RAW}") == "DigestMismatch"
    assert reason("registry/wdbc") == "DigestMismatch"
    assert reason("registry/wdbc:2.0") == "DigestMismatch", "a tag is no other address"
    assert reason(f"registry/wdbc:2.0@sha256:{RAW}") == "DigestMismatch"
    assert reason(f"registry:5000/wdbc:2.0@sha256:{RAW}") == "Signed", "a port is no tag"


def test_signatures_outlive_certificates_where_the_policy_says_so() -> None:
    root = authority()
    leaf = root.signer(RELEASE, ends=NOW - timedelta(hours=1))
    bundles = {f"{one[0]}.json": certified(about(one), leaf) for one in (MODEL, DATASET)}
    trust = {"signers": config_map({"authorities.pem": root.pem})}
    there = References({"wdbc-statements": config_map(bundles)}, trust=trust)
    asks = policy(signed_by=(f"cert:{RELEASE.value}",))
    assert told(asks, references=there)[0] == "SignerNotTrusted"
    asks["spec"]["require"]["lineage"]["certificateTime"] = "Issued"
    assert told(asks, references=there)[0] == "Signed"


def test_what_things_were_made_of_is_told_for_the_graph() -> None:
    maps = {"wdbc-statements": config_map({"m.json": signed(about(MODEL, sources=[DATASET, RAW]))})}
    found = judged(references=References(maps, trust=REFERENCES.trust))
    assert found.dependencies() == {MODEL: {DATASET, RAW}}


def test_a_signer_who_is_trusted_and_not_accepted() -> None:
    trust = {"signers": config_map({"ml-platform.pub": public(KEY), "rest.pub": public(KEYS["P-384"])})}
    reason, message = told(policy(signed_by=("key:rest",)), references=References(REFERENCES.config_maps, trust=trust))
    assert reason == "SignerNotTrusted"
    assert "is signed by key:ml-platform, whom the policy does not name" in message
