"""What the demo puts on the terminal: numbered steps, commands as typed, output as given, waits that show they live."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from demo.kubectl import Output, Tick

QUIET_SECONDS = 2
"""A wait shorter than this is not worth a line."""
PLAIN_EVERY = 10
"""Seconds between two lines of a wait, where the output is no terminal."""


class Screen:
    """Prints the demo."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._step = 0

    def step(self, title: str, shows: str) -> None:
        """Begin a numbered step and say what it shows."""
        self._step += 1
        self.console.print()
        self.console.print(Rule(Text(f"{self._step}. {title}", style="bold cyan"), align="left", style="cyan"))
        self.console.print(Text(shows, style="italic"))

    def command(self, line: str) -> None:
        """Show a command as it is typed."""
        self.console.print(Text.assemble(("$ ", "bold green"), (line, "bold")), soft_wrap=True)

    def output(self, text: str, *, keep: int = 60) -> None:
        """Show what a command said; of something longer, the first `keep` lines."""
        lines = text.rstrip().splitlines()
        shown = [*lines[:keep], f"… {len(lines) - keep} more lines"] if len(lines) > keep else lines
        for line in shown:
            self.console.print(Text(f"  {line}"), soft_wrap=True)

    def ran(self, output: Output, typed: Mapping[str, str] | None = None) -> None:
        """Show a command and what it said; `typed` has what a person would type for parts of the command."""
        line = output.command
        for part, short in (typed or {}).items():
            line = line.replace(part, short)
        self.command(line)
        self.output(output.text)

    def good(self, text: str) -> None:
        """Say that something came out as told."""
        self.console.print(Text.assemble(("✔ ", "bold green"), text), soft_wrap=True)

    def note(self, text: str) -> None:
        """Say something by the way."""
        self.console.print(Text(text, style="dim"), soft_wrap=True)

    def failure(self, text: str) -> None:
        """Say that something did not come out as told, and why."""
        self.console.print()
        self.console.print(Panel(Text(text), title="This is not as it should be", border_style="red"))

    def panel(self, title: str, text: str) -> None:
        """Show a closing text in a frame."""
        self.console.print()
        self.console.print(Panel(Text(text), title=title, border_style="green", expand=False))

    @contextmanager
    def waiting(self, what: str) -> Iterator[Tick]:
        """Show that something is waited for, and how long: a spinner on a terminal, a line now and then elsewhere."""
        begun = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"{what} …") as status:
                yield lambda seconds: status.update(f"{what} … {seconds:.0f} s")
        else:
            yield self._line_now_and_then(what)
        elapsed = time.monotonic() - begun
        if elapsed >= QUIET_SECONDS:
            self.note(f"{what}: {elapsed:.0f} s")

    def _line_now_and_then(self, what: str) -> Tick:
        told = 0.0

        def tick(seconds: float) -> None:
            nonlocal told
            if seconds - told >= (QUIET_SECONDS if told == 0 else PLAIN_EVERY):
                told = seconds
                self.note(f"{what} … {seconds:.0f} s")

        return tick
