"""What the fuzzers of the sidecar have kept, and some steps from there; `make fuzz` goes much further."""

from __future__ import annotations

import random

import pytest

from modelward.sidecar.reader import RequestReader
from tests.fuzz import configuration, grpc_messages, http_reader, tensors, token
from tests.fuzz.driver import Target

TARGETS = (http_reader.TARGET, tensors.TARGET, token.TARGET, configuration.TARGET, grpc_messages.TARGET)
KEPT = [pytest.param(target, name, id=f"{target.name}-{name}") for target in TARGETS for name in target.seeds()]


@pytest.mark.parametrize(("target", "name"), KEPT)
def test_what_the_fuzzers_have_kept(target: Target, name: str) -> None:
    target.one(target.seeds()[name])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_some_steps_from_there(target: Target) -> None:
    chance = random.Random(target.name)
    pool = sorted(target.seeds().values())
    for _ in range(300):
        target.one(target.mutate(chance.choice(pool), chance))


def test_the_oracles_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what is tested, each of them finds something."""
    monkeypatch.setattr("modelward.sidecar.schema.refuse_repeated", lambda *_: None)
    with pytest.raises(AssertionError, match="comes twice"):
        tensors.one(b'{"inputs":[{"name":"n","shape":[1],"datatype":"BYTES","data":["a"],"data":["b"]}],"id":"a"}')
    plain = RequestReader.on_body
    monkeypatch.setattr(RequestReader, "on_body", lambda self, body: (plain(self, body), plain(self, body)))
    with pytest.raises(AssertionError):
        http_reader.one(http_reader.TARGET.seeds()["length"])
    monkeypatch.setattr("modelward.sidecar.grpc.contents._packed", lambda values: bytes(len(values)))
    with pytest.raises(AssertionError, match="not what came"):
        grpc_messages.one(grpc_messages.TARGET.seeds()["datatypes"])
    monkeypatch.setattr("modelward.sidecar.tokens.TokenVerifier._claims", lambda *_: {"sub": "a", "exp": 1e10})
    with pytest.raises((AssertionError, KeyError)):
        token.one(b'sign {"alg":"EdDSA","kid":"k"}\n{"iss":"https://issuer.example"}')
