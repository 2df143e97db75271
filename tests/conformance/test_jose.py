"""Wycheproof's JSON Web Signatures against the keys and algorithms that tokens are verified with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from modelward.sidecar.config import ConfigError
from modelward.sidecar.keys import Keys, read_keys
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tokens import _chosen
from tests.conformance.corpora import files


def vectors() -> Iterator[Any]:
    for path in files("jose", "json_web_signature_test.json"):
        for group in json.loads(path.read_text())["testGroups"] if path.exists() else [{"tests": [{}]}]:
            key = group.get("public") or group.get("private")
            for test in group["tests"]:
                yield pytest.param(key, test, id=f"{test.get('tcId', 'the corpus is not there')}")


def verifies(key: dict[str, Any], text: str) -> bool:
    """Whether a token's signature would hold, by the very steps that a token goes through."""
    try:
        keys = Keys(read_keys("i", {"keys": [key]}))
        chosen = _chosen(keys, jwt.get_unverified_header(text))
        jwt.api_jws.decode(text, chosen.key, algorithms=list(chosen.algorithms))
    except (ConfigError, Refusal, jwt.PyJWTError, ValueError):
        return False
    return True


@pytest.mark.parametrize(("key", "test"), list(vectors()))
def test_invalid_signatures_never_verify(key: dict[str, Any], test: dict[str, Any]) -> None:
    held = verifies(key, test["jws"])
    if test["result"] == "invalid":
        assert not held, test["comment"]


def test_every_invalid_token_is_refused_and_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[tuple[str, str, bool]] = Counter()
    for key, test in (parameters.values for parameters in vectors()):
        kind = "shared secret" if key["kty"] == "oct" else "public key"
        counts[kind, test["result"], verifies(key, test["jws"])] += 1
    with capsys.disabled():
        for (kind, result, held), count in sorted(counts.items()):
            print(f"\nJWS, {kind:13} {result:10} {count:4} {'verified' if held else 'refused'}", end="")
    assert not [case for case in counts if case[2] and (case[0] == "shared secret" or case[1] == "invalid")]
    assert sum(count for (_, result, _), count in counts.items() if result == "invalid") >= 100


# Refused on purpose: the key is bound to another algorithm than the token's, or to one that does not exist (ES521).
OF_ANOTHER_ALGORITHM = {346, 347, 350, 351}


def test_valid_signatures_of_public_key_algorithms_verify() -> None:
    outcome = {
        test["tcId"]: verifies(key, test["jws"])
        for key, test in (parameters.values for parameters in vectors())
        if test["result"] == "valid" and key["kty"] != "oct"  # shared secrets never verify
    }
    assert len(outcome) >= 36
    assert {number for number, held in outcome.items() if not held} == OF_ANOTHER_ALGORITHM
