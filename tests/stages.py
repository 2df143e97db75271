"""Runs the whole of `make test`: each stage against its budget, the slow builds beside the quick stages.

What a stage prints goes to the terminal as it comes; the parts of the cluster are built in the background, with their
log in the cache, and waited for by the stages that need them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DATA = Path(os.environ.get("MODELWARD_DATA", ROOT.parent / "shared" / "data"))


@dataclass(frozen=True)
class Stage:
    """A command, what it shows, and the seconds that it should take at the most on two cores."""

    name: str
    shows: str
    command: tuple[str, ...]
    budget: int
    needs_cluster: bool = False


def _pytest(*arguments: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", "-q", *arguments)


STAGES = (
    Stage("lint", "ruff, rules and format", (str(BIN / "ruff"), "check", "--quiet"), 30),
    Stage("format", "ruff format", (str(BIN / "ruff"), "format", "--check", "--quiet"), 30),
    Stage("types", "mypy, strict", (str(BIN / "mypy"),), 180),
    Stage("contracts", "import-linter: pure core, thin edges", (str(BIN / "lint-imports"), "--no-cache"), 60),
    Stage("unit", "pure and in-process tests", _pytest("tests/unit", "-n", "2"), 60),
    Stage("conformance", f"public corpora in {DATA}", _pytest("tests/conformance"), 120),
    Stage(
        "integration",
        "a real etcd and kube-apiserver",
        _pytest("tests/integration/test_crds.py", "tests/integration/test_agreement.py"),
        300,
    ),
    Stage("processes", "controller, admission and pod policy on a real API server", _pytest("tests/integration"), 600),
    Stage("e2e", "the kind cluster", _pytest("tests/e2e", "--timeout", "900"), 900, needs_cluster=True),
)

# `processes` and `e2e` are run by name: together in one API server the former still get in each other's way.
DEFAULT = tuple(stage.name for stage in STAGES if stage.name not in ("processes", "e2e"))


def _say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


class _ClusterBuild:
    """The cluster and its images, made in the background."""

    def __init__(self) -> None:
        self._log = Path(tempfile.gettempdir()) / f"modelward-cluster-{os.getpid()}.log"
        self._began = time.monotonic()
        steps = ("tools", "up"), ("base",)
        commands = [f"{sys.executable} -m tests.cluster {verb}" for group in steps for verb in group]
        commands.append(f"{sys.executable} -m tests.cluster.build_images")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-euc", " && ".join(commands)], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
            )

    def wait(self) -> bool:
        """Wait for it, telling how it stands every half minute."""
        while self._process.poll() is None:
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                lines = self._log.read_text(errors="replace").strip().splitlines()
                print(
                    f"    cluster, {time.monotonic() - self._began:.0f} s: {lines[-1] if lines else '...'}", flush=True
                )
        if self._process.returncode:
            print(self._log.read_text(errors="replace")[-6000:])
            print(f"The cluster could not be made (exit {self._process.returncode}); the whole log: {self._log}")
        return self._process.returncode == 0

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


def _counts(report: Path) -> tuple[int, int]:
    if not report.exists():
        return 0, 0
    suites = list(ET.parse(report).getroot().iter("testsuite"))
    total = sum(int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) for suite in suites)
    failed = sum(int(suite.get("failures", 0)) + int(suite.get("errors", 0)) for suite in suites)
    return total - failed, failed


def _run(stage: Stage, cluster: _ClusterBuild | None) -> tuple[bool, float, int, int]:
    _say(f"{stage.name}: {stage.shows} (budget {stage.budget} s)")
    began = time.monotonic()
    if stage.name == "conformance" and not DATA.is_dir():
        print(f"    left out: no {DATA}; set MODELWARD_DATA to the folder with the corpora")
        return True, 0.0, 0, 0
    if cluster is not None and stage.needs_cluster:
        if not cluster.wait():
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
    # The way through the cluster is run by name (`make test-e2e`) until it has been seen whole.
    chosen = [stage for stage in STAGES if stage.name in (sys.argv[1:] or DEFAULT)]
    cluster = _ClusterBuild() if any(stage.needs_cluster for stage in chosen) else None
    results = []
    try:
        results.extend((stage, *_run(stage, cluster)) for stage in chosen)
    finally:
        if cluster is not None:
            cluster.stop()
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
