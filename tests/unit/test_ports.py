from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ports

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_LAST_GIVEN", tmp_path / "last")


def test_each_is_given_once_and_to_one_process() -> None:
    command = [sys.executable, "-c", "from tests.ports import free_port\nfor _ in range(50): print(free_port())"]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    given = [int(port) for one in both for port in one.communicate()[0].split()]
    assert len(set(given)) == len(given) == 100
    assert all(ports.FIRST <= port <= ports.LAST for port in given)


def test_one_that_somebody_listens_on_is_passed_over_and_the_last_is_followed_by_the_first() -> None:
    ports._LAST_GIVEN.write_text(str(ports.LAST - 1))
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", ports.LAST))
        except OSError:
            pytest.fail(f"port {ports.LAST} is taken")
        assert ports.FIRST <= ports.free_port() < ports.LAST
