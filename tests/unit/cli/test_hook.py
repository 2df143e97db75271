"""The hook for pre-commit: its entry, run as pre-commit runs it, with every changed YAML and JSON file."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modelward.cli.check import command
from tests.corpus import good

ROOT = Path(__file__).parents[3]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    bad = {**good(), "spec": {"model": {"image": "wdbc:latest"}}}
    files = {
        "models/good.yaml": yaml.safe_dump(good()),
        "models/bad.yaml": yaml.safe_dump(bad),
        "compose.yaml": "services: {}\n",
        "playbook.yaml": "- hosts: all\n",
        "package.json": '{"name": "x"}',
        "chart/templates/pod.yaml": "image: {{ .Values.image }}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run_hook(repository: Path, *files: str) -> subprocess.CompletedProcess[str]:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    program, *arguments = shlex.split(hook["entry"])
    assert (program, hook["language"]) == ("modelward", "python")
    command = [sys.executable, "-m", "modelward.cli.main", *arguments, *files]
    path = os.pathsep.join([str(ROOT / "operator"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PRE_COMMIT": "1"}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def test_files_of_other_tools_are_passed_over(repository: Path) -> None:
    others = ("compose.yaml", "playbook.yaml", "package.json", "chart/templates/pod.yaml")
    done = run_hook(repository, "models/good.yaml", *others)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 model judged, 1 passes" in done.stdout


def test_a_bad_manifest_stops_the_commit(repository: Path) -> None:
    done = run_hook(repository, "models/good.yaml", "models/bad.yaml")
    assert done.returncode == 1
    assert "ENC-001" in done.stdout


def test_what_the_page_says_can_be_said() -> None:
    """Every command and option of the how-to exists, and its examples are YAML."""
    page = (ROOT / "docs" / "how-to" / "check-in-ci.md").read_text()
    commands = re.findall(r"modelward check (?:[^`#\n]*)", page)
    assert len(commands) >= 6
    for text in commands:
        arguments = [word for word in shlex.split(text)[2:] if word != "|"]
        if any(not word.startswith("-") or word == "-" for word in arguments):
            command.make_context("check", arguments)
    filled = page.replace("<address of the modelward repository>", "x").replace("<tag>", "v1")
    for block in re.findall(r"```yaml\n(.*?)```", filled, re.DOTALL):
        assert yaml.safe_load(block)
