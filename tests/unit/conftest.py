from __future__ import annotations

from hypothesis import settings

# A deadline measures the load of the machine as much as the code: what must be fast has a benchmark in tests/bench.
settings.register_profile("modelward", deadline=None)
settings.load_profile("modelward")
