"""A progress bar for what takes more than two seconds, where somebody looks at it."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress

_PATIENCE = 2.0  # seconds


class Bar:
    """On standard error, gone when it is done; nothing where that is no terminal, or nothing takes long."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._console = Console(stderr=True)
        self._progress: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, what: str, share: float) -> None:
        """Say what is being done, and the share of the whole that is done."""
        if not self._console.is_terminal or time.monotonic() - self._began < _PATIENCE:
            return
        if self._progress is None:
            self._progress = Progress(console=self._console, transient=True)
            self._progress.add_task(self._what, total=1.0)
            self._progress.start()
        task = self._progress.tasks[0].id
        self._progress.update(task, completed=share, description=f"{self._what}: {what}")
