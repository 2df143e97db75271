"""Showing how far the work is: step i of n, the time it has taken, a guess of the time that is left."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self, TextIO


@dataclass(frozen=True)
class Step:
    """A piece of work and the seconds it takes from nothing on two cores."""

    title: str
    seconds: float
    run: Callable[[], object]


def run_steps(steps: Sequence[Step], out: TextIO = sys.stderr) -> None:
    """Run the steps in order; ``out`` shows them: a line that changes on a terminal, a line now and then elsewhere."""
    for number, step in enumerate(steps, 1):
        later = sum(other.seconds for other in steps[number:])
        with _Ticker(f"[{number}/{len(steps)}] {step.title}", step.seconds, later, out):
            step.run()


def clock(seconds: float) -> str:
    """Minutes and seconds, as ``m:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def left(expected: float, elapsed: float, later: float) -> str:
    """The guess of the time left, from the usual time of this step and of those to come."""
    guess = f"about {clock(max(expected - elapsed, 0) + later)} left in all"
    return guess if elapsed <= expected else f"{guess} (this step is slower than usual)"


class _Ticker:
    """Shows one step while it runs."""

    def __init__(self, title: str, expected: float, later: float, out: TextIO) -> None:
        self._title, self._expected, self._later, self._out = title, expected, later, out
        self._terminal = out.isatty()
        self._begun = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._show()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        outcome = "done in" if kind is None else "stopped after"
        self._write(f"{self._title}: {outcome} {clock(time.monotonic() - self._begun)}", end="\n")

    def _tick(self) -> None:
        while not self._ended.wait(1 if self._terminal else 30):
            self._show()

    def _show(self) -> None:
        elapsed = time.monotonic() - self._begun
        text = f"{self._title}: {clock(elapsed)}, {left(self._expected, elapsed, self._later)}"
        self._write(text, end="" if self._terminal else "\n")

    def _write(self, text: str, end: str) -> None:
        self._out.write(f"\r\x1b[K{text}{end}" if self._terminal else text + end)
        self._out.flush()
