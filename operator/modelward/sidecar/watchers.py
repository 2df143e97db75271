"""Detectors that remember: each takes what it is made for of a request and its answer, and gives what it found.

What is found is told in words that hold no value: the test, whose it is, and the score (1.0 is the threshold).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from modelward.detect.answers import AnswerError, Output
from modelward.detect.baseline import Baseline
from modelward.detect.clients import Caller, Facts
from modelward.detect.drift import Drift
from modelward.detect.encoding import Array
from modelward.detect.extraction import Extraction
from modelward.detect.forms import Forms
from modelward.detect.membership import Membership
from modelward.detect.space import Space
from modelward.incidents import Drifted
from modelward.sidecar.config import Detector

_SUSPECT = 0.2  # of what a client alone is accused for: three strange queries one after another


class Found(NamedTuple):
    """What a detector found, in words. `accuses`: it is this client's doing, not its network's or everybody's alone."""

    reasons: tuple[str, ...]
    accuses: bool


class Watcher(Protocol):
    """A detector that remembers. It may raise anything: what that means is the policy's to say."""

    def before(self, facts: Facts, rows: Array) -> Found | None:
        """What is found of the encoded rows (n, d) of a request."""

    def after(self, facts: Facts, outputs: Sequence[Output], rows: int) -> Found | None:
        """What is found of the answer to so many rows."""

    def release(self, caller: Caller) -> None:
        """Forget what is held against a client."""


class _Base:
    def before(self, facts: Facts, rows: Array) -> Found | None:  # noqa: ARG002
        return None

    def after(self, facts: Facts, outputs: Sequence[Output], rows: int) -> Found | None:  # noqa: ARG002
        return None

    def release(self, caller: Caller) -> None:
        pass


class DriftWatcher(_Base):
    """Rows over time. It accuses no request: it is told of as a whole."""

    def __init__(self, asked: Detector, rate: float, baseline: Baseline) -> None:
        self._drift = Drift(baseline.summary, asked.window, rate, baseline.encoding.features)
        self._names = baseline.columns

    def before(self, facts: Facts, rows: Array) -> Found | None:  # noqa: ARG002
        """Take the rows in."""
        for row in rows:
            self._drift.add(row)
        return None

    def told(self, now: float) -> tuple[Drifted, ...]:
        """What has drifted, at the last look."""
        return tuple(
            Drifted("" if shift.column is None else self._names[shift.column], shift.test, round(shift.score, 3))
            for shift in self._drift.verdict(now).shifts
        )

    def scores(self) -> list[tuple[str, str, float]]:
        """Each test's feature, name and score at the last look, the greatest first."""
        shifts = sorted(self._drift.scores(), key=lambda shift: -shift.score)
        return [("" if each.column is None else self._names[each.column], each.test, each.score) for each in shifts]


class ExtractionWatcher(_Base):
    """Clients that copy the model.

    What a network or an issuer has asked joins the identities that an attacker splits, and the innocent with them, one
    in ten of whose rows is strange as well. So it accuses those alone whose own queries go the same way.
    """

    def __init__(self, asked: Detector, rate: float, space: Space) -> None:
        budget = float("inf") if asked.coverage is None else asked.coverage
        self._extraction = Extraction(space, rate, budget)

    def before(self, facts: Facts, rows: Array) -> Found | None:
        """What the rows show of whoever sends them."""
        found = self._extraction.add(facts.caller, rows, facts.now)
        if not found:
            return None
        own = any(each.scope == "client" for each in found)
        accuses = own or self._extraction.standing(facts.caller) >= _SUSPECT
        return Found(tuple(f"{each.test} queries by {each.scope}: {each.score:.2f}" for each in found), accuses)

    def release(self, caller: Caller) -> None:
        """Forget what a client has asked."""
        self._extraction.release(caller)


class MembershipWatcher(_Base):
    """Clients that ask around one row."""

    def __init__(self, rate: float, space: Space) -> None:
        self._membership = Membership(space, rate)

    def before(self, facts: Facts, rows: Array) -> Found | None:
        """Whether the rows are around one that was asked already."""
        found = self._membership.add(facts.caller, rows, facts.now)
        if found is None:
            return None
        return Found((f"{found.queries} queries around one row: {found.score:.2f}",), accuses=True)

    def release(self, caller: Caller) -> None:
        """Forget what a client has asked."""
        self._membership.release(caller)


class OutputWatcher(_Base):
    """Answers that are not as usual, in whichever form they come; one in a form that is not learnt yet is told of."""

    def __init__(self, rate: float) -> None:
        self.forms = Forms(rate)

    def after(self, facts: Facts, outputs: Sequence[Output], rows: int) -> Found | None:
        """What is odd about the answers to `rows` rows."""
        if rows < 1:
            raise AnswerError("the model's answer has no rows")
        findings = self.forms.add(facts.caller, outputs, rows, tests=facts.tests)
        if findings is None:
            return Found(("an answer in a form that is not learnt yet",), accuses=False)
        found = {(each.test, each.scope): each.score for each in findings}
        if not found:
            return None
        reasons = tuple(f"{test} of answers, {scope}: {score:.2f}" for (test, scope), score in found.items())
        return Found(reasons, accuses=any(scope == "client" for _, scope in found))
