"""How long `modelward check examples/` takes as the shell sees it: python -m tests.bench.check_startup [runs].

Each run is a process of its own. Runs alternate with an empty interpreter and with one that only imports pydantic, so
that a figure can be read against the machine it was taken on. Wall time is what a person waits; CPU time (user and
system, of the process) is what remains when others use the cores as well.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import pydantic, yaml, click'": ["-c", "import pydantic.main, yaml, click"],
    "modelward check examples/": ["-m", "modelward.cli.main", "check", "examples/"],
}
GOAL_SECONDS = 1.0


def once(arguments: list[str]) -> tuple[float, float]:
    """Return the seconds of wall time and of CPU time that one run took."""
    before = os.times()
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    wall = time.perf_counter() - start
    after = os.times()
    assert done.returncode in (0, 1), done.returncode
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, cpu


def main() -> int:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():  # files into the page cache, bytecode onto the disk
        once(arguments)
    for _ in range(runs):
        for name, arguments in COMMANDS.items():
            times[name].append(once(arguments))
    print(f"{runs} runs each, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds")
    print(f"{'':<42} {'wall p50':>9} {'min':>6} {'max':>6} {'CPU p50':>8}")
    for name, measured in times.items():
        walls = [wall for wall, _ in measured]
        cpu = statistics.median(cpu for _, cpu in measured)
        print(f"{name:<42} {statistics.median(walls):>9.3f} {min(walls):>6.3f} {max(walls):>6.3f} {cpu:>8.3f}")
    median = statistics.median(cpu for _, cpu in times["modelward check examples/"])
    met = median <= GOAL_SECONDS
    print(f"goal: {GOAL_SECONDS:.1f} s on an idle core, where wall time is CPU time: {'met' if met else 'missed'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
