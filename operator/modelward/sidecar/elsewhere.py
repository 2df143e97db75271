"""Labels of answers that another replica gave, until the controller has fetched them and passed them on.

At most 10,000 requests and 50,000 rows, some 3 MB, for at most ten minutes: without a controller nothing is kept.
"""

import time
from collections.abc import Callable, Iterable

from modelward.fairness.labels import MAX_KEPT, Told
from modelward.sidecar.awaited import LabelledError

MAX_ROWS = 50_000
SECONDS = 600.0
_PATIENCE = 120.0


class FullError(Exception):
    """There is no room until the controller has been here."""


class Elsewhere:
    """What is kept, by the request's id."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, str]] = {}
        self._rows = 0

    def keep(self, request: str, truths: str) -> None:
        """Keep the truths of a request.

        Raises:
            LabelledError: they are kept already.
            FullError: there is no room.
        """
        if request in self._kept:
            raise LabelledError
        if len(self._kept) >= MAX_KEPT or self._rows + len(truths) > MAX_ROWS:
            raise FullError
        self._kept[request] = self._clock(), truths
        self._rows += len(truths)

    def told(self) -> tuple[Told, ...]:
        """All of it, as the controller gets it."""
        return tuple(Told(request, truths) for request, (_, truths) in self._kept.items())

    def delivered(self, request: str) -> None:
        """The labels of a request have reached whose it is."""
        _, truths = self._kept.pop(request, (0.0, ""))
        self._rows -= len(truths)

    def give_up(self, requests: Iterable[str]) -> int:
        """Let go of requests that are nobody's; of how many labels are lost.

        Those of the last two minutes stay: a replica that is not ready for a moment is not asked.
        """
        past = self._clock() - _PATIENCE
        return self._drop([request for request in requests if self._kept.get(request, (past,))[0] < past])

    def expire(self) -> int:
        """Let go of what nobody has fetched; of how many requests labels are lost."""
        past = self._clock() - SECONDS
        return self._drop([request for request, (since, _) in self._kept.items() if since < past])

    def _drop(self, requests: list[str]) -> int:
        for request in requests:
            self.delivered(request)
        return len(requests)
