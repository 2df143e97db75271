"""What each process installs, as the locks say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

LOCKS = sorted((Path(__file__).parents[2] / "requirements").glob("*.txt"))
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


def packages(lock: Path) -> set[str]:
    return {name for name, _ in PINNED.findall(lock.read_text().lower())}


@pytest.mark.parametrize("name", ["sidecar", "admission", "jobs"])
def test_what_stands_in_the_path_of_requests_holds_no_cluster_client(name: str) -> None:
    (lock,) = [lock for lock in LOCKS if lock.stem == name]
    assert not packages(lock) & {"kopf", "kubernetes", "kubernetes-asyncio"}
    assert "msgspec" in packages(lock)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_versions_and_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    pinned = re.findall(r"^\S+==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)+", text, re.MULTILINE)
    assert len(pinned) == len(PINNED.findall(text)), f"something in {lock.name} has no hash"


def test_the_wheel_that_is_kept_is_of_the_sources_that_the_lock_names() -> None:
    path = Path(__file__).parents[2] / "requirements" / "pyfhel_wheel.py"
    pyfhel_wheel = runpy.run_path(str(path))
    locked = pyfhel_wheel["locked"]()
    assert re.fullmatch(r"pyfhel==\S+ \\\n(    --hash=sha256:[0-9a-f]{64}( \\)?\n)+", locked), locked
    folder = pyfhel_wheel["folder"]
    assert folder(locked) == folder(locked) != folder(locked.replace("sha256:0", "sha256:1"))
