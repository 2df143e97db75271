from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelward.reporting.compose import compose
from modelward.reporting.page import page
from tests.browser.chromium import Browser, browser
from tests.unit.reporting.sample import HOSTILE, sources


@pytest.fixture(scope="session")
def started() -> Iterator[Browser]:
    with browser() as tab:
        yield tab


@pytest.fixture
def tab(started: Browser) -> Browser:
    """The browser as it was at first: 1280 x 900 and light."""
    started.resize(1280, 900)
    started.look()
    return started


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the example's page."""
    return _written(tmp_path_factory.mktemp("page") / "report.html", page(compose(sources())))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a page all of whose texts were written by an attacker."""
    return _written(tmp_path_factory.mktemp("page") / "hostile.html", page(compose(sources(HOSTILE))))


def _written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return path.as_uri()
