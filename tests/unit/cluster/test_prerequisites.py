from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import versions
from tests.cluster.commands import PrerequisiteError
from tests.cluster.prerequisites import bounding_set, ensure_valkey, go_version

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go1.26.8", (1, 26, 8)),
        ("go1.27", (1, 27, 0)),
        ("go1.27rc1", (1, 27, 0)),
        ("go1.26.8 X:nocoverageredesign", (1, 26, 8)),
        ("devel", (0,)),
    ],
)
def test_go_versions(text: str, version: tuple[int, ...]) -> None:
    assert go_version(text) == version


def test_a_go_that_cannot_be_read_is_too_old() -> None:
    assert go_version("gibberish") < versions.GO_AT_LEAST


def test_a_server_that_counts_is_found_or_the_command_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"redis-server": "/usr/bin/redis-server"}
    monkeypatch.setattr("shutil.which", there.get)
    assert ensure_valkey() == "/usr/bin/redis-server"
    there["valkey-server"] = "/usr/bin/valkey-server"
    assert ensure_valkey() == "/usr/bin/valkey-server"
    there.clear()
    monkeypatch.setattr("tests.cluster.prerequisites._on_debian", lambda: False)
    with pytest.raises(PrerequisiteError, match="apt-get install redis-server"):
        ensure_valkey()
    monkeypatch.setattr("tests.cluster.prerequisites._on_debian", lambda: True)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(PrerequisiteError, match="sudo apt-get install redis-server"):
        ensure_valkey()


def test_capability_sets() -> None:
    lacking = "Name:\tsh\nCapEff:\t000001ffffffffff\nCapBnd:\t000001fffeffffff\n"
    assert not bounding_set(lacking) >> 24 & 1
    assert bounding_set(lacking.replace("feff", "ffff")) >> 24 & 1
    assert bounding_set("Name:\tsh\n") >> 24 & 1


def run_cluster(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where only the programs in ``path`` are to be found, and Docker does not answer."""
    environment = {**os.environ, "PATH": str(path), "DOCKER_HOST": "unix:///nowhere.sock"}
    command = [sys.executable, "-m", "tests.cluster", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_docker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = run_cluster(tmp_path, "up")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "tests.cluster up: Docker does not answer at DOCKER_HOST=unix:///nowhere.sock: start it, or unset it\n"
    )


def test_a_go_that_is_missing_or_too_old_is_named(tmp_path: Path) -> None:
    missing = run_cluster(tmp_path, "tools")
    assert missing.returncode == 2
    assert missing.stderr.startswith("tests.cluster tools: Go is missing: install Go 1.26.6 or newer")
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho go1.19.8\n")
    go.chmod(0o755)
    old = run_cluster(tmp_path, "tools")
    assert old.returncode == 2
    assert old.stderr.startswith("tests.cluster tools: Go is too old (go1.19.8): install Go 1.26.6 or newer")


def test_an_unknown_kubernetes_is_named(tmp_path: Path) -> None:
    done = run_cluster(tmp_path, "tools", "--kubernetes", "1.29")
    assert done.returncode == 2
    assert "argument --kubernetes: '1.29': there are 1.30, 1.31," in done.stderr


def test_an_unknown_tool_is_named(tmp_path: Path) -> None:
    done = run_cluster(tmp_path, "tools", "kubectl", "terraform")
    assert done.returncode == 2
    assert done.stderr == (
        "tests.cluster tools: no such tool: terraform; "
        "there are kube-apiserver, etcd, kubectl, kind, helm, kube-controller-manager\n"
    )
