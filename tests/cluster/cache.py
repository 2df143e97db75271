"""The cache: one folder outside the checkout, shared by all checkouts of a user, safe to delete at any time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def root() -> Path:
    """The cache's folder; ``MODELWARD_CACHE`` moves it."""
    if override := os.environ.get("MODELWARD_CACHE"):
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelward"


def folder(*names: str) -> Path:
    """A folder of the cache, made when it is not there."""
    path = root().joinpath(*names)
    path.mkdir(parents=True, exist_ok=True)
    return path


def key(*parts: str | bytes) -> str:
    """Ten hexadecimal digits that change when any of ``parts`` does, or where one ends and the next begins."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:10]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for intermediate files, gone afterwards; on the cache's disk, so that files can be renamed out of it."""
    path = Path(tempfile.mkdtemp(dir=folder("tmp")))
    try:
        yield path
    finally:
        remove_tree(path)


def remove_tree(root: Path) -> None:
    """Remove a folder, but nothing that is mounted in it: an interrupted debootstrap leaves /proc there."""
    mounts = Path("/proc/self/mounts")
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.exists() else []
    inside = [line.split()[1] for line in lines if line.split()[1].startswith(f"{root}/")]
    for mount in reversed(inside):
        subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def lock() -> Iterator[None]:
    """Hold the cache for this process. The kernel lets go of it when the process ends, however that happens."""
    with (folder() / "lock").open("a+") as file:
        _wait_for(file.fileno())
        _sweep()
        yield


def _wait_for(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another run is working on the cluster: waiting for it to end", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sweep() -> None:
    """Remove what an interrupted run left behind. Only for the holder of the lock."""
    for path in folder("tmp").iterdir():
        remove_tree(path)
