"""A benchmark's table: in the terminal, and as a page of the documentation."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HEAD = """# What admission costs

Made by `make bench-admission` (`python -m tests.bench.admission`), which overwrites this page; the code says how each
figure comes about. Ratios are taken within a round of one run, with everything on the same cores: API server, etcd,
admission server and the client itself. So the machine may be another and the ratio still means something; the rates do
not travel.

- *bare*: no admission of modelward's. *VAP*: the ValidatingAdmissionPolicies of the chart alone. *webhook + VAP*: the
  webhook in front of them, one replica, as the chart has it but for a longer time-out.
- Two ClusterDataPolicies govern each ModelDeployment: `baseline`, and one that asks for the whole catalogue.
- Pods: *VAP* gets them with their sidecar, or it would refuse them; *webhook + VAP* has the sidecar put in.
- CPU is the kernel's account, less what a process takes idle. Where others worked on the same machine (the load is told
  below) rates and waiting times tell of them as well; CPU does so much less.
- The peer is kopf's own webhook server, which calls the very same judgement.
"""


@dataclass(frozen=True)
class Row:
    """A figure, and its goal where there is one."""

    name: str
    value: float
    goal: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def shown(self) -> str:
        if self.value >= 100:
            return f"{self.value:,.0f}"
        return f"{self.value:.2f}" if self.value >= 1 else f"{self.value:.3f}"

    @property
    def verdict(self) -> str:
        return "" if self.met is None else "met" if self.met else "MISSED"


def machine(programs: Path, how: str) -> str:
    """What it ran on, in a line."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = processors[0].split(":", 1)[1].strip() if processors else platform.machine()
    version = subprocess.run([programs / "kube-apiserver", "--version"], capture_output=True, text=True, check=True)
    load = f"load {os.getloadavg()[0]:.1f} when it ended"
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    kernel = f"Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    return f"{when}; {os.cpu_count()} x {model}; {kernel}; {version.stdout.strip()}; {how}; {load}"


def table(rows: list[Row], told: str) -> str:
    width = max(len(row.name) for row in rows)
    lines = [f"{row.name:<{width}}  {row.shown:>9}  {row.goal:<22} {row.verdict:<7} {row.note}" for row in rows]
    return "\n".join(["", told, "", *(line.rstrip() for line in lines), ""])


def markdown(rows: list[Row], told: str) -> str:
    lines = [f"| {row.name} | {row.shown} | {row.goal} | {row.verdict} | {row.note} |" for row in rows]
    return "\n".join([HEAD, told + ".", "", "| figure | | goal | | |", "|---|---:|---|---|---|", *lines, ""])
