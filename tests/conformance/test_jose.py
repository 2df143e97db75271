"""Wycheproof's JSON Web Signatures against the keys and algorithms that tokens are verified with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jwt
import pytest

from modelward.sidecar.config import ConfigError, Issuer
from modelward.sidecar.problems import Refusal
from modelward.sidecar.tokens import _choose, _read_keys
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
        keys = _read_keys(Issuer(name="i", issuer="i", audiences=["a"], jwks={"keys": [key]}))
        chosen = _choose(keys, jwt.get_unverified_header(text))
        jwt.api_jws.decode(text, chosen.key, algorithms=list(chosen.algorithms))
    except (ConfigError, Refusal, jwt.PyJWTError, ValueError):
        return False
    return True


@pytest.mark.parametrize(("key", "test"), list(vectors()))
def test_invalid_signatures_never_verify(key: dict[str, Any], test: dict[str, Any]) -> None:
    held = verifies(key, test["jws"])
    if test["result"] == "invalid":
        assert not held, test["comment"]


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
