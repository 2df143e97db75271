from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.cluster import commands
from tests.cluster.commands import ClusterError, pipe, run

if TYPE_CHECKING:
    from pathlib import Path


def test_output_is_returned_and_logged() -> None:
    assert run(["cat"], stdin="hello") == "hello"
    assert "$ cat\nhello\n" in commands.log_file().read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", "echo the reason >&2; exit 3"], "the reason"),
        (["sh", "-c", "echo"], None),
        (["no-such-program"], "no-such-program is not on this machine"),
        (["sleep", "5"], "`sleep 5` had not ended after 1 s"),
    ],
)
def test_a_failure_says_what_failed_and_why(command: list[str], said: str | None) -> None:
    if said is None:
        run(command)
        return
    with pytest.raises(ClusterError, match=said):
        run(command, timeout=0.6)


def test_a_pipe_moves_bytes(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(256)) * 4096)
    pipe(["cat", tmp_path / "in"], ["cp", "/dev/stdin", tmp_path / "out"])
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        ("print('x')", "import sys; sys.exit('the sink broke')"),
        ("import sys; sys.exit('the source broke')", "import sys; sys.stdin.read()"),
    ],
)
def test_a_pipe_fails_when_either_end_does(source: str, sink: str) -> None:
    with pytest.raises(ClusterError, match="broke"):
        pipe([sys.executable, "-c", source], [sys.executable, "-c", sink])


def test_the_tail_of_a_long_file(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(100_000))))
    assert commands.tail(tmp_path / "log", lines=2) == "99998\n99999"
