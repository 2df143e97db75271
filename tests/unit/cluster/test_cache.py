from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster import cache

ROOT = Path(__file__).parents[3]


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_a_key_is_that_of_its_parts_and_of_no_others(some: list[str], others: list[str]) -> None:
    assert (cache.key(*some) == cache.key(*others)) == (some == others)


def test_where_the_cache_is(monkeypatch, tmp_path: Path) -> None:
    assert cache.root() == tmp_path
    monkeypatch.delenv("MODELWARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache.root() == Path("/somewhere/modelward")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.root() == Path.home() / ".cache" / "modelward"


def test_scratch_folders_go_even_when_the_work_fails() -> None:
    with pytest.raises(ZeroDivisionError), cache.scratch() as folder:  # noqa: PT012 - the failure is inside the scratch
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        1 / 0  # noqa: B018
    assert not folder.exists()


def test_the_lock_keeps_a_second_run_out_and_what_was_left_behind_goes(tmp_path: Path) -> None:
    left_behind = cache.folder("tmp", "of-an-interrupted-run")
    program = "from tests.cluster import cache\nwith cache.lock(): print('in')"
    with cache.lock():
        assert not left_behind.exists()
        second = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert b"waiting" in second.stderr.readline()
        assert second.poll() is None
    out, _ = second.communicate(timeout=20)
    assert (second.returncode, out) == (0, b"in\n")
