"""Builds Pyfhel's wheel once for each Python version and keeps it outside the checkout; prints the wheel's path.

Pyfhel is published as sources only and takes minutes to compile; installers forget such wheels where the package index
sends no caching headers. The sources are those that the lock's hash names, and the cache's key holds that hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLCHAIN = HERE / "seal.cmake"
_LOCKED = re.compile(r"^pyfhel==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)


def locked() -> str:
    """Return the lines of the lock that name Pyfhel's sources and their hash."""
    found = _LOCKED.search((HERE / "he.txt").read_text(encoding="utf-8"))
    if found is None:
        sys.exit("requirements/he.txt names no Pyfhel with a hash: `make lock` writes it")
    return found[0]


def folder(requirement: str) -> Path:
    """Return where the wheel is kept for this interpreter."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("MODELWARD_CACHE") or Path(cache) / "modelward")
    parts = (requirement, TOOLCHAIN.read_text(encoding="utf-8"), sys.version, sys.platform)
    return root / "wheels" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def main() -> None:
    """Build the wheel unless it is there."""
    requirement = locked()
    kept = folder(requirement)
    if not list(kept.glob("*.whl")):
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as work:
            wanted = Path(work) / "requirements.txt"
            wanted.write_text(requirement, encoding="utf-8")
            # Without the tool chain file, SEAL's build would clone repositories.
            build = ["wheel", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
            subprocess.run(
                [sys.executable, "-m", "pip", *build, "--wheel-dir", work, "-r", wanted],
                env={**os.environ, "CMAKE_TOOLCHAIN_FILE": str(TOOLCHAIN)},
                check=True,
            )
            (built,) = Path(work).glob("*.whl")
            built.rename(kept / built.name)  # whole or not at all
    print(next(kept.glob("*.whl")))


if __name__ == "__main__":
    main()
