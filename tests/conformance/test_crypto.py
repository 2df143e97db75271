"""Wycheproof's AES-SIV and HMAC-SHA-256 against what tokens and pseudonyms are made with."""

from __future__ import annotations

import hmac
import json
from collections import Counter
from hashlib import sha256
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from modelward.privacy.pseudonym import keyed
from tests.conformance.corpora import DATA


def groups(name: str) -> list[dict[str, Any]]:
    path = DATA / "crypto" / name
    if not path.exists():
        pytest.fail(f"{path} is not there; set MODELWARD_DATA to the folder with the corpora")
    found: list[dict[str, Any]] = json.loads(path.read_text())["testGroups"]
    return found


def test_aes_siv() -> None:
    counts: Counter[str] = Counter()
    for test in (test for group in groups("aes_siv_cmac_test.json") for test in group["tests"]):
        key, aad, message, ciphertext = (bytes.fromhex(test[name]) for name in ("key", "aad", "msg", "ct"))
        cipher, number = AESSIV(key), test["tcId"]
        if test["result"] == "valid":
            assert cipher.encrypt(message, [aad]) == ciphertext, number
            assert cipher.decrypt(ciphertext, [aad]) == message, number
        else:
            with pytest.raises(InvalidTag):
                cipher.decrypt(ciphertext, [aad])
        counts[test["result"]] += 1
    assert sum(counts.values()) == 442
    assert counts["invalid"] > 100


def test_hmac_sha_256() -> None:
    counts: Counter[str] = Counter()
    for group in groups("hmac_sha256_test.json"):
        size = group["tagSize"] // 8
        for test in group["tests"]:
            key, message, tag = (bytes.fromhex(test[name]) for name in ("key", "msg", "tag"))
            inner, outer = keyed(sha256(key).digest() if len(key) > 64 else key)
            inner.update(message)
            outer.update(inner.digest())
            assert hmac.compare_digest(outer.digest()[:size], tag) is (test["result"] == "valid"), test["tcId"]
            counts[test["result"]] += 1
    assert sum(counts.values()) == 174
    assert counts["invalid"] > 50
