from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.sidecar.harness import Running, settings


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts sidecars; changes to the configuration as keyword arguments."""
    started: list[Running] = []

    def start(context=None, **changes) -> Running:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Running(settings(**changes), folder, context))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def running(run: Callable[..., Running]) -> Running:
    return run()
