from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# A run fails for what was changed, not for what chance drew, nor for how busy the machine is: the examples are the same
# each time, and neither a deadline nor a slow draw is a finding (what must be fast has a benchmark in tests/bench).
# HYPOTHESIS_PROFILE=thorough draws anew, long and hard: for what was just written, and now and then for all of it.
_SLOW = [HealthCheck.too_slow]
settings.register_profile(
    "modelward", deadline=None, max_examples=40, derandomize=True, print_blob=True, suppress_health_check=_SLOW
)
settings.register_profile("thorough", deadline=None, max_examples=2000, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "modelward"))

_STATES: dict[str, Any] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a module draws by its `RNG` is the same in every test, whichever ran before it, on whichever worker."""
    module = getattr(item, "module", None)
    if (rng := getattr(module, "RNG", None)) is not None:
        rng.bit_generator.state = _STATES.setdefault(module.__name__, rng.bit_generator.state)
