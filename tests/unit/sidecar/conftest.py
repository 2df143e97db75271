from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelward.detect.probing import Learning
from modelward.sidecar import probes
from tests.unit.sidecar.harness import Running, settings, several


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts sidecars; changes to the configuration as keyword arguments."""

    def make(folder: Path, context: Any = None, **changes: Any) -> Running:
        return Running(settings(**changes), folder, context)

    with several(tmp_path, make) as start:
        yield start


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
