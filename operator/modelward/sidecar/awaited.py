"""Answers whose truth may still be told: which groups their rows are of and what the outcome was, by request id.

Kept for 3.5 to 7 days and for the last 50,000 to 100,000 rows, whichever is less: in two generations, of which the
older is let go when the younger is full or half as old as may be, so that forgetting costs nothing. A request of one
row takes some 120 bytes, so that 100,000 take 12 MB; requests of many rows take a byte a row and attribute.
"""

import time
from collections.abc import Callable

MAX_ROWS = 100_000
SECONDS = 7 * 86_400
_LABELLED = b""


class UnknownError(Exception):
    """No answer is remembered under this number: it is none, or it is forgotten."""


class LabelledError(Exception):
    """Its truth was told already."""


class Awaited:
    """What is remembered, by the number of the request; `rows` are at most `max_rows`."""

    def __init__(
        self, clock: Callable[[], float] = time.time, max_rows: int = MAX_ROWS, seconds: float = SECONDS
    ) -> None:
        self._clock = clock
        self._max_rows = max_rows
        self._seconds = seconds
        self._young: dict[int, bytes] = {}
        self._old: dict[int, bytes] = {}
        self._young_rows = 0
        self._born = clock()

    def keep(self, number: int, rows: int, codes: bytes) -> None:
        """Remember the `codes` of a request's rows."""
        self._age()
        self._young[number] = codes
        self._young_rows += rows
        if 2 * self._young_rows >= self._max_rows:
            self._turn()

    def look(self, number: int | None) -> bytes:
        """The codes of a request.

        Raises:
            UnknownError: there are none.
            LabelledError: they were taken before.
        """
        self._age()
        codes = None if number is None else self._young.get(number, self._old.get(number))
        if codes is None:
            raise UnknownError
        if codes == _LABELLED:
            raise LabelledError
        return codes

    def done(self, number: int) -> None:
        """The truth of a request was told."""
        (self._young if number in self._young else self._old)[number] = _LABELLED

    def _age(self) -> None:
        behind = self._clock() - self._born
        if behind > self._seconds / 2:
            self._turn()
            if behind > self._seconds:
                self._turn()

    def _turn(self) -> None:
        self._young, self._old = {}, self._young
        self._young_rows, self._born = 0, self._clock()
