"""The live view of `run`: figures, outcomes, detectors and refusals; and where the access log goes meanwhile."""

from __future__ import annotations

import io
import os
import pty
import select
from typing import Any

from rich.console import Console

from modelward.cli import run
from modelward.cli.live import MAX_REFUSALS, MAX_SEEN_PAIRS, WINDOW_SECONDS, Tally, render
from modelward.sidecar.record import Record


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(**fields: Any) -> Record:
    return Record(**({"time": "2026-05-01T10:11:12.345Z", "request": "r", "status": 200} | fields))


def shown(tally: Tally) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(render(tally.snapshot(), "wdbc"))
    return out.getvalue()


def test_figures_are_of_the_last_seconds() -> None:
    clock = Clock()
    tally = Tally(clock)
    for number in range(1, 101):
        tally.add(record(upstream_us=number * 1000, overhead_us=100))
    clock.now += 5
    snapshot = tally.snapshot()
    assert snapshot.rate == 20
    assert (snapshot.p50, snapshot.p99, snapshot.added_p99) == (51_100, 100_100, 100)
    clock.now += WINDOW_SECONDS
    assert tally.snapshot()[:4] == (0, 0, 0, 0)
    assert tally.snapshot().outcomes == {"answered": 100}


def test_the_view_tells_outcomes_detectors_and_the_last_refusals() -> None:
    tally = Tally(Clock())
    tally.add(record(upstream_us=1500, overhead_us=100))
    tally.add(record(status=499))
    tally.add(record(status=401, reason="token-expired"))
    tally.add(record(status=403, reason="anomalous", verdict="anomalous", subject="user:alice"))
    text = shown(tally)
    assert "wdbc" in text
    assert "answered 1" in text
    assert "abandoned 1" in text
    assert "anomalous 1" in text
    lines = [line.split() for line in text.splitlines() if line.startswith("10:11:12")]
    assert lines == [["10:11:12", "403", "anomalous", "user:alice"], ["10:11:12", "401", "token-expired", "unknown"]]


def test_the_view_tells_the_last_anomalies_by_detector_and_caller() -> None:
    tally = Tally(Clock())
    found = {"verdict": "anomalous", "reason": "anomalous-input", "status": 403, "subject": "user:alice"}
    for score in (1.25, 3.5):
        tally.add(record(detector="Ensemble", scores={"Ensemble": score}, **found))
    tally.add(record(detector="Extraction", verdict="anomalous", subject="user:mallory", request="r-9"))
    text = shown(tally)
    lines = [line.split() for line in text.splitlines() if "anomalous " in line and line.startswith("10:11:12")]
    assert lines == [
        ["10:11:12", "Extraction", "anomalous", "1", "user:mallory", "r-9"],
        ["10:11:12", "Ensemble", "anomalous", "2", "3.50", "user:alice", "r"],
    ]
    for number in range(2000):
        tally.add(record(detector="Ensemble", verdict="anomalous", subject=f"user:{number}"))
    assert len(tally._anomalies) == MAX_SEEN_PAIRS


def test_before_the_first_request_there_is_a_view_too() -> None:
    text = shown(Tally(Clock()))
    assert "none yet" in text
    assert "nothing found" in text
    assert "last refusals" not in text


def test_it_is_bounded_and_what_callers_send_is_no_markup() -> None:
    tally = Tally(Clock())
    for number in range(100):
        tally.add(record(status=403, reason="forbidden", subject=f"user:[bold]{number}" + "x" * 500))
    lines = [line for line in shown(tally).splitlines() if "forbidden" in line and "outcomes" not in line]
    assert len(lines) == MAX_REFUSALS
    assert "[bold]99" in lines[0]
    assert all(len(line) < 120 for line in lines)


def test_without_a_terminal_there_is_no_view_and_the_log_is_on_standard_output() -> None:
    with run._view("m") as watcher, run._access_log(None) as descriptor:
        assert watcher is None
        assert descriptor == 1


def test_the_log_goes_to_the_file_that_nobody_else_may_read(tmp_path) -> None:
    path = tmp_path / "access.log"
    for line in (b"1\n", b"2\n"):
        with run._access_log(path) as descriptor:
            os.write(descriptor, line)
    assert path.read_bytes() == b"1\n2\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_terminal_that_shows_the_view_gets_no_log(monkeypatch, capsys) -> None:
    primary, secondary = pty.openpty()
    with os.fdopen(secondary, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr("sys.stderr", terminal)
        with run._access_log(None) as descriptor:
            assert descriptor != 1
        with run._view("m") as watcher:
            watcher(record(status=401, reason="token-expired"))
        terminal.flush()
        text = ""
        while select.select([primary], [], [], 0.5)[0]:  # it comes in pieces
            text += os.read(primary, 65536).decode()
    os.close(primary)
    assert "--log FILE" in text
    assert "token-expired" in text
