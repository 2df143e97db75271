from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.outcome import Outcome
from modelward.lineage.trust import Trust, read_trust
from modelward.lineage.verify import File, read, verify
from tests.unit.lineage.signers import (
    DATASET,
    KEY,
    KEYS,
    MODEL,
    NOW,
    OTHER,
    RAW,
    RELEASE,
    Issued,
    about,
    authority,
    certified,
    changed,
    one_file,
    public,
    signed,
    usage,
)

ML = "key:ml-platform"
TRUST = read_trust({"ml-platform.pub": public(KEY), "data.pub": public(KEYS["Ed25519"]), "README": b"passed over"})
STEPS = [{"what": "all features", "how": "z-score", "why": "input contract"}]


def outcome(
    *contents: bytes,
    digests: dict[str, str] | None = None,
    trust: Trust = TRUST,
    accepted: tuple[str, ...] = (ML,),
    steps: Any = None,
    name: str = "s.json",
) -> Outcome:
    files = [File(name, f"{index}-{name}", content) for index, content in enumerate(contents)]
    return verify({"model": MODEL} if digests is None else digests, steps, read(files), trust, accepted, NOW)


def failure(*contents: bytes, **options: Any) -> tuple[str, str]:
    failed = outcome(*contents, **options).failed
    assert failed, "it counts as signed"
    return failed.reason, failed.message


def test_a_statement_about_the_model_by_an_accepted_key() -> None:
    found = outcome(signed(about(MODEL)))
    assert found.failed is None
    (result,) = found.results
    assert (result.annotation, result.reason, result.signers) == ("model", "Signed", (ML,))


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(kind: str) -> None:
    trust = read_trust({"k.pub": public(KEYS[kind])})
    content = signed(about(MODEL), KEYS[kind])
    assert outcome(content, trust=trust, accepted=("key:k",)).failed is None
    forged = changed(content, lambda found: found.update(more=1))
    assert failure(forged, trust=trust, accepted=("key:k",))[0] == "SignatureInvalid"
    found = json.loads(content)
    found["verificationMaterial"]["publicKey"] = {}
    assert outcome(json.dumps(found).encode(), trust=trust, accepted=("key:k",)).failed is None, "a hint is a hint"


def test_a_bare_envelope_and_lines_of_them() -> None:
    bundles = [signed(about(MODEL)), signed(about(DATASET))]
    envelopes = [json.dumps(json.loads(one)["dsseEnvelope"]).encode() for one in bundles]
    both = {"model": MODEL, "dataset": DATASET}
    assert outcome(*envelopes, digests=both).failed is None
    assert outcome(b"\n".join(envelopes) + b"\n", digests=both, name="all.intoto.jsonl").failed is None
    assert failure(b"\n".join(envelopes), digests=both)[0] == "StatementMalformed"


def test_a_file_is_known_by_its_own_digest_and_by_model_signings() -> None:
    content = signed(one_file(MODEL))
    assert outcome(content).failed is None
    root = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))["subject"][0]["digest"]
    assert root["sha256"] != MODEL
    assert outcome(content, digests={"model": root["sha256"]}).failed is None


def test_the_files_that_are_listed_must_come_to_the_subject() -> None:
    statement = one_file(MODEL)
    statement["subject"][0]["digest"]["sha256"] = RAW
    reason, message = failure(signed(statement), digests={"model": RAW})
    assert reason == "StatementMalformed"
    assert "is not the digest over the files" in message


def test_a_statement_signed_by_another_key() -> None:
    reason, message = failure(signed(about(MODEL), OTHER))
    assert reason == "SignerNotTrusted"
    assert message == "0-s.json verifies with no key that the policy names (1 tried)"


def test_without_a_hint_only_keys_that_are_accepted_are_tried() -> None:
    found = json.loads(signed(about(MODEL), KEYS["Ed25519"]))
    reason, message = failure(json.dumps(found["dsseEnvelope"]).encode())
    assert (reason, message) == ("SignerNotTrusted", "0-s.json verifies with no key that the policy names (1 tried)")


def test_a_key_that_is_trusted_and_not_accepted() -> None:
    reason, message = failure(signed(about(MODEL), KEYS["Ed25519"]))
    assert (reason, message) == ("SignerNotTrusted", "0-s.json is signed by key:data, whom the policy does not name")


def test_a_statement_that_was_changed() -> None:
    forged = changed(signed(about(RAW)), lambda found: found["subject"][0]["digest"].update(sha256=MODEL))
    assert failure(forged) == (
        "SignatureInvalid",
        "0-s.json names key:ml-platform as its signer, and does not verify with it",
    )


def test_a_statement_about_something_else() -> None:
    reason, message = failure(signed(about(RAW, "old model")))
    assert reason == "DigestMismatch"
    assert message == f"names sha256:{'a' * 12}, and what was signed is old model (sha256:{'c' * 12})"


def test_no_statement_and_no_digest() -> None:
    assert failure() == ("StatementMissing", f"no statement is about sha256:{'a' * 12}")
    assert failure(signed(about(MODEL)), digests={"model": ""})[0] == "DigestMissing"


def test_a_statement_of_another_kind_vouches_for_nothing() -> None:
    statement = {**about(MODEL), "predicateType": "https://in-toto.io/attestation/test-result/v0.1"}
    reason, message = failure(signed(statement))
    assert reason == "StatementMalformed"
    assert "predicateType is none that tells of lineage" in message


def test_what_cannot_be_read_keeps_nothing_else_from_being_read() -> None:
    assert outcome(b"{", signed(about(MODEL)), b"\xff").failed is None


# The data set


def test_each_annotation_may_have_a_signer_of_its_own() -> None:
    contents = signed(about(MODEL)), signed(about(DATASET), KEYS["Ed25519"])
    both = {"model": MODEL, "dataset": DATASET}
    assert outcome(*contents, digests=both, accepted=(ML, "key:data")).failed is None
    failed = outcome(*contents, digests=both).failed
    assert failed
    assert (failed.annotation, failed.reason) == ("dataset", "SignerNotTrusted")


def test_a_data_set_is_answered_for_by_what_the_model_was_made_of() -> None:
    both = {"model": MODEL, "dataset": DATASET}
    assert outcome(signed(about(MODEL, sources=[DATASET])), digests=both).failed is None
    far = signed(about(MODEL, sources=[RAW])), signed(about(RAW, sources=[DATASET]))
    assert outcome(*far, digests=both).failed is None
    assert len(outcome(*far, digests=both).statements) == 2


def test_slsa_provenance_names_sources_and_not_all_of_them() -> None:
    statement = about(MODEL)
    statement["predicateType"] = "https://slsa.dev/provenance/v1"
    resource = {"uri": "s3://clinic/wdbc.csv", "digest": {"sha256": DATASET}}
    git = {"uri": "git+https://git.example/x", "digest": {"gitCommit": "0" * 40}}
    statement["predicate"] = {"buildDefinition": {"resolvedDependencies": [git, resource]}}
    assert outcome(signed(statement), digests={"model": MODEL, "dataset": DATASET}).failed is None
    both = {"model": MODEL, "dataset": RAW}
    assert outcome(signed(statement), signed(about(RAW)), digests=both).failed is None


def test_a_model_that_was_made_of_other_data() -> None:
    contents = signed(about(MODEL, sources=[RAW])), signed(about(DATASET))
    reason, message = failure(*contents, digests={"model": MODEL, "dataset": DATASET})
    assert reason == "DigestMismatch"
    assert (
        message == f"0-s.json says that the model was made of s3://cccc (sha256:{'c' * 12}), not of sha256:{'b' * 12}"
    )


def test_what_nobody_accepted_says_of_sources_counts_for_nothing() -> None:
    contents = signed(about(MODEL)), signed(about(MODEL, sources=[DATASET]), OTHER)
    assert failure(*contents, digests={"model": MODEL, "dataset": DATASET})[0] == "StatementMissing"


def test_transformations_are_held_against_the_statement() -> None:
    content = signed(about(MODEL, steps=STEPS))
    assert outcome(content, steps=STEPS).failed is None
    reason, message = failure(content, steps=[{**STEPS[0], "how": "none"}])
    assert (reason, message) == ("TransformationsDiffer", f"0-s.json, signed by {ML}, tells other transformations")


def test_how_a_data_set_was_made_is_not_how_the_model_was() -> None:
    cleaned = signed(about(DATASET, sources=[RAW], steps=[{"what": "names", "how": "dropped", "why": "GDPR 25"}]))
    both = {"model": MODEL, "dataset": DATASET}
    assert outcome(signed(about(MODEL)), cleaned, digests=both, steps=STEPS).failed is None
    made = signed(about(MODEL, sources=[DATASET], steps=STEPS))
    assert outcome(cleaned, made, digests=both, steps=STEPS).failed is None
    assert failure(cleaned, made, digests=both, steps=[])[0] == "TransformationsDiffer"


def test_more_than_can_be_tried_is_not_tried() -> None:
    bundle = json.loads(signed(about(MODEL)))["dsseEnvelope"]
    many = json.dumps({**bundle, "signatures": bundle["signatures"] * 4}).encode()
    reason, message = failure(*[many] * 17)
    assert (reason, message) == ("StatementMalformed", "more than 32 statements or 64 signatures: name fewer")
    lines = b"\n".join([signed(about(MODEL))] * 17)
    assert failure(lines, lines, name="s.jsonl")[1] == "more than 32 statements or 64 signatures: name fewer"
    # A ConfigMap has room for 87,000 keys that hold nothing; each would be a reading and a message.
    assert failure(*[b"["] * 33)[1] == "33 files with statements, and 32 are read: name fewer"
    too_many = json.dumps({**bundle, "signatures": bundle["signatures"] * 5}).encode()
    assert failure(too_many)[1] == "0-s.json signatures holds 5, and must hold 1 to 4"


# Cycles


@pytest.mark.parametrize("length", [1, 2, 3, 30])
def test_lineage_that_goes_round_is_named(length: int) -> None:
    names = [MODEL, *(f"{index:064x}" for index in range(1, length))]
    contents = [signed(about(one, sources=[names[(index + 1) % length]])) for index, one in enumerate(names)]
    reason, message = failure(*contents)
    assert reason == "Cyclic"
    assert message.startswith("the lineage leads back to where it began: thing (sha256:aaaaaaaaaaaa) of ")
    assert len(message) < 600


def test_a_diamond_is_no_cycle() -> None:
    left, right = "d" * 64, "e" * 64
    pairs = [(MODEL, [left, right]), (left, [RAW]), (right, [RAW]), (RAW, [])]
    assert outcome(*(signed(about(one, sources=sources)) for one, sources in pairs)).failed is None


def test_a_cycle_that_nobody_accepted_tells_of_is_not_believed() -> None:
    assert outcome(signed(about(MODEL)), signed(about(MODEL, sources=[MODEL]), OTHER)).failed is None


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3)), max_size=8))
def test_a_cycle_is_found_where_there_is_one(edges: list[tuple[int, list[int]]]) -> None:
    names = [MODEL, *(f"{index:064x}" for index in range(1, 6))]
    contents = [signed(about(names[made], sources=[names[one] for one in of]), KEYS["Ed25519"]) for made, of in edges]
    found = outcome(*contents, accepted=("key:data",))
    below: dict[int, set[int]] = {}
    for made, of in edges:
        below.setdefault(made, set()).update(of)
    reached, todo = set(), [0]
    while todo:
        one = todo.pop()
        if one not in reached:
            reached.add(one)
            todo += below.get(one, ())
    closure = {one: _closure(one, below) for one in reached}
    cyclic = any(one in closure[one] for one in reached)
    assert (found.failed is not None and found.failed.reason == "Cyclic") == cyclic


def _closure(start: int, below: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    todo = list(below.get(start, ()))
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo += below.get(one, ())
    return found


# Certificates

CA = authority()
BETWEEN = CA.issue("between", authority=True)
WHO = ("cert:spiffe://clinic.example/release",)
AUTHORITIES = read_trust({"authorities.pem": CA.pem})


def by(*chain: Issued, accepted: tuple[str, ...] = WHO) -> Outcome:
    return outcome(certified(about(MODEL), *chain), trust=AUTHORITIES, accepted=accepted)


def refused(*chain: Issued) -> str:
    failed = by(*chain).failed
    assert failed
    assert failed.reason == "SignerNotTrusted"
    return failed.message


def test_a_certificate_names_who_signed() -> None:
    leaf = BETWEEN.signer(RELEASE)
    assert by(leaf, BETWEEN).failed is None
    assert by(leaf, BETWEEN, CA).failed is None, "the root may come along"
    assert by(CA.signer(RELEASE, purposes=None)).failed is None


@pytest.mark.parametrize(
    ("name", "signer"),
    [
        (x509.RFC822Name("ci@clinic.example"), "cert:ci@clinic.example"),
        (x509.DNSName("Release.clinic.example"), "cert:release.clinic.example"),
        (x509.UniformResourceIdentifier("https://git.example/clinic"), "cert:https://git.example/clinic"),
    ],
)
def test_kinds_of_names(name: x509.GeneralName, signer: str) -> None:
    assert by(CA.signer(name), accepted=(signer,)).failed is None
    assert by(CA.signer(name)).failed is not None


def test_no_kind_of_name_passes_for_another() -> None:
    for name in (x509.DNSName("ci@clinic.example"), x509.UniformResourceIdentifier("ci@clinic.example")):
        assert by(CA.signer(name), accepted=("cert:ci@clinic.example",)).failed is not None
    assert by(CA.signer(x509.DNSName("*.clinic.example")), accepted=("cert:*.clinic.example",)).failed is not None
    assert by(CA.signer(x509.DNSName("spiffe://clinic.example/release"))).failed is not None


def test_a_certificate_of_somebody_elses_authority() -> None:
    assert "candidates exhausted" in refused(authority().signer(RELEASE))
    assert "candidates exhausted" in refused(BETWEEN.signer(RELEASE)), "one in between is not there"


def test_a_certificate_that_is_over_or_not_yet_valid() -> None:
    assert "not valid at validation time" in refused(CA.signer(RELEASE, ends=NOW - timedelta(hours=1)))
    assert "not valid at validation time" in refused(CA.signer(RELEASE, begins=NOW + timedelta(hours=1)))


def test_a_signature_may_outlive_its_certificate_where_the_policy_says_so() -> None:
    trust = read_trust({"authorities.pem": CA.pem}, outlives=True)
    over = certified(about(MODEL), CA.signer(RELEASE, ends=NOW - timedelta(hours=1)))
    assert outcome(over, trust=trust, accepted=WHO).failed is None
    future = certified(about(MODEL), CA.signer(RELEASE, begins=NOW + timedelta(hours=1)))
    assert failure(future, trust=trust, accepted=WHO)[0] == "SignerNotTrusted"


def test_a_certificate_that_is_for_something_else() -> None:
    assert "not for code signing" in refused(CA.signer(RELEASE, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]))
    assert "not for signatures" in refused(CA.signer(RELEASE, sign=False))
    assert "names nobody" in refused(CA.signer(purposes=None))


def test_one_who_signs_may_not_vouch_for_others() -> None:
    middleman = CA.signer(RELEASE)
    assert "cA must be asserted" in refused(middleman.signer(RELEASE), middleman)


def test_an_authority_that_may_not_sign_certificates() -> None:
    weak = CA.issue("weak", usage(sign=True, authority=False), authority=True)
    assert "may not sign certificates" in refused(weak.signer(RELEASE), weak)


def test_a_certificate_with_a_signature_of_another_key() -> None:
    content = certified(about(MODEL), CA.signer(RELEASE))
    forged = changed(content, lambda found: found.update(more=1))
    failed = outcome(forged, trust=AUTHORITIES, accepted=WHO).failed
    assert failed
    assert failed.reason == "SignatureInvalid"


def test_a_certificate_where_none_is_trusted() -> None:
    assert failure(certified(about(MODEL), CA.signer(RELEASE)))[0] == "SignerNotTrusted"


# Trust


def test_what_can_never_be_recognised_is_told() -> None:
    trust = read_trust({"bad.pub": b"-----BEGIN nothing", "authorities.pem": b"x"})
    lacks = trust.lacks(["key:bad", "key:gone", "cert:ci@clinic.example"])
    assert lacks == [
        "key:bad needs bad.pub, which is not a public key in PEM (-----BEGIN PUBLIC KEY-----)",
        "key:gone needs gone.pub, which is not there",
        "cert:ci@clinic.example needs authorities.pem, which holds no certificates in PEM"
        " (-----BEGIN CERTIFICATE-----)",
    ]


def test_one_key_under_two_names() -> None:
    trust = read_trust({"a.pub": public(KEY), "b.pub": public(KEY)})
    for accepted in ("key:a", "key:b"):
        assert outcome(signed(about(MODEL)), trust=trust, accepted=(accepted,)).failed is None
