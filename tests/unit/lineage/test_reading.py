"""What is no bundle or statement, and the words in which that is said."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelward.lineage.bundle import MAX_CHAIN, read_bundles
from modelward.lineage.dsse import base64_bytes, pae
from modelward.lineage.reading import MAX_BYTES, StatementError, read_object
from modelward.lineage.signing import files_statement
from modelward.lineage.statement import MAX_SOURCES, MAX_SUBJECTS, Resource, read_statement
from tests.unit.lineage.signers import MODEL, RAW, about, one_file, signed

Change = Callable[[dict[str, Any]], Any]


def test_the_signed_bytes_are_dsse_s_own_example() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode(), "lengths are of bytes"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"\xff", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"a": NaN}', "is not JSON"),
        (b'{"a": 1, "a": 2}', "has a name twice in an object"),
        (b'{"a": [{"b": 1, "b": 1}]}', "has a name twice in an object"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b" " * MAX_BYTES + b"{}", "has more than 1,048,576 bytes"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_json_is_read_strictly(content: bytes, words: str) -> None:
    with pytest.raises(StatementError, match=words):
        read_object(content)


def test_numbers_of_any_length_are_let_be() -> None:
    assert read_object(b'{"a": ' + b"9" * 10_000 + b"}")


@given(st.binary(max_size=100))
def test_base64_of_both_alphabets(content: bytes) -> None:
    assert base64_bytes(base64.b64encode(content).decode(), "x", 100) == content
    assert base64_bytes(base64.urlsafe_b64encode(content).decode(), "x", 100) == content


@pytest.mark.parametrize("text", ["é", "a", "ab=c", "ab\ncd", "ab cd", "a=bc"])
def test_what_is_no_base64(text: str) -> None:
    with pytest.raises(StatementError, match="x is not base64"):
        base64_bytes(text, "x", 100)


def envelope(found: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = found["dsseEnvelope"]
    return held


def material(found: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = found["verificationMaterial"]
    return held


CERTIFICATE = {"rawBytes": "AAAA"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda found: found.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
            "mediaType is not",
        ),
        (lambda found: found.update(messageSignature={}), "holds the signature of a file, not of a statement"),
        (lambda found: found.pop("dsseEnvelope"), "dsseEnvelope is not an object"),
        (lambda found: found.pop("verificationMaterial"), "verificationMaterial is not an object"),
        (lambda found: material(found).pop("publicKey"), "has not exactly one of"),
        (lambda found: material(found).update(certificate=CERTIFICATE), "has not exactly one of"),
        (lambda found: material(found).update(publicKey=[]), "verificationMaterial.publicKey is not an object"),
        (
            lambda found: material(found).update(publicKey={"hint": 1}),
            "publicKey.hint is not a text",
        ),
        (lambda found: envelope(found).update(payloadType="text/plain"), "payloadType is not application/vnd.in-toto"),
        (lambda found: envelope(found).update(payload=1), "payload is not a text"),
        (lambda found: envelope(found).update(payload="?"), "payload is not base64"),
        (lambda found: envelope(found).update(signatures=[]), "signatures holds 0, and must hold 1 to 4"),
        (lambda found: envelope(found).update(signatures=["x"]), r"signatures\[0\] is not an object"),
        (lambda found: envelope(found).update(signatures=[{}]), r"signatures\[0\].sig is not a text"),
        (lambda found: envelope(found).update(signatures=[{"sig": "A" * 4000}]), "sig has more than 2,048 bytes"),
    ],
)
def test_what_is_no_bundle(change: Change, words: str) -> None:
    found = json.loads(signed(about(MODEL)))
    change(found)
    with pytest.raises(StatementError, match=words):
        read_bundles("x.json", json.dumps(found).encode())


def test_chains_are_bounded() -> None:
    found = json.loads(signed(about(MODEL)))
    for chain, words in (
        ([CERTIFICATE] * (MAX_CHAIN + 1), "holds 5, and must hold 1 to 4"),
        ([], "holds 0"),
        ([1], "not an"),
    ):
        found["verificationMaterial"] = {"x509CertificateChain": {"certificates": chain}}
        with pytest.raises(StatementError, match=words):
            read_bundles("x.json", json.dumps(found).encode())
    found["verificationMaterial"] = {"certificate": CERTIFICATE}
    assert read_bundles("x.json", json.dumps(found).encode())[0].chain == (b"\0\0\0",)


SLSA = "https://slsa.dev/provenance/v1"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            {**about(MODEL), "_type": "https://in-toto.io/Statement/v0.1"},
            "_type is not https://in-toto.io/Statement/v1",
        ),
        ({**about(MODEL), "subject": []}, "subject names nothing with a digest.sha256"),
        (
            {**about(MODEL), "subject": [{"digest": {"sha512": "0" * 128}}]},
            "subject names nothing with a digest.sha256",
        ),
        ({**about(MODEL), "subject": [{"digest": {"sha256": "A" * 64}}]}, "not 64 lower-case hex digits"),
        ({**about(MODEL), "subject": [{"digest": {"sha256": MODEL[:63]}}]}, "not 64 lower-case hex digits"),
        (
            {**about(MODEL), "subject": about(MODEL)["subject"] * (MAX_SUBJECTS + 1)},
            "subject holds 129, and may",
        ),
        ({**about(MODEL), "predicate": []}, "predicate is not an object"),
        (about(MODEL, sources=[RAW] * (MAX_SOURCES + 1)), "predicate.sources holds 1,025, and may hold 1,024"),
        (about(MODEL, steps=[{"what": "a", "how": "b"}]), r"transformations\[0\] is not an object of exactly"),
        (about(MODEL, steps=[{"what": "a", "how": "b", "why": "c"}] * 65), "not a list of at most 64"),
        (
            {**about(MODEL), "predicateType": SLSA, "predicate": {"buildDefinition": []}},
            "buildDefinition is not an",
        ),
        ({**one_file(MODEL), "subject": one_file(MODEL)["subject"] * 2}, "subject names 2 models"),
        ({**one_file(MODEL), "predicate": {"resources": []}}, "predicate.resources holds 0 files"),
        (files_statement("m", [Resource("a", MODEL), Resource("a", RAW)]), "predicate.resources names a file twice"),
    ],
)
def test_what_is_no_statement(statement: dict[str, Any], words: str) -> None:
    with pytest.raises(StatementError, match=words):
        read_statement(json.dumps(statement).encode())


@pytest.mark.parametrize("digest", ["zz", "a b", "0" * 130, "abc"])
def test_digests_of_files_are_hex(digest: str) -> None:
    statement = one_file(MODEL)
    statement["predicate"]["resources"][0]["digest"] = digest
    with pytest.raises(StatementError, match=r"predicate.resources\[0\].digest is not a digest in hex"):
        read_statement(json.dumps(statement).encode())


def test_a_shard_is_not_taken_for_its_file() -> None:
    statement = one_file(MODEL)
    statement["predicate"]["serialization"]["method"] = "shards"
    assert MODEL not in read_statement(json.dumps(statement).encode()).digests


def test_unknown_members_are_passed_over() -> None:
    """As in-toto's rules for parsers have it."""
    statement = {**about(MODEL), "later": 1}
    statement["predicate"]["later"] = {}
    assert read_statement(json.dumps(statement).encode()).digests == {MODEL}
