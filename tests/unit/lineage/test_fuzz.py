"""What the fuzzer of statements has kept, and some steps from there; `make fuzz` goes much further."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.statements import TARGET

SEEDS = TARGET.seeds()


@pytest.mark.parametrize("name", SEEDS)
def test_what_the_fuzzer_has_kept(name: str) -> None:
    TARGET.one(SEEDS[name])


def test_some_steps_from_there() -> None:
    chance = random.Random(0)
    for _ in range(500):
        TARGET.one(TARGET.mutate(chance.choice(list(SEEDS.values())), chance))
