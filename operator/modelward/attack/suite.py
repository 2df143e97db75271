"""A suite of attacks, driven: each within its share of the budget, all within the whole of it.

Nothing here opens a socket or looks at the time by itself: it is given what sends, what tells the time and what waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np

from modelward.api.printable import printable
from modelward.attack.catalogue import Attack, Known
from modelward.attack.exchange import Asking, Finding, GoneError, Reply, Request, SpentError, Steps
from modelward.attack.oracle import Oracle
from modelward.attack.report import AttackReport, SecurityTestReport, verdict
from modelward.attack.target import Target

Send = Callable[[Request], Reply]
_T = TypeVar("_T")
_UNREACHABLE = 3  # connections refused in a row after which the endpoint is gone
_CONTROLS = 3  # ordinary rows of which one must be answered before an attack that asks rows
_MAX_TEXT = 512


@dataclass(frozen=True)
class Budget:
    """What a suite may use: requests in all, seconds in all, requests a second."""

    requests: int = 2000
    seconds: float = 300.0
    per_second: float = 50.0


class EndedError(Exception):
    """Nothing can be tried: the message says why, and what would mend it."""


@dataclass
class Driver:
    """Sends what attacks yield, at a bounded rate, and waits out refusals for the rate (429).

    `sent`, `limited`: how many requests were sent in all, and how many of them were refused with 429.
    """

    send: Send
    budget: Budget
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    tell: Callable[[str, float], None] = lambda _what, _share: None
    sent: int = 0
    limited: int = 0
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
        self._refused = self._refused + 1 if reply.trouble == "refused" else 0
        if self._refused >= _UNREACHABLE:
            raise GoneError("the endpoint takes no connections any more")


def _seconds(after: str) -> float:
    return float(min(int(after), 3600)) + 0.05 if after.isdigit() and len(after) < 6 else 1.0


def run_suite(
    name: str,
    attacks: Sequence[Attack],
    target: Target,
    driver: Driver,
    url: str,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> SecurityTestReport:
    """Run attacks one after another.

    Args:
        name: of the suite.
        attacks: in their order.
        target: what is attacked.
        driver: sends.
        url: of the endpoint, for the report.
        now: the time of day.

    Raises:
        EndedError: not even an ordinary request can be sent, or nobody who may ask was given.
    """
    started = now()
    oracle, note = _introduced(target, driver)
    reports: list[AttackReport] = []
    ended = ""
    for attack in attacks:
        before = driver.sent
        if ended:
            finding = Finding("Skipped", ended)
        else:
            try:
                finding = _run(attack, target, driver, oracle)
            except GoneError as gone:
                ended = str(gone)
                finding = Finding("Inconclusive", ended)
        reports.append(_reported(attack, finding, driver.sent - before))
    return SecurityTestReport(
        suite=name,
        target=url[:2048],
        model=target.model[:253],
        started_at=_time(started),
        finished_at=_time(now()),
        requests=driver.sent,
        outcome=verdict(reports, whole=not ended),
        seed=target.seed,
        note=(ended or note)[:_MAX_TEXT],
        attacks=tuple(reports),
    )


def _introduced(target: Target, driver: Driver) -> tuple[Oracle | None, str]:
    """Ask as an honest caller would: nothing that is refused to everybody shows that anything is withstood."""
    oracle = Oracle(target) if target.layout is not None else None
    try:
        reply = driver.ask(oracle.learn() if oracle else _about(target), "an ordinary request")
    except GoneError:
        raise EndedError("it takes no connections: check the URL, and that the sidecar is up") from None
    except SpentError as spent:
        raise EndedError(f"{spent}: give a larger --budget or more --seconds") from None
    if reply.status == 401:
        raise EndedError(
            "an ordinary request is refused with 401: give a token that is good by --token-file, or a certificate"
        )
    if reply.status == 403 and not reply.let_in:
        raise EndedError(
            "an ordinary request is refused with 403: the caller has no right to ask this model for this purpose, or is"
            " in quarantine; see --token-file and --purpose"
        )
    if reply.status == 404:
        raise EndedError(f"there is no model {target.model} at this URL: name it with --model or -f")
    if not reply.let_in:
        raise EndedError(f"an ordinary request is not answered ({reply.told}): is the model ready?")
    if oracle is not None and oracle.form is None:
        why = "no ordinary row was answered in a form that can be compared"
        return None, f"attacks that ask rows were not tried: {why}; give rows as callers send them with --data"
    return oracle, ""


def _about(target: Target) -> Asking[Reply]:
    reply: Reply = yield target.get(target.about)
    return reply


def _run(attack: Attack, target: Target, driver: Driver, oracle: Oracle | None) -> Finding:
    if attack.asks_rows and oracle is not None and not _open(target, driver, oracle):
        return Finding(
            "Inconclusive",
            "the caller is refused ordinary rows since an earlier attack: that one was noticed, and this one cannot be"
            " tried as the same caller; give another by a second --token-file, or run it alone with --only",
        )
    return driver.drive(attack.run(target, Known(oracle, driver.limited)), attack.title, attack.share)


def _open(target: Target, driver: Driver, oracle: Oracle) -> bool:
    """Whether the caller, or the next one, is still answered ordinary rows."""
    while True:
        finding = driver.drive(_control(oracle), "an ordinary request", 0.05)
        if finding.outcome != "Succeeded":
            return True  # answered; or nothing can be said, and the attack will tell
        if not target.callers.another():
            return False


def _control(oracle: Oracle) -> Steps:
    """Succeeds where an ordinary caller is refused everything."""
    known = list(oracle.known)[:_CONTROLS]
    for key in known:
        row = np.frombuffer(key, dtype=np.float64)
        answer = yield from oracle.ask(row, anew=True)
        if answer.given:
            return Finding("Withstood", "")
    return Finding("Succeeded" if known else "Inconclusive", "")


def _reported(attack: Attack, finding: Finding, requests: int) -> AttackReport:
    return AttackReport(
        id=attack.id,
        title=attack.title,
        tries=attack.tries,
        outcome=finding.outcome,
        severity=attack.severity,
        measure=finding.measure,
        threshold=finding.threshold,
        requests=requests,
        evidence=printable(finding.evidence)[:_MAX_TEXT],
        fix=attack.fix if finding.outcome == "Succeeded" else "",
        frameworks=attack.frameworks,
    )


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
