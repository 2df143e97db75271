from __future__ import annotations

import os

from hypothesis import settings

# A deadline measures the load of the machine as much as the code: what must be fast has a benchmark in tests/bench.
# Few examples a run, and many runs; HYPOTHESIS_PROFILE=thorough looks long and hard, for what was just written.
settings.register_profile("modelward", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "modelward"))
