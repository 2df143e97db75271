"""What the fuzzer of baseline files has kept, and some steps from there; `make fuzz` goes much further."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.baseline import TARGET

SEEDS = TARGET.seeds()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SEEDS)
def test_what_the_fuzzer_has_kept(name: str) -> None:
    TARGET.one(SEEDS[name])


@pytest.mark.filterwarnings("ignore")
def test_some_steps_from_there() -> None:
    chance = random.Random(0)
    pool = list(SEEDS.values())
    for _ in range(150):
        TARGET.one(TARGET.mutate(chance.choice(pool), chance))
