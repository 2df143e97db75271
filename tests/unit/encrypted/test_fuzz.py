"""What the fuzzer of the homomorphic path has kept, and some steps from there; `make fuzz` goes much further."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("Pyfhel")
from tests.fuzz.encrypted import TARGET, world


@pytest.mark.parametrize("name", TARGET.seeds())
def test_what_the_fuzzer_has_kept(name: str) -> None:
    TARGET.one(TARGET.seeds()[name])


def test_some_steps_from_there() -> None:
    chance = random.Random(3)
    pool = sorted(TARGET.seeds().values())
    for _ in range(60):
        TARGET.one(TARGET.mutate(chance.choice(pool), chance))


def test_the_oracle_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    world()
    monkeypatch.setattr("modelward.encrypted.envelope.check_mac", lambda *_: None)
    with pytest.raises(AssertionError, match="nobody signed"):
        TARGET.one(TARGET.seeds()["answer-zeros"])
