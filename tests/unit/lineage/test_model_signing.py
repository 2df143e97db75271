"""Bundles that model-signing made verify: `make conformance-signing` has it make new ones, and read ours."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

from modelward.lineage.bundle import read_bundles
from modelward.lineage.statement import read_statement
from tests.conformance.signing import KEPT, judged

FACTS = json.loads((KEPT / "facts.json").read_text())
AT = datetime.fromisoformat(FACTS["at"])
FILES = {path.name: path.read_bytes() for path in KEPT.iterdir()}


@pytest.mark.parametrize("name", ["file.sig", "folder.sig"])
def test_its_bundles_in_key_mode_verify(name: str) -> None:
    (found,) = read_bundles(name, FILES[name])
    for digest in read_statement(found.envelope.payload).digests:
        assert judged(FILES[name], digest, {"k.pub": FILES["P-256.pub"]}, "key:k") == "Signed"
        assert judged(FILES[name], digest, {"k.pub": FILES["P-384.pub"]}, "key:k") == "SignerNotTrusted"


def test_a_file_is_known_by_what_sha256sum_says_of_it() -> None:
    assert judged(FILES["file.sig"], FACTS["file"], {"k.pub": FILES["P-256.pub"]}, "key:k") == "Signed"


def test_its_bundles_in_certificate_mode_verify_while_the_certificate_holds() -> None:
    trust = {"authorities.pem": FILES["authorities.pem"]}
    content = FILES["certificate.sig"]
    assert judged(content, FACTS["file"], trust, FACTS["signer"], AT) == "Signed"
    assert judged(content, FACTS["file"], trust, "cert:somebody@else.example", AT) == "SignerNotTrusted"
    assert judged(content, FACTS["file"], trust, FACTS["signer"], AT + timedelta(days=366)) == "SignerNotTrusted"
