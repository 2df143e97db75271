"""What the fuzzer of encrypted counters has kept, and some steps from there; `make fuzz` goes much further."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("Pyfhel")

from tests.fuzz.aggregates import TARGET

SEEDS = TARGET.seeds()


@pytest.mark.parametrize("name", SEEDS)
def test_what_the_fuzzer_has_kept(name: str) -> None:
    TARGET.one(SEEDS[name])


def test_some_steps_from_there() -> None:
    chance = random.Random(0)
    for _ in range(100):
        TARGET.one(TARGET.mutate(chance.choice(list(SEEDS.values())), chance))
