"""What a process beside the sidecar's own is started with."""

import os


def environment() -> dict[str, str]:
    """What it needs to find its code, and one thread for each: several processes are the parallelism."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
