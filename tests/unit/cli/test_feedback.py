"""`feedback`: scores of flagged requests, from a log that holds; `release`: what kubectl is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from click.testing import CliRunner

from modelward.cli.feedback import command
from modelward.cli.release import command as release
from modelward.detect.feedback import FeedbackError, from_bytes
from modelward.logchain import Linker

BASELINE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def record(request: str, **more: Any) -> dict[str, Any]:
    return {"time": "2026-11-25T10:00:00.000Z", "request": request, "status": 403, **more}


LINES: list[dict[str, Any]] = [
    {"time": "t", "start": {"baseline": BASELINE, "detectors": "Ensemble=0.01 Tails=0.05", "random": "x"}},
    record("r1", verdict="anomalous", detector="Ensemble", scores={"Ensemble": 1.5, "Tails": 0.3}),
    record("r2"),
    record("r3", verdict="anomalous", detector="Extraction"),
    {"time": "t", "configuration": {"generation": 2, "baseline": OTHER, "detectors": "Ensemble=0.02"}},
    record("r4", verdict="anomalous", detector="Ensemble", scores={"Ensemble": 7.25}),
    {"time": "t", "end": {}},
]


def log(folder: Path, lines: list[dict[str, Any]] = LINES) -> Path:
    path = folder / "access.log"
    path.write_bytes(b"".join(line + b"\n" for line in Linker().link([json.dumps(each).encode() for each in lines])))
    return path


def run(folder: Path, *benign: str, path: Path | None = None) -> Any:
    options = [word for reference in benign for word in ("--benign", reference)]
    return CliRunner().invoke(command, [str(path or log(folder)), *options, "--out", str(folder / "benign.json")])


def test_scores_are_taken_with_their_rates_and_baseline(tmp_path: Path) -> None:
    result = run(tmp_path, "r1")
    assert result.exit_code == 0, result.output
    feedback = from_bytes((tmp_path / "benign.json").read_bytes())
    assert feedback.baseline == BASELINE
    (row,) = feedback.rows
    assert (row.request, row.scores, row.rates) == (
        "r1",
        {"Ensemble": 1.5, "Tails": 0.3},
        {"Ensemble": 0.01, "Tails": 0.05},
    )


@pytest.mark.parametrize(
    ("benign", "told"),
    [
        (["r9"], "not in this log: r9"),
        (["r1", "r2"], "r2: not flagged by a detector of single rows"),
        (["r3"], "r3: not flagged"),
        (["r1", "r4"], "different baselines"),
    ],
)
def test_what_cannot_be_counted_is_said(tmp_path: Path, benign: list[str], told: str) -> None:
    result = run(tmp_path, *benign)
    assert result.exit_code == 2
    assert told in result.output
    assert not (tmp_path / "benign.json").exists()


@pytest.mark.parametrize(
    "odd",
    [
        record("r", scores=5),
        record("r", scores={"Ensemble": "much"}),
        record("r", scores={"Ensemble": -1}),
        record("r", scores={"Ensemble": 1.5}, time=7),
        record([], scores={"Ensemble": 1.5}),  # type: ignore[arg-type]
    ],
)
def test_a_log_that_no_sidecar_wrote_is_said_and_nothing_written(tmp_path: Path, odd: dict[str, Any]) -> None:
    """Anybody can link lines: what is in them is not trusted for that."""
    start = {"time": "t", "start": {"baseline": BASELINE, "detectors": "Ensemble=1e Tails=0.05", "random": "x"}}
    result = run(tmp_path, "r", path=log(tmp_path, [start, odd, LINES[-1]]))
    assert (result.exit_code, result.output.startswith("modelward: ")) == (2, True), result.output
    assert not (tmp_path / "benign.json").exists()


def test_a_changed_log_counts_for_nothing(tmp_path: Path) -> None:
    path = log(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"1.5", b"1.1"))
    result = run(tmp_path, "r1", path=path)
    assert result.exit_code == 1
    assert "not as the sidecar wrote it (line 2" in result.output
    assert not (tmp_path / "benign.json").exists()


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello\n[]\n{}\n")
    result = run(tmp_path, "r1", path=path)
    assert (result.exit_code, "no access log" in result.output) == (2, True)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"baseline": "x", "rows": []}', b'{"baseline":"%b","rows":[]}' % BASELINE.encode(), b"[" * 10_000],
)
def test_what_is_no_feedback_is_refused(content: bytes) -> None:
    with pytest.raises(FeedbackError, match="feedback"):
        from_bytes(content)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that writes down what it is told, and knows one model."""
    program = tmp_path / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/told\n'
        'case "$*" in *md-unknown*) echo "Error from server (NotFound)" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "told"


def test_release_sets_the_annotation(kubectl: Path) -> None:
    result = CliRunner().invoke(release, ["md/wdbc", "user:dr-lee=1", "-n", "clinic"])
    assert result.exit_code == 0, result.output
    assert kubectl.read_text().splitlines() == [
        "annotate",
        "--namespace=clinic",
        "--overwrite",
        "modeldeployments.modelward.io/wdbc",
        "modelward.io/release=user:dr-lee=1",
        ANY,  # when: asked for again, it is done again
    ]


def test_release_says_what_is_wrong(kubectl: Path) -> None:
    for model, told in (("pod/x", "is not md/NAME"), ("md/", "is not md/NAME"), ("md-unknown", "NotFound")):
        result = CliRunner().invoke(release, [model, "user:x"])
        assert (result.exit_code, told in result.output) == (2, True), result.output
