"""Runs the whole of `make test`: each stage against its budget, the slow builds beside the quick stages.

What a stage prints goes to the terminal as it comes; the parts of the cluster are built in the background, with their
log in the cache, and waited for by the stages that need them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DATA = Path(os.environ.get("MODELWARD_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class Stage:
    """A command, what it shows, the seconds that it should take at the most on two cores, and what it waits for."""

    name: str
    shows: str
    command: tuple[str, ...]
    budget: int
    needs: Literal["", "tools", "cluster"] = ""


def _pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", "-q", *arguments)


STAGES = (
    Stage("lint", "ruff, rules and format", (str(BIN / "ruff"), "check", "--quiet"), 30),
    Stage("format", "ruff format", (str(BIN / "ruff"), "format", "--check", "--quiet"), 30),
    Stage("types", "mypy, strict", (str(BIN / "mypy"),), 180),
    Stage(
        "calls",
        "mypy: each call in the tests fits what it calls",
        (str(BIN / "mypy"), "--config-file", "tests/mypy.ini", "tests"),
        90,
    ),
    Stage("contracts", "import-linter: pure core, thin edges", (str(BIN / "lint-imports"), "--no-cache"), 60),
    Stage(
        "unit",
        "pure and in-process tests",
        _pytest("tests/unit", "--ignore", "tests/unit/chart", "--ignore", "tests/unit/sidecar", "-n", "2"),
        60,
    ),
    Stage("sidecar", "the sidecar over real sockets, in real time", _pytest("tests/unit/sidecar", "-n", "4"), 120),
    Stage("browser", "the audit page in chromium", _pytest("tests/browser", "--timeout", "300"), 90),
    Stage("conformance", f"public corpora in {DATA}", _pytest("tests/conformance"), 120),
    Stage("chart", "the chart, rendered by Helm", _pytest("tests/unit/chart"), 60, needs="tools"),
    Stage(
        "integration",
        "every process against a real etcd and kube-apiserver, one a module",
        _pytest("tests/integration", "-n", "2", "--dist", "loadfile"),
        900,
        needs="tools",
    ),
    Stage("e2e", "the kind cluster", _pytest("tests/e2e", "--timeout", "900"), 900, needs="cluster"),
)


def _say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


class _Build:
    """The tools, the cluster and its images, made in the background while the quick stages run."""

    def __init__(self, needs: set[str]) -> None:
        module = [sys.executable, "-m", "tests.cluster"]
        self._log = Path(tempfile.gettempdir()) / f"modelward-build-{os.getpid()}.log"
        self._began = time.monotonic()
        self._commands = {"tools": [[*module, "tools"]]} if needs else {}
        if "cluster" in needs:
            self._commands["cluster"] = [[*module, "up"], [sys.executable, "-m", "tests.cluster.build_images"]]
        self._ended = {name: threading.Event() for name in self._commands}
        self._failed = ""
        self._process: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._make, daemon=True).start()

    def _make(self) -> None:
        with self._log.open("wb") as log:
            for name, commands in self._commands.items():
                for command in commands:
                    if not self._failed:
                        self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
                        if self._process.wait():
                            self._failed = f"`{' '.join(command[1:])}` ended with {self._process.returncode}"
                self._ended[name].set()

    def wait(self, need: str) -> bool:
        """Wait for it, telling how it stands every half minute; whether it is there."""
        while not self._ended[need].wait(timeout=30):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            print(f"    {need}, {time.monotonic() - self._began:.0f} s: {lines[-1] if lines else '...'}", flush=True)
        if self._failed:
            print(self._log.read_text(errors="replace")[-6000:])
            print(f"The {need} could not be made: {self._failed}; the whole log: {self._log}")
        return not self._failed

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._failed = self._failed or "stopped"
            self._process.terminate()
            self._process.wait()


def _counts(report: Path) -> tuple[int, int]:
    if not report.exists():
        return 0, 0
    suites = list(ET.parse(report).getroot().iter("testsuite"))
    total = sum(int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) for suite in suites)
    failed = sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)
    return total - failed, failed


def _run(stage: Stage, build: _Build) -> tuple[bool, float, int, int]:
    _say(f"{stage.name}: {stage.shows} (budget {stage.budget} s)")
    began = time.monotonic()
    if stage.name == "conformance" and not DATA.is_dir():
        print(f"    left out: no {DATA}; set MODELWARD_DATA to the folder with the corpora")
        return True, 0.0, 0, 0
    if stage.needs:
        if not build.wait(stage.needs):
            return False, time.monotonic() - began, 0, 1
        began = time.monotonic()  # the budget is the tests'; the build's time is told apart
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        is_pytest = "pytest" in stage.command
        command = [*stage.command, *(["--junitxml", str(report)] if is_pytest else [])]
        done = subprocess.run(command, cwd=ROOT, check=False)
        passed, failed = _counts(report)
    return done.returncode == 0, time.monotonic() - began, passed, failed


def main() -> int:
    """Run the stages named, or all; return the exit code."""
    chosen = [stage for stage in STAGES if not sys.argv[1:] or stage.name in sys.argv[1:]]
    build = _Build({stage.needs for stage in chosen} - {""})
    results = []
    try:
        results.extend((stage, *_run(stage, build)) for stage in chosen)
    finally:
        build.stop()
    _say("summary")
    for stage, ok, seconds, passed, failed in results:
        verdict = "ok" if ok else "FAILED"
        late = "  over budget" if seconds > stage.budget else ""
        tests = f"{passed} passed, {failed} failed" if passed or failed else ""
        print(f"  {verdict:<7} {stage.name:<12} {seconds:6.0f} s of {stage.budget:>4}{late:<13} {tests}")
    print(f"\n{sum(row[3] for row in results)} passed, {sum(row[4] for row in results)} failed")
    return 0 if all(row[1] for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
