"""The real model servers behind the sidecar: the example's model in each of them, on a port of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "breast-cancer"
MADE = ROOT / "build" / "server"  # MLServer's environment and the model, as serve.py makes them
MODEL = "wdbc"


@dataclass(frozen=True)
class Server:
    """A model server: how it is started, given a folder of its own, and the version by which it knows the model.

    `version`: None where it knows none, and answers 501 for a path that names one.
    """

    start: Callable[[Path], AbstractContextManager[int]]
    version: str | None


@contextlib.contextmanager
def mlserver(folder: Path) -> Iterator[int]:
    """MLServer; the first time its environment is made, which takes minutes."""
    _prepare()
    shutil.copytree(MADE / "srv", folder)
    port = free_port()
    for name, changes in (
        ("settings.json", {"http_port": port, "grpc_port": free_port()}),
        ("model-settings.json", {"version": "v1"}),
    ):
        path = folder / name
        document = json.loads(path.read_text())
        inner = document["parameters"] if name == "model-settings.json" else document
        inner.update(changes)
        path.write_text(json.dumps(document))
    with _running(folder, port, MADE / "bin" / "python", MADE / "bin" / "mlserver", "start", folder):
        yield port


@contextlib.contextmanager
def kserve(folder: Path) -> Iterator[int]:
    """KServe's Python server, in the environment that `make conformance-oip` makes."""
    _prepare()
    folder.mkdir()
    port = free_port()
    options = ("--model_name", MODEL, "--http_port", str(port), "--enable_grpc", "false")
    program = Path(__file__).with_name("kserve_model.py")
    python = ROOT / "build" / "kserve" / "bin" / "python"
    with _running(folder, port, python, program, MADE / "srv" / "model.joblib", *options):
        yield port


SERVERS = {"mlserver": Server(mlserver, "v1"), "kserve": Server(kserve, None)}


def _prepare() -> None:
    subprocess.run([sys.executable, EXAMPLE / "serve.py", "--only-prepare"], check=True)


@contextlib.contextmanager
def _running(folder: Path, port: int, *command: str | Path) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=subprocess.STDOUT, cwd=folder)
    try:
        for _ in range(600):
            if process.poll() is not None:
                sys.exit(f"the model server ended: {(folder / 'log').read_text()[-2000:]}")
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"):
                break
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
