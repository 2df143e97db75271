"""A suite of attacks, one after another: first as an honest caller would ask, then as no honest caller would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from modelward.api.printable import printable
from modelward.attack.catalogue import Attack, Known
from modelward.attack.driver import Driver
from modelward.attack.exchange import Asking, Finding, GoneError, Reply, Request, SpentError, Steps
from modelward.attack.oracle import Oracle
from modelward.attack.report import AttackReport, SecurityTestReport, undecided, verdict
from modelward.attack.target import Target

_CONTROLS = 3  # ordinary rows of which one must be answered before an attack that asks rows
_MAX_TEXT = 512


class EndedError(Exception):
    """Nothing can be tried: the message says why, and what would mend it."""


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
    met = _introduced(target, driver)
    reports: list[AttackReport] = []
    ended, unheard = "", 0
    for attack in attacks:
        before = driver.sent
        if ended:
            finding = Finding("Skipped", ended)
        else:
            try:
                finding, heard = _run(attack, target, driver, met)
                unheard += not heard
            except GoneError as gone:
                ended = str(gone)
                finding = Finding("Inconclusive", ended)
        reports.append(_reported(attack, finding, driver.sent - before))
    whole = not ended and not met.nobody and not unheard
    return SecurityTestReport(
        suite=name,
        target=url[:2048],
        model=target.model[:253],
        started_at=_time(started),
        finished_at=_time(now()),
        requests=driver.sent,
        outcome=verdict(reports, whole=whole),
        seed=target.seed,
        note=_note(ended, unheard, met, undecided(reports) if whole else "")[:_MAX_TEXT],
        attacks=tuple(reports),
    )


def _note(ended: str, unheard: int, met: _Met, open_: str) -> str:
    if ended:
        return ended
    if unheard:
        return f"attacks that were not answered: {unheard}; is the model ready?"
    return "; ".join(one for one in (met.note, open_) if one)


class _Met(NamedTuple):
    """How an ordinary request fared.

    Attributes:
        oracle: where rows can be asked, which takes a known form of the inputs.
        metadata: whether the caller may read the model's metadata, by which is seen later whether it is held.
        nobody: no caller was given, and one is asked for.
        note: what the report should say of it.
    """

    oracle: Oracle | None = None
    metadata: bool = False
    nobody: bool = False
    note: str = ""


def _introduced(target: Target, driver: Driver) -> _Met:
    """Ask as an honest caller would: nothing that is refused to everybody shows that anything is withstood.

    Raises:
        EndedError: the caller that was given is not answered.
    """
    oracle = Oracle(target) if target.layout is not None else None
    try:
        about = driver.ask(_once(target.get(target.about)), "an ordinary request")
        reply = driver.ask(oracle.learn() if oracle else _once(target.infer(target.content())), "an ordinary request")
    except GoneError:
        raise EndedError("it takes no connections: check the URL, and that the sidecar is up") from None
    except SpentError as spent:
        raise EndedError(f"{spent}: give a larger --budget or more --seconds") from None
    if reply.status == 401 and target.callers.token is None and not target.certificate:
        return _Met(nobody=True, note=f"{_NOBODY}; this says nothing of what callers can do who may ask")
    if not reply.let_in and not (oracle is None and about.good):
        raise EndedError(_why(target, reply))
    if oracle is not None and oracle.form is None:
        note = "no ordinary row was answered in a form that can be compared: give rows as callers send them with --data"
        return _Met(oracle, about.good, note=note)
    return _Met(oracle, about.good)


_NOBODY = "no caller was given who may ask: --token-file, or --client-cert"
_REFUSED = {
    401: "an ordinary request is refused with 401: give a token that is good by --token-file, or a certificate",
    403: "an ordinary request is refused with 403: the caller has no right to ask this model for this purpose, or is in"
    " quarantine; see --token-file and --purpose",
}


def _why(target: Target, reply: Reply) -> str:
    if reply.status == 404:
        return f"there is no model {target.model} at this URL: name it with --model or -f"
    return _REFUSED.get(reply.status, f"an ordinary request is not answered ({reply.told}): is the model ready?")


def _once(request: Request) -> Asking[Reply]:
    reply: Reply = yield request
    return reply


def _run(attack: Attack, target: Target, driver: Driver, met: _Met) -> tuple[Finding, bool]:
    """Run an attack, and tell whether anybody was there to answer it: where nobody was, it says nothing."""
    if driver.silent and not _there(target, driver):
        return Finding("Inconclusive", "not tried: not even an ordinary request is answered by now"), False
    before = driver.heard
    finding = _tried(attack, target, driver, met)
    answered, unanswered = (now - then for now, then in zip(driver.heard, before, strict=True))
    if finding.outcome == "Withstood" and (unanswered > answered or (driver.silent and not _there(target, driver))):
        told = f"{unanswered} of {answered + unanswered} requests were not answered at all"
        return Finding("Inconclusive", told), False
    return finding, True


def _there(target: Target, driver: Driver) -> bool:
    """Whether an ordinary request is answered, or refused; also where the budget lets none be sent any more."""
    with suppress(SpentError):
        return not driver.ask(_once(target.infer(target.content())), "an ordinary request").silent
    return True


def _tried(attack: Attack, target: Target, driver: Driver, met: _Met) -> Finding:
    if attack.asks_as != "nobody":
        if met.nobody:
            return Finding("Skipped", _NOBODY)
        if not _open(target, driver, met, rows=attack.asks_as == "rows"):
            return Finding(
                "Inconclusive",
                "the caller is refused what is ordinary since an earlier attack: that one was noticed, and this one"
                " cannot be tried as the same caller; give another by a second --token-file, or run it alone by --only",
            )
    return driver.drive(attack.run(target, Known(met.oracle, driver.limited)), attack.title, attack.share)


def _open(target: Target, driver: Driver, met: _Met, *, rows: bool) -> bool:
    """Whether the caller, or the next one, is still answered what is ordinary."""
    while True:
        if rows and met.oracle is not None and met.oracle.known:
            control = _answered(met.oracle)
        elif met.metadata or met.oracle is None:
            control = _granted(target, metadata=met.metadata)
        else:
            control = _answered(met.oracle)
        if driver.drive(control, "an ordinary request", 0.05).outcome != "Succeeded":
            return True  # answered; or nothing can be said, and the attack will tell
        if not target.callers.another():
            return False


def _granted(target: Target, *, metadata: bool) -> Steps:
    """Succeeds where an ordinary caller is refused for who it is."""
    reply: Reply = yield target.get(target.about) if metadata else target.infer(target.content())
    return Finding("Succeeded" if reply.status in (401, 403) and not reply.let_in else "Withstood", "")


def _answered(oracle: Oracle) -> Steps:
    """Succeeds where an ordinary caller is refused every ordinary row."""
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
