"""Drives attacks: sends what they yield, within their share of a budget and at a bounded rate.

Nothing here opens a socket or looks at the time by itself: it is given what sends, what tells the time and what waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from modelward.attack.exchange import Asking, Finding, GoneError, Reply, Request, SpentError, Steps

Send = Callable[[Request], Reply]
_T = TypeVar("_T")
_UNREACHABLE = 3  # connections refused in a row after which the endpoint is gone


@dataclass(frozen=True)
class Budget:
    """What a suite may use: requests in all, seconds in all, requests a second."""

    requests: int = 2000
    seconds: float = 300.0
    per_second: float = 50.0


@dataclass
class Driver:
    """Sends what attacks yield, at a bounded rate, and waits out refusals for the rate (429).

    `sent`, `limited`: how many requests were sent in all, and how many of them were refused with 429. `heard`: of those
    to the endpoint itself, how many were answered, and how many were not for want of anybody there.
    """

    send: Send
    budget: Budget
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str, float], None] = lambda _what, _share: None
    sent: int = 0
    limited: int = 0
    heard: tuple[int, int] = (0, 0)
    silent: bool = False  # the last one was not answered
    _began: float = field(default=0.0, init=False)
    _next: float = field(default=0.0, init=False)
    _refused: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._began = self._next = self.clock()

    @property
    def share(self) -> float:
        """Of the budget that is used."""
        return min(1.0, max(self.sent / self.budget.requests, (self.clock() - self._began) / self.budget.seconds))

    def drive(self, steps: Steps, what: str, share: float) -> Finding:
        """Run an attack to its end, with a share of the whole budget at the most."""
        requests = min(self.sent + max(round(share * self.budget.requests), 1), self.budget.requests)
        until = min(self.clock() + share * self.budget.seconds, self._began + self.budget.seconds)
        try:
            return self._asked(steps, what, requests, until)
        except SpentError as spent:
            return Finding("Inconclusive", str(spent))

    def ask(self, steps: Asking[Reply], what: str) -> Reply:
        """Run what returns an answer."""
        return self._asked(steps, what, self.budget.requests, self._began + self.budget.seconds)

    def _asked(self, steps: Asking[_T], what: str, requests: int, until: float) -> _T:
        try:
            request = next(steps)
            while True:
                self.tell(what, self.share)
                try:
                    reply = self._exchange(request, requests, until)
                except SpentError as spent:
                    request = steps.throw(spent)
                else:
                    request = steps.send(reply)
        except StopIteration as done:
            value: _T = done.value
            return value

    def _exchange(self, request: Request, requests: int, until: float) -> Reply:
        while True:
            if self.sent >= requests:
                raise SpentError("its share of the requests is used up")
            self._pace(until)
            self.sent += 1
            reply = self.send(request)
            if reply.stale:  # which is a request as any other: it may have been read
                continue
            self._look(request, reply)
            if reply.status != 429:
                return reply
            self.limited += 1
            if not request.patient:
                return reply
            wait = _seconds(reply.headers.get("retry-after", ""))
            if self.clock() + wait >= until:
                raise SpentError("the rate limit lets no more through in the time that it has")
            self.sleep(wait)

    def _pace(self, until: float) -> None:
        now = self.clock()
        if now >= until:
            raise SpentError("its share of the time is used up")
        if self._next > now:
            self.sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self.budget.per_second

    def _look(self, request: Request, reply: Reply) -> None:
        if request.channel not in ("endpoint", "no-certificate"):
            return
        if request.raw is None:  # what waits for the rest of a request whose end is ambiguous is there
            answered, unanswered = self.heard
            self.silent = reply.silent
            self.heard = (answered, unanswered + 1) if self.silent else (answered + 1, unanswered)
        self._refused = self._refused + 1 if reply.trouble == "refused" else 0
        if self._refused >= _UNREACHABLE:
            raise GoneError("the endpoint takes no connections any more")


def _seconds(after: str) -> float:
    return float(min(int(after), 3600)) + 0.05 if after.isascii() and after.isdigit() and len(after) < 6 else 1.0
