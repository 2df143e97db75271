"""Runs the example's model server on this machine, on 127.0.0.1:8080, as its image does in a cluster.

The first time it makes an environment of the server's own in build/server (its pins conflict with modelward's) and
trains the model there: a few minutes. Afterwards it starts in seconds. MLServer needs Python 3.10 to 3.12.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER = HERE / "server"
BUILD = HERE.parents[1] / "build" / "server"
PYTHONS = ("python3.12", "python3.11", "python3.10")


def environment(folder: Path) -> Path:
    """Return the folder with the environment's programs; made when it is not there or not what the lock says."""
    lock = SERVER / "requirements.txt"
    stamp = folder / "locked"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="ascii") != digest:
        python = _python()
        print(f"serve.py: making the model server's environment in {folder} with {python}, a few minutes ...")
        _run(python, "-m", "venv", "--clear", folder)
        install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r")
        _run(folder / "bin" / "python", *install, lock)
        stamp.write_text(digest, encoding="ascii")
    return folder / "bin"


def model(bin_dir: Path, folder: Path) -> Path:
    """Return the folder that MLServer serves: settings, and the model, trained unless its digest is as it should be."""
    folder.mkdir(exist_ok=True)
    for name in ("settings.json", "model-settings.json"):
        shutil.copy(SERVER / name, folder)
    if not _as_published(folder / "model.joblib"):
        _run(bin_dir / "python", SERVER / "dataset.py", folder)
        _run(bin_dir / "python", SERVER / "train.py", folder / "wdbc.csv", folder / "model.joblib")
        if not _as_published(folder / "model.joblib"):
            sys.exit(f"serve.py: {folder / 'model.joblib'} has another digest than server/SHA256SUMS names")
    return folder


def _as_published(path: Path) -> bool:
    sums = (SERVER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return path.exists() and f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" in sums


def _python() -> str:
    if (3, 10) <= sys.version_info < (3, 13):
        return sys.executable
    found = next(filter(None, map(shutil.which, PYTHONS)), None)
    if found is None:
        sys.exit(
            "serve.py: MLServer needs Python 3.10 to 3.12, and there is none on the PATH; or use the image instead"
        )
    return found


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode:
        sys.exit(f"serve.py: `{' '.join(str(part) for part in command)}` failed, see above")


def main() -> None:
    """Make what is missing, then become the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=BUILD, help="folder for environment and model (%(default)s)")
    parser.add_argument("--only-prepare", action="store_true", help="make what is missing and do not serve")
    args = parser.parse_args()
    bin_dir = environment(args.build)
    folder = model(bin_dir, args.build / "srv")
    if not args.only_prepare:
        server = str(bin_dir / "mlserver")
        os.execv(server, [server, "start", str(folder)])


if __name__ == "__main__":
    main()
