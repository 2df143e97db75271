from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from modelward.detect.probing import Learning
from modelward.sidecar import probes
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


@pytest.fixture(autouse=True)
def probes_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same probes in every run: with others, other ordinary rows are found strange, as many as a rate allows.

    How often which are found is tested where the detectors are. And a busy machine is no model that does not answer.
    """
    monkeypatch.setattr(probes, "Learning", lambda probe, rate: Learning(probe, rate, np.random.default_rng(0)))
    monkeypatch.setattr(probes, "SECONDS", 60.0)
